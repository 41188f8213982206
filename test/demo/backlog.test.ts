import { expect, test } from "bun:test";
import fc from "fast-check";
import { Backlog } from "../../src/demo/backlog.ts";

test("reads back everything that it covers", () => {
  const appends = fc.array(fc.uint8Array({ minLength: 1, maxLength: 16 }), { maxLength: 40 });
  fc.assert(
    fc.property(appends, (pieces) => {
      const backlog = new Backlog({ resumeBytes: 16, outputBytes: 24 });
      for (const piece of pieces) backlog.append(piece);
      const all = Buffer.concat(pieces);
      expect(backlog.endOffset).toBe(all.length);
      for (let offset = 0; offset <= all.length; offset += 1) {
        expect(backlog.covers(offset)).toBe(offset >= all.length - 24);
        if (!backlog.covers(offset)) continue;
        const read: Uint8Array[] = [];
        for (let at = offset; at < all.length; at += read.at(-1)?.length ?? 0) {
          read.push(backlog.readAfter(at, 5));
        }
        expect(Buffer.concat(read)).toEqual(all.subarray(offset));
      }
    }),
  );
});

test("lets a replica resume only within the last resumeBytes", () => {
  const backlog = new Backlog({ resumeBytes: 10, outputBytes: 100 });
  expect(backlog.firstResumeOffset).toBe(1);
  backlog.append(new Uint8Array(10));
  expect(backlog.firstResumeOffset).toBe(1);
  backlog.append(new Uint8Array(7));
  expect(backlog.firstResumeOffset).toBe(8);
});
