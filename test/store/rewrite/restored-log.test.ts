import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { thrownBy } from "../../support/error-of.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import { encodeCommands } from "../../../src/resp/encode.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { type Layout, restore, type RestoreOptions } from "../../../src/store/restore/restore.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { sweepCommand } from "../../../src/store/rewrite/slot-sweep.ts";
import { REPLID, smallRdb } from "../../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../../support/fake-primary.ts";
import { follow } from "../../support/following.ts";
import { keySlot } from "../../support/key-slot.ts";
import { runReplica } from "../../support/replica-process.ts";
import { encodeCommand } from "../../support/resp.ts";
import { availableServers, bootCopyOfDir } from "../../support/servers.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { clusterArgs, complaints, OWNER_OF_ALL } from "./loaded.ts";

const NODE = "a".repeat(40);
const [JOB, OTHER] = ["1".repeat(40), "2".repeat(40)];
const bytes = (commands: readonly string[]) =>
  Buffer.concat(commands.map((text) => encodeCommand(text.split(" "))));
const slot = (key: string) => `${keySlot(key)} ${keySlot(key)}`;

/** Keys with the tags of migrations: `t` left, `f` came in vain, `s` came, `o` is on its way. */
const STREAM = [
  "SELECT 0",
  ...["{t}1", "{f}old", "{s}1", "kept"].map((key) => `SET ${key} 1`),
  `CLUSTER SETSLOT ${keySlot("t")} MIGRATING ${NODE}`,
  "OPINFO anything",
  "MULTI",
  `TRIMSLOTS RANGES 1 ${slot("t")}`,
  "SET {t}2 1",
  "EXEC",
  `CLUSTER SYNCSLOTS ESTABLISH SOURCE ${NODE} NAME ${JOB} SLOTSRANGE ${slot("f")}`,
  "SET {f}new 1",
  `CLUSTER SYNCSLOTS FINISH STATE FAILED NAME ${JOB} MESSAGE none`,
  `CLUSTER SYNCSLOTS ESTABLISH SOURCE ${NODE} NAME ${OTHER} SLOTSRANGE ${slot("s")}`,
  "SET {s}2 1",
  `CLUSTER SYNCSLOTS FINISH STATE SUCCESS NAME ${OTHER} MESSAGE none`,
  `CLUSTER SYNCSLOTS ESTABLISH SOURCE ${NODE} NAME ${JOB} SLOTSRANGE ${slot("o")}`,
  "SET {o}1 1",
];
const PLAIN = ["SELECT 0", "SET a 1", "MULTI", "SET b 1", "EXEC", "PING"];

/** A data directory with a snapshot of one key and this stream. */
async function followed(dir: TempDir, stream: Uint8Array): Promise<string> {
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send(bulkPayload(smallRdb("a value")));
    await peer.send(stream);
  });
  await using replica = follow(primary.url, realDisk, dir, { fsync: "always" });
  await replica.connected();
  await until(() => replica.replica.log?.durableOffset === 100 + stream.length, { what: "a sync" });
  expect(await replica.stop()).toBeUndefined();
  return replica.path;
}

async function restored(
  path: string,
  target: string,
  layout: Layout,
  more: Partial<RestoreOptions> = {},
  offset?: number,
) {
  using catalogue = new Catalogue(path);
  const wanted = { generation: undefined, atMs: undefined, offset };
  return await restore(catalogue, restorePoint(catalogue, wanted), target, {
    disk: realDisk,
    layout,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...more,
  });
}

const incr = (dir: string) => readFileSync(join(dir, "appendonlydir", "appendonly.aof.1.incr.aof"));

test.each(availableServers())("%s loads a log without what it would refuse", async (kind) => {
  using dir = tempDir("refused");
  const path = await followed(dir, bytes(STREAM));
  for (const layout of ["multipart", "single"] as const) {
    const done = await restored(path, dir.file(layout), layout);
    expect(done).toMatchObject({
      commands: STREAM.length,
      leftOutCommands: 8,
      sweeps: 3,
      rewrittenCommands: 0,
      appendedCommands: 0,
    });
    writeFileSync(join(done.dir, "nodes.conf"), OWNER_OF_ALL);
    for (const isCluster of [false, true]) {
      const args = ["--appendonly", "yes", ...clusterArgs(isCluster)];
      await using server = await bootCopyOfDir(kind, done.dir, { args });
      const keys = (await server.send("KEYS", "*")) as string[];
      expect(keys.toSorted()).toEqual(["kept", "key", "{s}1", "{s}2", "{t}2"]);
      expect(complaints(server)).toEqual([]);
    }
  }
});

