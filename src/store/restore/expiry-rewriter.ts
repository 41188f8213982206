import { limits } from "../../config/limits.ts";
import { absoluteExpiry, mayExpireRelatively } from "../../resp/absolute-expiry.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import { wordsOf } from "../../resp/frame-words.ts";

/** When the log's file up to byte `until` had arrived, in milliseconds since 1970. */
export interface KnownUntil {
  readonly atMs: number;
  readonly until: number;
}

/**
 * Makes the relative expiries of an undamaged log (of Redis before 7.0) absolute, by the times of the marks:
 * replayed as they are, they would count from the replay.
 */
export class ExpiryRewriter {
  readonly #scanner = new FrameScanner({ limits: limits.frame });
  readonly #timeOf: (end: number) => KnownUntil | undefined;
  /** The mark that covers the last command. */
  #known: KnownUntil | undefined;
  #readBytes = 0;
  /** The beginning of an unfinished command, from earlier blocks. */
  #begun: Uint8Array[] = [];
  rewrittenCommands = 0;

  /** @param timeOf tells when everything before byte `end` of the file had arrived; where it returns undefined, a command stays as it is. */
  constructor(timeOf: (end: number) => KnownUntil | undefined) {
    this.#timeOf = timeOf;
  }

  /** Takes the next block, and returns the bytes to write for the commands that are whole now. */
  push(block: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    const begin = this.#readBytes;
    this.#readBytes += block.length;
    this.#scanner.push(block);
    /** `out` holds the block up to here. */
    let done = 0;
    const pass = (until: number) => {
      if (until <= done && this.#begun.length === 0) return;
      out.push(...this.#begun, block.subarray(done, until));
      this.#begun = [];
      done = until;
    };
    while (this.#scanner.next()) {
      const { verb, args, start, end } = this.#scanner;
      if (!mayExpireRelatively(verb, args)) continue;
      const words = this.#words(block, start - begin, end - begin);
      const known = this.#timeAt(end);
      const commands = known && absoluteExpiry(words, known.atMs);
      if (commands === undefined) continue;
      if (start > begin) pass(start - begin);
      out.push(...commands.map((command) => encodeCommand(...command)));
      this.#begun = [];
      done = end - begin;
      this.rewrittenCommands++;
    }
    if (this.#scanner.end > begin) pass(this.#scanner.end - begin);
    if (done < block.length) this.#begun.push(Uint8Array.from(block.subarray(done)));
    return out;
  }

  /** The words of the command between two bytes of the block; it may have begun before the block. */
  #words(block: Uint8Array, from: number, to: number): Uint8Array[] {
    if (from >= 0) return wordsOf(block.subarray(from, to));
    return wordsOf(Buffer.concat([...this.#begun, block.subarray(0, to)]));
  }

  #timeAt(end: number): KnownUntil | undefined {
    if (this.#known === undefined || end > this.#known.until) {
      this.#known = this.#timeOf(end);
    }
    return this.#known;
  }
}
