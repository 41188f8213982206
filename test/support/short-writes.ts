import { spyOn } from "bun:test";
import * as fs from "node:fs";

/** Direct I/O takes whole blocks. */
const BLOCK_BYTES = 4096;

type Written = (error: NodeJS.ErrnoException | null, bytes: number) => void;

/** The first `bytes` bytes of the pieces, without copying them. */
function firstOf(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  return pieces.map((piece) => {
    const part = piece.subarray(0, left);
    left -= part.length;
    return part;
  });
}

/**
 * Makes every writev(2) of this process write only a part, until disposed of. The kernel may do that
 * without an error. The disk is the real one.
 * @param take how many of the given bytes are written. Default: half of them.
 */
export function shortWrites(take = (bytes: number): number => Math.ceil(bytes / 2)) {
  const writev = fs.writev;
  const partly = (fd: number, pieces: readonly Uint8Array[], at: number, done: Written): void => {
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    const isBlocks = bytes % BLOCK_BYTES === 0 && bytes > BLOCK_BYTES;
    const taken = isBlocks ? BLOCK_BYTES : take(bytes);
    if (taken === 0) return process.nextTick(done, null, 0);
    writev(fd, firstOf(pieces, taken), at, done);
  };
  const spy = spyOn(fs, "writev").mockImplementation(partly as typeof fs.writev);
  return {
    get calls(): number {
      return spy.mock.calls.length;
    },
    [Symbol.dispose]: () => {
      spy.mockRestore();
    },
  };
}
