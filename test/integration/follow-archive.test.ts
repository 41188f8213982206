import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { rdbOf } from "../store/rdb.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { bootCopy, type RealServer, serverVersion, startServer } from "../support/servers.ts";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const dir = tempDir("follow-archive");
const KIND = "valkey-9";
const credentials = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
let primary: RealServer;
let bucket: FaultS3;
let places = 0;

beforeAll(async () => {
  primary = await startServer(KIND);
  bucket = await FaultS3.start();
  await primary.cli("DEBUG", "POPULATE", "2000", "key", "200");
});
afterAll(async () => {
  await primary.stop();
  await bucket.stop();
  dir.remove();
});

/** A data directory, and an archive in a folder. */
function place() {
  const n = places++;
  return { data: dir.file(`data-${n}`), folder: dir.file(`archive-${n}`) };
}

const every = ["--port", "0", "--archive-every", "1s"];

function follow(data: string, archive: string, ...more: string[]): ReplicaProcess {
  return startReplica([primary.url(), "--dir", data, "--archive", archive, ...every, ...more], {
    env: credentials,
  });
}

async function write(from: number, to: number): Promise<void> {
  const numbers = Array.from({ length: to - from }, (_, n) => from + n);
  await primary.sendAll(numbers.map((n) => ["SET", `n:${n}`, `value ${n}`]));
}

/** Restores from an archive alone, and returns the digest that a stock server has of it. */
async function digestOf(archive: string, ...options: string[]): Promise<string> {
  const target = dir.file(`target-${places++}`);
  const done = await runReplica(["restore", archive, target, ...options], { env: credentials });
  expect([done.exitCode, done.stderr]).toEqual([0, expect.any(String)]);
  await using server = await bootCopy(KIND, `${target}/${APPEND_DIR}`);
  return await server.digest();
}

/** Up to where an archive can be restored. */
async function endOf(archive: string, ...options: string[]): Promise<number> {
  const { stdout } = await runReplica(["snapshots", archive, "--json", ...options], {
    env: credentials,
  });
  if (stdout === "") return -1;
  const { generations } = JSON.parse(stdout) as { generations: { to_offset: number }[] };
  return generations.at(-1)?.to_offset ?? -1;
}

/** Waits until the archive holds what the primary has, and restores it to the same. */
async function expectSame(archive: string, ...options: string[]): Promise<void> {
  const end = await primary.offset();
  await until(async () => (await endOf(archive, ...options)) >= end, {
    what: `offset ${end} in the archive`,
  });
  expect(await digestOf(archive, ...options)).toBe(await primary.digest());
}

/** The replica as the primary sees it is up to date. */
const followed = (replica: ReplicaProcess) =>
  replica.waitForLine(/following .* by|in sync|full resync/i);

describe("follow --archive", () => {
  test("a folder holds all that was written, over a renewal and a kill", async () => {
    const { data, folder } = place();
    const archive = `file://${folder}`;
    {
      await using replica = follow(data, archive);
      await followed(replica);
      await write(0, 500);
      await expectSame(archive);
      replica.signal("SIGUSR1");
      await until(() => fs.readdirSync(`${folder}/generations`).length === 2, {
        what: "a second generation in the archive",
      });
      await write(500, 1_000);
      await expectSame(archive);
      await replica.kill9();
    }
    await write(1_000, 1_500);
    {
      await using again = follow(data, archive);
      await expectSame(archive);
      const { exitCode } = await again.stop();
      expect(exitCode).toBe(0);
    }
    const listed = await runReplica(["snapshots", archive, "--json"]);
    const { generations } = JSON.parse(listed.stdout) as { generations: object[] };
    const version = `valkey ${serverVersion(KIND)}`;
    expect(generations).toMatchObject([{ primary_version: version }, { primary_version: version }]);
    const checked = await runReplica(["verify", archive]);
    expect([checked.exitCode, checked.stdout]).toEqual([0, expect.stringContaining("no damage")]);
    fs.rmSync(data, { recursive: true });
    expect(await digestOf(archive)).toBe(await primary.digest());
  });

  test("a bucket, encrypted: nothing of it is plain, and the identity reads it back", async () => {
    const { data } = place();
    const key = await generateX25519Identity();
    const identity = dir.file("identity.txt");
    fs.writeFileSync(identity, `${key}\n`);
    const archive = `s3://${bucket.bucket}/encrypted`;
    const at = ["--archive-endpoint", bucket.endpoint];
    const recipient = ["--archive-recipient", await identityToRecipient(key)];
    await using replica = follow(data, archive, ...at, ...recipient);
    await followed(replica);
    await primary.send("SET", "known", "plain text that is looked for");
    await expectSame(archive, ...at, "--archive-identity", identity);
    const kept = [...bucket.objects].filter(([name]) => name.includes("encrypted/"));
    expect(kept.length).toBeGreaterThan(3);
    for (const [, { bytes }] of kept) expect(bytes.includes("plain text")).toBeFalse();
  });

  test("a bucket that refuses all holds up neither the stream nor its ACKs, and gets all of it later", async () => {
    const { data } = place();
    const archive = `s3://${bucket.bucket}/away`;
    const at = ["--archive-endpoint", bucket.endpoint];
    const effect = { kind: "error", status: 503, code: "SlowDown" } as const;
    bucket.fail({ within: "away/", times: Infinity, effect });
    const more = [...at, "--ack", "durable", "--no-archive-bootstrap"];
    await using replica = follow(data, archive, ...more);
    await followed(replica);
    await write(2_000, 4_000);
    expect(await primary.send("WAIT", 1, 30_000)).toBe(1);
    await replica.waitForLine(/away/);
    bucket.heal();
    await expectSame(archive, ...at);
    expect(replica.stderr.match(/SlowDown/g)).toHaveLength(1);
  });
});

