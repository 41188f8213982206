import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { EmbeddedPrimary } from "../../src/demo/primary.ts";
import { bulkPayload, eofPayload, fakePrimary } from "../support/fake-primary.ts";
import { fillAllTypes } from "../support/fill.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, bootCopyOfDir, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { grantFullSync, smallRdb } from "./bad-input-rig.ts";

const MIB = 1024 * 1024;
const KEY = "daily/dump.rdb";
const OUT = `s3://bucket/${KEY}`;
const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
let server: FaultS3;

beforeEach(async () => {
  server = await FaultS3.start();
});
afterEach(() => server.stop());

const argsFor = (url: string, ...more: string[]) =>
  ["backup", url, OUT, "--archive-endpoint", server.endpoint].concat(more);
const backup = async (url: string, ...more: string[]) =>
  await runReplica(argsFor(url, ...more), { env });
const begin = (url: string): ReplicaProcess => startReplica(argsFor(url), { env });

/** A primary with so many MiB of data, whose snapshots take two or three parts and more. */
async function largePrimary(mib: number, payloadForm: "length" | "eof" = "length") {
  return await EmbeddedPrimary.start({
    seed: 71,
    keys: mib * 16,
    valueBytes: 65_536,
    payloadForm,
    backlogBytes: MIB,
    writesPerSecond: 0,
  });
}

function expectNothing(): void {
  expect([server.uploads.size, server.objects.get(KEY)]).toEqual([0, undefined]);
}

describe("a backup to a bucket", () => {
  test("is an object from which a stock server would start, and replaces none", async () => {
    const kind = availableServers().at(-1)!;
    await using primary = await startServer(kind, {});
    await fillAllTypes(primary, { keys: 2_000, seed: 72 });
    const { exitCode, stderr } = await backup(primary.url());
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining("checksum verified")]);
    using dir = tempDir("backup-object");
    const object = server.objects.get(KEY)!;
    fs.writeFileSync(dir.file("dump.rdb"), object.bytes);
    expect((await runReplica(["verify", dir.file("dump.rdb")])).exitCode).toBe(0);
    await using again = await bootCopyOfDir(kind, dir.path);
    expect(await again.digest()).toBe(await primary.digest());
    const syncs = (await primary.info("stats"))["sync_full"];
    // The primary is not even asked: a fork would be for nothing.
    const refused = await backup(primary.url());
    expect([refused.exitCode, refused.stderr]).toEqual([
      2,
      expect.stringContaining(`${OUT} is there already: name another object, or give --force`),
    ]);
    expect((await primary.info("stats"))["sync_full"]).toBe(syncs!);
    expect(server.objects.get(KEY)).toBe(object);
    await primary.send("SET", "one", "more");
    expect((await backup(primary.url(), "--force")).exitCode).toBe(0);
    expect(server.objects.get(KEY)!.bytes.equals(object.bytes)).toBe(false);
    expect(server.uploads.size).toBe(0);
  });

  test.each(["length", "eof"] as const)("takes little memory, %s", async (form) => {
    using primary = await largePrimary(200, form);
    await using replica = begin(primary.url);
    const watching = setInterval(() => replica.rssPeakBytes(), 20);
    expect((await replica.ended()).exitCode, replica.stderr).toBe(0);
    clearInterval(watching);
    expect(server.objects.get(KEY)!.bytes.length).toBeGreaterThan(200 * MIB);
    expect(replica.rssPeakBytes() / MIB).toBeLessThan(150);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["damaged", bulkPayload(changed(smallRdb("a", 300_000))), /checksum/],
    ["damaged, of unknown length", eofPayload(changed(smallRdb("a", 300_000))), /checksum/],
    [
      "cut short",
      bulkPayload(smallRdb("a", 300_000)).subarray(0, 200_000),
      /closed the link|reset/,
    ],
  ])("is no object where the snapshot is %s", async (_, payload, why) => {
    await using primary = fakePrimary(async (peer) => {
      await grantFullSync(peer);
      await peer.send(payload);
      await peer.close();
    });
    const { exitCode, stderr } = await backup(primary.url);
    expect([exitCode, stderr]).toEqual([1, expect.stringMatching(why)]);
    expectNothing();
  });

  test("leaves nothing where it is stopped amid the upload", async () => {
    using primary = await largePrimary(40);
    server.fail({ operation: "PART", times: 100, effect: { kind: "hang", at: "answer" } });
    await using replica = begin(primary.url);
    await until(() => server.hanging > 0, { what: "a part to hang" });
    replica.signal("SIGTERM");
    expect((await replica.ended()).exitCode).toBe(1);
    expectNothing();
  });

  test("leaves nothing where the store refuses a part, or there is no primary", async () => {
    using primary = await largePrimary(40);
    const effect = { kind: "error", status: 403, code: "AccessDenied" } as const;
    server.fail({ operation: "PART", times: 100, effect });
    const refused = await backup(primary.url);
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining("PutObject")]);
    expectNothing();
    server.heal();
    const { exitCode } = await backup("redis://127.0.0.1:1");
    expect(exitCode).toBe(1);
    expectNothing();
  });

  test("is refused for what names no object, and where the store refuses it before the primary is asked", async () => {
    using primary = await largePrimary(1);
    for (const [out, why] of [
      ["s3://bucket", "names no object"],
      ["s3://bucket/", "names no object"],
      ["s3://AKID:secret@bucket/key", "has no login"],
      ["redis://user:secret@host:1", "OUT comes last"],
    ] as const) {
      const { exitCode, stderr } = await runReplica(["backup", primary.url, out], { env });
      expect([exitCode, stderr]).toEqual([2, expect.stringContaining(why)]);
      expect(stderr).not.toContain("secret");
    }
    const effect = { kind: "error", status: 403, code: "AccessDenied" } as const;
    server.fail({ operation: "BEGIN", times: 100, effect });
    expect((await backup(primary.url)).exitCode).toBe(1);
    expect(primary.syncs.full).toBe(0);
    const mode = await backup(primary.url, "--mode", "640");
    expect([mode.exitCode, mode.stderr]).toEqual([
      2,
      expect.stringContaining("--mode is for files"),
    ]);
  });
});

function changed(rdb: Buffer): Buffer {
  const other = Buffer.from(rdb);
  other[rdb.length >> 1]! ^= 1;
  return other;
}
