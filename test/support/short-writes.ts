import { spyOn } from "bun:test";
import * as fs from "node:fs";

/** What is written past the page cache is taken by whole blocks. */
const BLOCK_BYTES = 4096;

type Written = (error: NodeJS.ErrnoException | null, bytes: number) => void;

/** The pieces up to so many bytes, where they lie. */
function firstOf(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  return pieces.map((piece) => {
    const part = piece.subarray(0, left);
    left -= part.length;
    return part;
  });
}

/**
 * Until it is disposed of, whatever this process writes by writev(2) is taken in part: the kernel is
 * allowed to, and says no error. The disk is the real one.
 * @param take how many of so many bytes are taken; half of them unless told.
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