test.each(availableServers())(
  "%s loads a log with what services add to it: opinfo is left out, REPLCONF TIMESTAMP does nothing",
  async (kind) => {
    using dir = tempDir("services");
    const stamped = ["SET a 1", "REPLCONF TIMESTAMP 1700000000", "opinfo 5 x", "MULTI", "SET b 2"];
    const path = await followed(dir, bytes(["SELECT 0", ...stamped, "opinfo 6 y", "EXEC", "PING"]));
    for (const layout of ["multipart", "single"] as const) {
      const done = await restored(path, dir.file(layout), layout);
      expect(done).toMatchObject({ commands: 9, leftOutCommands: 2, sweeps: 0 });
      await using server = await bootCopyOfDir(kind, done.dir, { args: ["--appendonly", "yes"] });
      expect(await server.send("MGET", "a", "b")).toEqual(["1", "2"]);
    }
  },
);

test("restore says what it left out, in one line and as JSON", async () => {
  using dir = tempDir("refused");
  const path = await followed(dir, bytes(STREAM));
  const { stdout } = await runReplica(["restore", path, dir.file("text")]);
  expect(stdout).toContain(
    "  without 8 commands that not every server loads; the keys of slots that had moved are removed in their place (3 times)\n",
  );
  const { stdout: json } = await runReplica(["restore", path, dir.file("json"), "--json"]);
  expect(JSON.parse(json)).toMatchObject({
    commands: STREAM.length,
    rewritten_commands: 0,
    left_out_commands: 8,
    sweeps: 3,
    appended_commands: 0,
  });
});

test("what needs no rewriting is copied, byte by byte", async () => {
  using dir = tempDir("plain");
  const path = await followed(dir, bytes(PLAIN));
  const done = await restored(path, dir.file("target"), "multipart");
  expect(incr(done.dir).toString()).toBe(bytes(["SELECT 0", ...PLAIN]).toString());
  expect(done).toMatchObject({ commands: 6, leftOutCommands: 0, sweeps: 0, logBytes: 143 });
});

const RANGES: readonly SlotRange[] = [[0, 16_383]];
const APPENDIX = Buffer.concat([
  encodeCommands([sweepCommand(RANGES)]),
  bytes(["SET given 1", "SET back 2"]),
  encodeCommand(["SET", "long", "v".repeat(300_000)]),
  bytes(["SET last 3"]),
]);

test.each([7, 1_000, 10_000_000])(
  "an appendix in pieces of %d bytes comes once, behind the log, in database 0",
  async (size) => {
    using dir = tempDir("appendix");
    const stream = bytes(["SELECT 3", ...PLAIN.slice(1), "SELECT 4", "MULTI", "SET in vain"]);
    const path = await followed(dir, stream);
    let calls = 0;
    const piece = Buffer.alloc(size);
    const appendix = async function* () {
      calls++;
      for (let at = 0; at < APPENDIX.length; at += size) {
        // One buffer for all pieces, as a reader of a log uses it.
        yield piece.subarray(0, APPENDIX.copy(piece, 0, at, at + size));
      }
    };
    for (const layout of ["multipart", "single"] as const) {
      const done = await restored(path, dir.file(layout), layout, { appendix });
      expect(done).toMatchObject({ commands: 7, appendedCommands: 5, leftOutCommands: 0 });
      if (layout === "multipart") {
        const log = bytes(["SELECT 0", "SELECT 3", ...PLAIN.slice(1), "SELECT 4", "SELECT 0"]);
        expect(incr(done.dir).equals(Buffer.concat([log, APPENDIX]))).toBe(true);
        expect(done.logBytes).toBe(log.length + APPENDIX.length);
      }
      const [kind] = availableServers();
      await using server = await bootCopyOfDir(kind!, done.dir, { args: ["--appendonly", "yes"] });
      expect(await server.keysPerDatabase()).toEqual({ 0: 4 });
    }
    expect(calls).toBe(2);
  },
);

test("an appendix stands behind a rewritten log too, and behind a snapshot alone", async () => {
  using dir = tempDir("appendix");
  const path = await followed(dir, bytes(STREAM));
  const appendix = async function* () {
    yield bytes(["SET last 1"]);
  };
  const all = await restored(path, dir.file("all"), "multipart", { appendix });
  const end = bytes(["SELECT 0", "SET last 1"]);
  expect(incr(all.dir).subarray(-end.length).equals(end)).toBe(true);
  expect(all).toMatchObject({ leftOutCommands: 8, sweeps: 3, appendedCommands: 1 });
  const none = await restored(path, dir.file("none"), "multipart", { appendix }, 100);
  expect(incr(none.dir).equals(bytes(["SELECT 0", "SELECT 0", "SET last 1"]))).toBe(true);
  const empty = async function* () {};
  const bare = await restored(path, dir.file("bare"), "multipart", { appendix: empty }, 100);
  expect(incr(bare.dir).equals(bytes(["SELECT 0"]))).toBe(true);
});

test("an appendix that fails leaves nothing", async () => {
  using dir = tempDir("appendix");
  const path = await followed(dir, bytes(PLAIN));
  const appendix = async function* () {
    yield bytes(["SET last 1"]);
    throw new Error("no more");
  };
  const ended = restored(path, dir.file("target"), "multipart", { appendix });
  expect(await thrownBy(ended)).toThrow("no more");
});
