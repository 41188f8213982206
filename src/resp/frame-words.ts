import { ReplicaError } from "../base/errors.ts";

const CR = 0x0d;
const ZERO = 0x30;

/**
 * Splits one command, as FrameScanner found it from `start` to `end`, into its words: views, not copies.
 * @throws ReplicaError BAD_FRAME where the bytes are not one whole command.
 */
export function wordsOf(command: Uint8Array): Uint8Array[] {
  const words: Uint8Array[] = [];
  let count: number | undefined;
  // No function in here: millions of commands come, and each would make one.
  let at = 0;
  while (at < command.length) {
    let value = 0;
    while (++at < command.length && command[at] !== CR) value = 10 * value + command[at]! - ZERO;
    at += 2;
    if (count === undefined) {
      count = value;
    } else {
      words.push(command.subarray(at, at + value));
      at += value + 2;
    }
  }
  if (at !== command.length || words.length !== count) {
    throw new ReplicaError("BAD_FRAME", {
      retry: "never",
      message: "the log changed while it was read: does another program write to it?",
    });
  }
  return words;
}

const slice: (this: Uint8Array, from: number, to: number) => string = Buffer.prototype.latin1Slice;

/** A word as a string in which each character is a byte. Without the view that `Buffer.from` would make. */
export function latin1Of(word: Uint8Array): string {
  return latin1At(word, 0, word.length);
}

/** The same for a part of some bytes. */
export function latin1At(bytes: Uint8Array, from: number, to: number): string {
  return slice.call(bytes, from, to);
}
