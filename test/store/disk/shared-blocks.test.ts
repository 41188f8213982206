import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { ROUND_MS, SharedBlocks } from "../../../src/store/disk/shared-blocks.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

const BLOCK = 512 * 1024;
const CONTENT = Buffer.from(Uint8Array.from({ length: 3 * BLOCK + 100 }, (_, i) => (i * 7) % 251));

function rig() {
  const dir = tempDir("blocks");
  const path = dir.file("file");
  writeFileSync(path, CONTENT);
  const disk = new FaultyDisk();
  return { path, disk, blocks: new SharedBlocks(disk), [Symbol.dispose]: () => dir.remove() };
}

const copy = (bytes: Uint8Array) => Buffer.from(bytes);

test("returns the file's bytes at any position, never past the given end", async () => {
  using at = rig();
  const file = at.blocks.open(at.path);
  for (const end of [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, CONTENT.length]) {
    const pieces: Buffer[] = [];
    for (let from = 0; from < end;) {
      const step = 1 + ((from * 31) % 100_000);
      const piece = await at.blocks.use(file, { from, end }, (bytes) =>
        copy(bytes.subarray(0, step)),
      );
      pieces.push(piece);
      from += piece.length;
    }
    expect(Buffer.compare(Buffer.concat(pieces), CONTENT.subarray(0, end))).toBe(0);
  }
  at.blocks.close(file);
  expect([...at.disk.openFds]).toEqual([]);
});

test("readers at the same place share a descriptor and a read", async () => {
  using at = rig();
  const files = Array.from({ length: 20 }, () => at.blocks.open(at.path));
  const end = CONTENT.length;
  const read = (from: number) =>
    Promise.all(files.map((file, i) => at.blocks.use(file, { from: from + i, end }, copy)));
  for (const [i, bytes] of (await read(BLOCK)).entries()) {
    expect(Buffer.compare(bytes, CONTENT.subarray(BLOCK + i, 2 * BLOCK))).toBe(0);
  }
  await read(BLOCK + 5);
  expect([at.disk.count("openToRead"), at.disk.count("read")]).toEqual([1, 1]);
  for (const file of files) {
    expect(at.disk.openFds.size).toBe(1);
    at.blocks.close(file);
  }
  expect(at.disk.openFds.size).toBe(0);
});

test("a slow reader keeps its bytes, however much others read meanwhile", async () => {
  using at = rig();
  const file = at.blocks.open(at.path);
  const held = at.disk.hold("read");
  const first = at.blocks.use(file, { from: 0, end: BLOCK }, copy);
  const others = Array.from({ length: 200 }, (_, i) => {
    const from = BLOCK + i * 100;
    return at.blocks.use(file, { from, end: from + 50 }, (bytes) =>
      expect(Buffer.compare(bytes, CONTENT.subarray(from, from + 50))).toBe(0),
    );
  });
  held.release();
  await Promise.all(others);
  expect(Buffer.compare(await first, CONTENT.subarray(0, BLOCK))).toBe(0);
  at.blocks.close(file);
});

test("reads a file again after forget(), once it was cut and grew", async () => {
  using at = rig();
  const [before, end] = [at.blocks.open(at.path), BLOCK];
  await at.blocks.use(before, { from: 0, end }, copy);
  at.blocks.forget();
  const other = Buffer.alloc(BLOCK, "x");
  writeFileSync(at.path, other);
  const after = at.blocks.open(at.path);
  expect(Buffer.compare(await at.blocks.use(after, { from: 0, end }, copy), other)).toBe(0);
  at.blocks.close(before);
  at.blocks.close(after);
  expect(at.disk.openFds.size).toBe(0);
});

test("reports a failed read and a file that is too short, and retries both", async () => {
  using at = rig();
  const file = at.blocks.open(at.path);
  at.disk.fail({ operation: "read", code: "EIO" });
  const read = (end: number) => at.blocks.use(file, { from: 0, end }, copy);
  expect(await thrownBy(read(100))).toThrow(
    `reading byte 0 of ${at.path}: the device reports an error`,
  );
  at.disk.heal();
  expect(await read(100)).toHaveLength(100);
  expect(
    await thrownBy(
      at.blocks.use(file, { from: CONTENT.length - 1, end: CONTENT.length + 1 }, copy),
    ),
  ).toThrow(
    `reading byte ${CONTENT.length} of ${at.path}: the file ends before the last written byte`,
  );
  at.blocks.close(file);
  await expect(async () => at.blocks.open(`${at.path}.none`)).toThrow("reading");
});

test("what is cached is handed on in rounds, between which the event loop does all else", async () => {
  using at = rig();
  const file = at.blocks.open(at.path);
  const range = { from: 0, end: BLOCK };
  let turns = 0;
  let isOver = false;
  const turn = () => {
    turns++;
    if (!isOver) setImmediate(turn);
  };
  // Before the first round begins, so that each turn is counted before its round ends.
  setImmediate(turn);
  await at.blocks.use(file, range, copy);
  /** Takes all of a round. */
  const slowly = () => {
    const untilMs = performance.now() + 2 * ROUND_MS;
    while (performance.now() < untilMs);
    return turns;
  };
  const takenIn = await Promise.all(
    Array.from({ length: 20 }, () => at.blocks.use(file, range, slowly)),
  );
  isOver = true;
  expect(new Set(takenIn).size).toBe(20);
  at.blocks.close(file);
});
