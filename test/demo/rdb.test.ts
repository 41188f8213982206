import { describe, expect, test } from "bun:test";
import { LiveData } from "../../src/demo/live.ts";
import { BaseData, DemoSnapshot } from "../../src/demo/rdb.ts";
import { Crc64 } from "../../src/rdb/crc64.ts";
import { parseReplicationId } from "../../src/base/history.ts";
import { tool } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";

const REPLID = parseReplicationId("a".repeat(40));

function snapshot(shape: { seed: number; keys: number; valueBytes: number; writes?: number }) {
  const live = new LiveData(shape.seed);
  for (let n = 0; n < (shape.writes ?? 0); n += 1) live.next(1_900_000_000_000);
  return new DemoSnapshot({
    base: new BaseData(shape),
    live: [live.section(0), live.section(1)],
    replid: REPLID,
    offset: 1234,
    streamDatabase: 1,
    createdUnixSeconds: 1_700_000_000,
  });
}

// A chunk is valid until the next one is requested, so each is copied at once.
function bytesOf(made: DemoSnapshot): Buffer {
  const chunks: Uint8Array[] = [];
  for (const chunk of made.chunks()) chunks.push(chunk.slice());
  return Buffer.concat(chunks);
}

const SHAPES = [
  { seed: 1, keys: 0, valueBytes: 1 },
  { seed: 1, keys: 1, valueBytes: 1 },
  { seed: 1, keys: 0, valueBytes: 1, writes: 500 },
  { seed: 2, keys: 100, valueBytes: 3 },
  { seed: 3, keys: 1000, valueBytes: 63, writes: 1 },
  { seed: 4, keys: 1000, valueBytes: 20_000, writes: 2000 },
  { seed: 5, keys: 17, valueBytes: 1_000_000 },
];

describe.each(SHAPES)("a snapshot of %j", (shape) => {
  test("has the announced length and a valid checksum", () => {
    const made = snapshot(shape);
    const bytes = bytesOf(made);
    expect(bytes.length).toBe(made.lengthBytes);
    expect(bytes.toString("latin1", 0, 9)).toBe("REDIS0010");
    const checksum = new Crc64();
    checksum.update(bytes.subarray(0, -8));
    expect(bytes.readBigUInt64LE(bytes.length - 8)).toBe(checksum.value);
    expect(bytes.at(-9)).toBe(0xff);
  });

  test("passes redis-check-rdb with all its keys", async () => {
    using dir = tempDir("demo-rdb");
    const path = dir.file("dump.rdb");
    await Bun.write(path, bytesOf(snapshot(shape)));
    const checked = Bun.spawnSync([...tool("redis-7.0", "redis-check-rdb"), path]);
    const output = checked.stdout.toString();
    expect(checked.exitCode, output).toBe(0);
    expect(output).toContain("RDB looks OK");
    if (shape.writes === undefined) expect(output).toContain(`] ${shape.keys} keys read`);
  });
});

test("the same seed makes the same bytes, another seed different ones", () => {
  const shape = { keys: 500, valueBytes: 100, writes: 300 };
  const first = bytesOf(snapshot({ seed: 7, ...shape }));
  expect(bytesOf(snapshot({ seed: 7, ...shape })).equals(first)).toBe(true);
  expect(bytesOf(snapshot({ seed: 8, ...shape })).equals(first)).toBe(false);
});

test("chunks are bounded, whatever the number of keys", () => {
  const made = snapshot({ seed: 1, keys: 20_000, valueBytes: 1000 });
  let longest = 0;
  for (const chunk of made.chunks()) longest = Math.max(longest, chunk.length);
  expect(made.lengthBytes).toBeGreaterThan(15_000_000);
  expect(longest).toBeLessThan(300_000);
});