test("a base is sent while it comes in, and counts once it is whole", async () => {
  const { data, folder } = place();
  const payload = bulkPayload(rdbOf(40 * 1024 * 1024));
  const rest = Promise.withResolvers<void>();
  await using fake = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: "a".repeat(40), offset: 1_000 });
    await peer.send(payload.subarray(0, 39 * 1024 * 1024));
    await rest.promise;
    await peer.send(payload.subarray(39 * 1024 * 1024));
    await peer.untilClosed();
  });
  const archive = `file://${folder}`;
  await using replica = startReplica([fake.url, "--dir", data, "--archive", archive, ...every]);
  const found = () => (fs.existsSync(folder) ? fs.readdirSync(folder, { recursive: true }) : []);
  await until(() => found().filter((name) => /\d+\.rdb\.zst$/.test(String(name))).length === 2, {
    what: "the first two pieces in the archive",
  });
  expect(await endOf(archive)).toBe(-1);
  rest.resolve();
  await replica.waitForLine(/connected by full resync/);
  await until(async () => (await endOf(archive)) === 1_000, { what: "the whole base" });
  const checked = await runReplica(["verify", archive, "--json"]);
  expect(JSON.parse(checked.stdout)).toMatchObject({ ok: true, unfinished: [] });
  expect(fs.readdirSync(`${folder}/generations`)).toHaveLength(1);
});

describe("--ack archived", () => {
  test("WAIT returns once the archive alone restores the write", async () => {
    const { data, folder } = place();
    const archive = `file://${folder}`;
    await using replica = follow(data, archive, "--ack", "archived", "--archive-every", "1h");
    await followed(replica);
    await until(() => fs.existsSync(folder), { what: "the archive" });
    for (const n of [1, 2, 3]) {
      await primary.send("SET", "waited", `for ${n}`);
      expect(await primary.send("WAIT", 1, 30_000)).toBe(1);
    }
    await replica.kill9();
    fs.rmSync(data, { recursive: true });
    expect(await digestOf(archive)).toBe(await primary.digest());
  });

  test("an archive that takes nothing acknowledges nothing, and the link stays", async () => {
    const { data } = place();
    const archive = `s3://${bucket.bucket}/forbidden`;
    const effect = { kind: "error", status: 403, code: "AccessDenied" } as const;
    bucket.fail({ within: "forbidden/", times: Infinity, effect });
    const at = ["--archive-endpoint", bucket.endpoint];
    const more = [...at, "--ack", "archived", "--no-archive-bootstrap"];
    await using replica = follow(data, archive, ...more);
    await followed(replica);
    await primary.send("SET", "not", "archived");
    expect(await primary.send("WAIT", 1, 500)).toBe(0);
    expect((await primary.info("replication"))["slave0"]).toContain("state=online,offset=0");
    bucket.heal();
    expect(await primary.send("WAIT", 1, 60_000)).toBe(1);
    expect(replica.stderr).not.toContain(SECRET_KEY);
  });
});
