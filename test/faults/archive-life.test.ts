import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { Random } from "../support/fill.ts";
import { freePort } from "../support/ports.ts";
import { hasRadosgw, startRadosgw } from "../support/radosgw.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import type { S3Server } from "../support/s3-server.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { amount, IS_FULL, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { PATIENCE_MS, until } from "../support/wait.ts";
import { SeededLoad } from "./seeded-load.ts";

/** How long the primary is under load: `ARCHIVE_LIFE_SECONDS=180 bun test test/faults/archive-life.test.ts`. */
const SECONDS = amount("ARCHIVE_LIFE_SECONDS", { sample: 4, full: 8 });
/** How many moments are restored. */
const MOMENTS = amount("ARCHIVE_LIFE_MOMENTS", { sample: 2, full: 4 });
const SEED = seedOf("ARCHIVE_LIFE_SEED");
const KIND = "valkey-9";

setDefaultTimeout(3 * PATIENCE_MS + (SECONDS + 10 * MOMENTS) * 2_000);

/** Where an archive is, and what `follow` and the readers need for it besides. */
interface Place {
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  readonly writing: readonly string[];
  readonly reading: readonly string[];
}

const dir = tempDir("archive-life");
let bucket: FaultS3;
let ceph: S3Server | undefined;

beforeAll(async () => {
  bucket = await FaultS3.start();
  if (IS_FULL && hasRadosgw) ceph = await startRadosgw();
});
afterAll(async () => {
  await bucket.stop();
  await ceph?.[Symbol.asyncDispose]();
  dir.remove();
});

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  "a folder": async () => ({
    url: `file://${dir.file("archive")}`,
    env: {},
    // The most marks there are.
    writing: ["--fsync", "always"],
    reading: [],
  }),
  "a bucket, encrypted": async () =>
    await encrypted({
      url: `s3://${bucket.bucket}/life`,
      env: { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY },
      writing: ["--archive-endpoint", bucket.endpoint, "--ack", "archived"],
      reading: ["--archive-endpoint", bucket.endpoint],
    }),
  "a bucket of Ceph": async () => await onCeph("plain"),
  "a bucket of Ceph, encrypted": async () => await encrypted(await onCeph("encrypted")),
};

async function onCeph(name: string): Promise<Place> {
  const { endpoint, environment } = ceph!;
  await ceph!.createBucket(name);
  const at = ["--archive-endpoint", endpoint];
  return { url: `s3://${name}/life`, env: environment, writing: at, reading: at };
}

async function encrypted(place: Place): Promise<Place> {
  const key = await generateX25519Identity();
  const identity = dir.file("identity.txt");
  writeFileSync(identity, `${key}\n`);
  return {
    ...place,
    writing: [...place.writing, "--archive-recipient", await identityToRecipient(key)],
    reading: [...place.reading, "--archive-identity", identity],
  };
}

/** A generation as `snapshots --json` lists it. */
interface Listed {
  readonly from_offset: number;
  readonly to_offset: number;
  readonly from_time: string;
  readonly to_time: string;
}

async function listed(source: string, { env, reading }: Place): Promise<Listed[]> {
  const { stdout } = await runReplica(["snapshots", source, "--json", ...reading], { env });
  return stdout === "" ? [] : (JSON.parse(stdout) as { generations: Listed[] }).generations;
}

interface Then {
  readonly offset: number;
  /** The time of the mark that it ends at, ISO 8601. */
  readonly time: string;
  /** What a stock server has of it. */
  readonly digest: string;
}

/** Restores a moment or an offset. */
async function restored(source: string, options: readonly string[], place: Place): Promise<Then> {
  using target = tempDir("archive-life-target");
  const args = ["restore", source, target.file("target"), "--json", ...options, ...place.reading];
  const { exitCode, stdout, stderr } = await runReplica(args, { env: place.env });
  expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
  const { offset, time } = JSON.parse(stdout) as { offset: number; time: string };
  await using server = await bootCopy(KIND, target.file("target", APPEND_DIR));
  return { offset, time, digest: await server.digest() };
}

