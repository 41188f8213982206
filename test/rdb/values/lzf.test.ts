import { describe, expect, test } from "bun:test";
import { LzfStream, MAX_LZF_RATIO, undoLzf } from "../../../src/rdb/values/lzf.ts";
import { Random } from "../../support/fill.ts";
import { compressed } from "../../support/rdb-bytes.ts";
import { seedOf } from "../../support/sweep.ts";

/** Text with repetitions near and far, some of them longer than any instruction. */
function someText(random: Random): Buffer {
  const pieces: Buffer[] = [];
  for (let n = 1 + random.below(40); n > 0; n--) {
    const piece =
      random.below(3) === 0
        ? Buffer.from(random.bytes(1 + random.below(60)))
        : Buffer.alloc(1 + random.below(900), `${random.below(5)}${random.below(3)}`);
    pieces.push(
      pieces.length > 0 && random.below(3) === 0 ? pieces[random.below(pieces.length)]! : piece,
    );
  }
  return Buffer.concat(pieces);
}

function streamed(input: Uint8Array, chunkBytes: number): Buffer | undefined {
  const out: Buffer[] = [];
  const stream = new LzfStream();
  for (let at = 0; at < input.length; at += chunkBytes) {
    const to = Math.min(input.length, at + chunkBytes);
    const isSound = stream.push(input, at, to, (bytes, from, end) => {
      out.push(Buffer.from(bytes.slice(from, end)));
    });
    if (!isSound) return undefined;
  }
  expect(stream.isWhole).toBe(true);
  const all = Buffer.concat(out);
  expect(stream.bytes).toBe(all.length);
  return all;
}

describe("LZF", () => {
  test("is undone at once and as it comes", () => {
    const random = new Random(seedOf("LZF_SEED"));
    for (let n = 0; n < 300; n++) {
      const text = someText(random);
      const input = compressed(text);
      expect(text.length).toBeLessThanOrEqual(input.length * MAX_LZF_RATIO);
      const out = new Uint8Array(text.length);
      expect(undoLzf(input, 0, input.length, out)).toBe(text.length);
      expect(Buffer.from(out).equals(text)).toBe(true);
      expect(streamed(input, 1 + random.below(50))?.equals(text)).toBe(true);
      // A beginning is had without the rest.
      const head = new Uint8Array(Math.min(10, text.length));
      expect(undoLzf(input, 0, Math.min(input.length, 2 * head.length), head)).toBe(head.length);
      expect(Buffer.from(head).equals(text.subarray(0, head.length))).toBe(true);
    }
  });

  test("that reaches back before the beginning is malformed", () => {
    const input = Buffer.from([0, 65, 0x20, 1]);
    expect(undoLzf(input, 0, input.length, new Uint8Array(10))).toBe(-1);
    expect(streamed(input, 1)).toBeUndefined();
  });

  test("that is cut fills less than it should", () => {
    const input = compressed(Buffer.alloc(500, "ab"));
    for (let bytes = 0; bytes < input.length; bytes++) {
      const filled = undoLzf(input, 0, bytes, new Uint8Array(500));
      expect(filled).toBeGreaterThanOrEqual(0);
      expect(filled).toBeLessThan(500);
    }
  });
});
