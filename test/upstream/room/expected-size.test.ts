import { expect, test } from "bun:test";
import { ExpectedSize, expectedBytes } from "../../../src/upstream/room/expected-size.ts";
import type { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { tempDir } from "../../support/temp.ts";

const earlier = { rdbBytes: 300, usedBytes: 1000 };

test.each([
  ["the last one, as the memory has grown", 2000, 5000, earlier, 600],
  ["the last one, as the memory has shrunk", 500, undefined, earlier, 150],
  ["the data in memory, before there was one", 2000, 1500, undefined, 1500],
  ["all of the memory, where nothing else tells", 2000, undefined, undefined, 2000],
  ["the data in memory, before the snapshot's beginning has come", undefined, 1500, earlier, 1500],
  ["nothing, where nothing tells", undefined, undefined, earlier, undefined],
] as const)("goes by %s", (_, usedBytes, datasetBytes, before, expected) => {
  expect(expectedBytes(usedBytes, datasetBytes, before)).toBe(expected);
});

/** The beginning of an RDB whose primary used so much memory. */
function beginning(used: string): Buffer {
  const aux = `\xfa\x08used-mem${String.fromCharCode(used.length)}${used}`;
  return Buffer.from(`REDIS0009${aux}\xfe\0\xff`, "latin1");
}

test("compares with the generation that is current, and reads its file once", async () => {
  using dir = tempDir("expected-size");
  await Bun.write(dir.file("1"), beginning("1000"));
  await Bun.write(dir.file("2"), beginning("4000"));
  await Bun.write(dir.file("3"), "no RDB at all, and long enough to be one");
  let current: { id: number; rdbBytes: number } | undefined;
  let reads = 0;
  const directory = {
    get current() {
      return current;
    },
    basePath: (id: number) => {
      reads += 1;
      return dir.file(String(id));
    },
  } as unknown as DataDirectory;
  const size = new ExpectedSize(directory);
  expect(size.of(2000, 1500)).toBe(1500);
  current = { id: 1, rdbBytes: 300 };
  expect([size.of(2000, 1500), size.of(4000, 1500)]).toEqual([600, 1200]);
  expect(reads).toBe(1);
  current = { id: 2, rdbBytes: 300 };
  expect(size.of(2000, 1500)).toBe(150);
  // A damaged one, and one that is gone, tell nothing.
  for (const id of [3, 4]) {
    current = { id, rdbBytes: 300 };
    expect(size.of(2000, 1500)).toBe(1500);
    expect(size.of(2000, undefined)).toBe(2000);
  }
});
