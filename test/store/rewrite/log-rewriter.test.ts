import { expect, test } from "bun:test";
import { LogRewriter } from "../../../src/store/rewrite/log-rewriter.ts";
import { relativeExpiries } from "../../../src/store/rewrite/expiry-rules.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { REPLID, smallRdb } from "../../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../../support/fake-primary.ts";
import { follow } from "../../support/following.ts";
import { encodeCommand } from "../../support/resp.ts";
import { availableServers, bootCopyOfDir } from "../../support/servers.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

const bytes = (...commands: string[][]) =>
  Buffer.concat(commands.map((words) => encodeCommand(words)));

const LOG = bytes(
  ["SELECT", "0"],
  ["SET", "a", "1"],
  ["SET", "b", "2", "EX", "10"],
  ["EXPIRE", "a", "5"],
  ["PING"],
  ["SETEX", "c", "7", "v".repeat(50)],
  ["EXPIRE", "a", "-1"],
  ["SET", "d", "1"],
);

const EXPECTED = (first: number, second: number) =>
  bytes(
    ["SELECT", "0"],
    ["SET", "a", "1"],
    ["SET", "b", "2"],
    ["PEXPIREAT", "b", String(first + 10_000)],
    ["PEXPIREAT", "a", String(first + 5_000)],
    ["PING"],
    ["SET", "c", "v".repeat(50)],
    ["PEXPIREAT", "c", String(second + 7_000)],
    ["EXPIRE", "a", "-1"],
    ["SET", "d", "1"],
  );

test("counts each expiry from its own mark, wherever the log is cut into blocks", () => {
  const firstMark = bytes(
    ["SELECT", "0"],
    ["SET", "a", "1"],
    ["SET", "b", "2", "EX", "10"],
    ["EXPIRE", "a", "5"],
  ).length;
  for (let size = 1; size <= LOG.length; size++) {
    const rule = relativeExpiries((end) =>
      end <= firstMark ? { atMs: 1_000, until: firstMark } : { atMs: 2_000, until: LOG.length },
    );
    const rewriter = new LogRewriter([rule]);
    const out: Buffer[] = [];
    const block = Buffer.alloc(size);
    for (let at = 0; at < LOG.length; at += size) {
      // One buffer for all blocks, as the reader uses it.
      const piece = block.subarray(0, LOG.copy(block, 0, at, at + size));
      out.push(...rewriter.push(piece).map((view) => Buffer.from(view)));
    }
    expect([size, Buffer.concat(out).toString()]).toEqual([
      size,
      EXPECTED(1_000, 2_000).toString(),
    ]);
    expect(rewriter.replacedCommands).toBe(3);
  }
});

test("passes a long command that stays as it is while it comes", () => {
  const rewriter = new LogRewriter([relativeExpiries(() => ({ atMs: 1, until: 1_000 }))]);
  const passed = (part: Uint8Array) => Buffer.concat(rewriter.push(part)).toString();
  const long = bytes(["SET", "a", "v".repeat(100)]);
  // As long as its verb hasn't come, nobody knows.
  expect(passed(long.subarray(0, 10))).toBe("");
  expect(passed(long.subarray(10, 50))).toBe(long.subarray(0, 50).toString());
  expect(passed(long.subarray(50, 90))).toBe(long.subarray(50, 90).toString());
  expect(passed(long.subarray(90))).toBe(long.subarray(90).toString());
  const expiring = bytes(["SETEX", "a", "1", "v".repeat(100)]);
  expect(passed(expiring.subarray(0, 90))).toBe("");
  expect(passed(expiring.subarray(90))).toContain("PEXPIREAT");
});

test("leaves a command alone where no mark tells its time", () => {
  const rewriter = new LogRewriter([relativeExpiries(() => undefined)]);
  expect(Buffer.concat(rewriter.push(LOG)).equals(LOG)).toBe(true);
});

test.each(availableServers())(
  "makes what a primary before 7.0 streamed expire in %s when it would have expired there",
  async (kind) => {
    using dir = tempDir("old-primary");
    const stream = bytes(["SET", "short", "1", "EX", "1"], ["SET", "long", "1", "EX", "1000"]);
    await using primary = fakePrimary(async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 100 });
      // Without a version, expiries may be relative, as before 7.0.
      await peer.send(bulkPayload(smallRdb("a value")));
      await peer.send(stream);
    });
    const beganMs = Date.now();
    await using replica = follow(primary.url, realDisk, dir, { fsync: "always" });
    await replica.connected();
    await until(() => replica.replica.log?.durableOffset === 100 + stream.length, {
      what: "a sync",
    });
    const endedMs = Date.now();
    expect(await replica.stop()).toBeUndefined();
    // Late enough for the short one to be over: on the raw log a stock server would start counting now.
    await until(() => Date.now() > endedMs + 1_000, { what: "a second" });
    using catalogue = new Catalogue(replica.path);
    const wanted = { generation: undefined, atMs: undefined, offset: undefined };
    const restored = await restore(catalogue, restorePoint(catalogue, wanted), dir.file("target"), {
      disk: realDisk,
      layout: "single",
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    expect(restored.rewrittenCommands).toBe(2);
    await using server = await bootCopyOfDir(kind, restored.dir, { args: ["--appendonly", "yes"] });
    expect(await server.send("EXISTS", "short")).toBe(0);
    const at = Number(await server.send("PEXPIRETIME", "long"));
    expect(at).toBeGreaterThanOrEqual(beganMs + 1_000_000);
    expect(at).toBeLessThanOrEqual(endedMs + 1_000_000);
  },
);
