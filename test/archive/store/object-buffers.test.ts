import { describe, expect, test } from "bun:test";
import { objectBuffer, recycle } from "../../../src/archive/store/object-buffers.ts";

const MIB = 1024 * 1024;

describe("the buffer of an object", () => {
  test("serves the next one, whatever their lengths", () => {
    const first = objectBuffer(16 * MIB);
    recycle(first.subarray(0, 100));
    const second = objectBuffer(5 * MIB);
    expect(second.buffer).toBe(first.buffer);
    expect(second).toHaveLength(5 * MIB);
    recycle(second);
  });

  test("is nobody else's until it is given back, and only once even if it is given back twice", () => {
    const all = [objectBuffer(8 * MIB), objectBuffer(8 * MIB)];
    expect(all[0]!.buffer).not.toBe(all[1]!.buffer);
    recycle(all[0]!);
    recycle(all[0]!);
    const next = [objectBuffer(8 * MIB), objectBuffer(8 * MIB)];
    expect(new Set([all[1], ...next].map((one) => one!.buffer)).size).toBe(3);
    for (const one of [all[1]!, ...next]) recycle(one);
  });

  test.each([2 * MIB, 4 * MIB])("of %d bytes is freed where there are enough", (bytes) => {
    const many = Array.from({ length: 6 }, () => objectBuffer(bytes));
    for (const one of many) recycle(one);
    expect(many.filter(({ length }) => length === 0)).toHaveLength(4);
  });

  test.each([0, 1, 100_000, 3 * MIB, 17 * MIB])("of %d bytes is freed at once", (bytes) => {
    const buffer = objectBuffer(bytes);
    expect(buffer).toHaveLength(bytes);
    recycle(buffer);
    expect(buffer).toHaveLength(0);
  });

  test("from elsewhere is freed where it fills its memory, and is left alone where others have a part of it", () => {
    const [whole, shared] = [new Uint8Array(MIB), new Uint8Array(MIB)];
    recycle(whole);
    recycle(shared.subarray(0, MIB - 1));
    expect([whole.length, shared.length]).toEqual([0, MIB]);
  });
});