const names = Object.keys(PLACES).filter((name) => hasRadosgw || !name.includes("Ceph"));
test.each(IS_FULL ? names : names.slice(0, 1))(
  "%s restores any moment as the data directory does, over snapshots, a failover and a kill",
  async (name) => {
    const place = await PLACES[name]!();
    const random = new Random(SEED);
    const data = dir.file(`data ${name}`);
    // A PING that comes last would be in the directory, and not in the archive yet.
    const args = ["--repl-backlog-size", "256mb", "--repl-ping-replica-period", "3600"];
    await using first = await startServer(KIND, { args });
    await using second = await startServer(KIND, { args });
    await first.send("DEBUG", "POPULATE", 2_000, "key", 500);
    await second.send("REPLICAOF", first.host, first.port);
    const port = freePort();
    const archived = ["--archive", place.url, "--archive-every", "1s", ...place.writing];
    const follow = (primary: RealServer) =>
      startReplica(["follow", primary.url(), "--dir", data, "--port", String(port), ...archived], {
        env: place.env,
      });
    // An archive tells generations of the same second apart, but not which came first.
    const fifth = () => Bun.sleep(Math.max(1_100, (SECONDS * 1_000) / 5));
    {
      await using replica = follow(first);
      await using firstLoad = await SeededLoad.start(first, SEED);
      await replica.waitForLine(/connected by full resync/);
      await fifth();
      replica.signal("SIGUSR1");
      await replica.waitForLine(/replaces generation 1/);
      await fifth();
      await firstLoad.stop();
      await first.acknowledgedBy(2);
      await second.send("REPLICAOF", "NO", "ONE");
      await first.kill9();
      await using secondLoad = await SeededLoad.start(second, SEED + 1);
      await using client = await RespClient.connect({ port });
      await client.send("REPLICAOF", second.host, second.port);
      await second.acknowledgedBy(1);
      expect(Number((await second.info("stats"))["sync_partial_ok"])).toBe(1);
      await fifth();
      replica.signal("SIGUSR1");
      await replica.waitForLine(/replaces generation 2/);
      await fifth();
      await replica.kill9();
      await secondLoad.stop();
    }
    {
      await using load = await SeededLoad.start(second, SEED + 2);
      await using again = follow(second);
      await again.waitForLine(/connected by partial resync/);
      await fifth();
      await load.stop();
      await second.acknowledgedBy(1);
      const end = await second.offset();
      const isWhole = async () => ((await listed(place.url, place)).at(-1)?.to_offset ?? 0) >= end;
      await until(isWhole, { what: "all of it in the archive", everyMs: 100 });
      expect((await again.stop()).exitCode).toBe(0);
    }
    const aside = dir.file(`aside ${name}`);
    cpSync(data, aside, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    rmSync(data, { recursive: true });
    const [here, there] = [await listed(aside, place), await listed(place.url, place)];
    const window = ({ from_offset, to_offset, from_time, to_time }: Listed) =>
      [from_offset, to_offset, from_time, to_time] as const;
    expect(here.length).toBe(3);
    expect(there.map(window)).toEqual(here.map(window));
    const [fromMs, toMs] = [Date.parse(here[0]!.from_time), Date.parse(here.at(-1)!.to_time)];
    const digests = new Set<string>();
    for (let left = MOMENTS; left > 0; left--) {
      const at = new Date(fromMs + random.below(toMs - fromMs)).toISOString();
      const there = await restored(place.url, ["--at", at], place);
      const here = await restored(aside, ["--at", at], place);
      digests.add(there.digest);
      expect([at, there]).toEqual([at, here]);
    }
    expect(digests.size).toBeGreaterThan(MOMENTS / 3);
    const last = await restored(place.url, ["--at", here.at(-1)!.to_time], place);
    expect(last.digest).toBe(await second.digest());
    const checked = await runReplica(["verify", place.url, ...place.reading], { env: place.env });
    expect([checked.exitCode, checked.stdout]).toEqual([0, expect.stringContaining("no damage")]);
  },
);
