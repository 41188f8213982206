import { limits } from "../../config/limits.ts";
import { absoluteExpiry, mayExpireRelatively } from "../../resp/absolute-expiry.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { FrameScanner, wordsOf } from "../../resp/frame-scanner.ts";

/** When what lies up to `until` had come, in milliseconds since 1970. Positions are bytes of the log. */
export interface KnownUntil {
  readonly atMs: number;
  readonly until: number;
}

/**
 * Gives the expiries of a sound log that count from the moment at which a command runs (Redis before 7.0)
 * the moment that they meant, by the times of the marks.
 */
export class ExpiryRewriter {
  readonly #scanner = new FrameScanner({ limits: limits.frame });
  readonly #timeOf: (position: number) => KnownUntil | undefined;
  /** Of the marks, the one that the last command was covered by. */
  #known: KnownUntil | undefined;
  #position = 0;
  /** A command's beginning, from blocks before. */
  #begun: Uint8Array[] = [];
  rewrittenCommands = 0;

  /** @param timeOf when the byte before `position` had come; undefined where nothing tells: it stays as it is. */
  constructor(timeOf: (position: number) => KnownUntil | undefined) {
    this.#timeOf = timeOf;
  }

  /** Takes the next block, and gives what is to be written for the commands that are whole now. */
  push(block: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    const begin = this.#position;
    this.#position += block.length;
    this.#scanner.push(block);
    /** Up to here the block is in `out`. */
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

  /** The words of the command between these places of the block; it may have begun before the block. */
  #words(block: Uint8Array, from: number, to: number): Uint8Array[] {
    if (from >= 0) return wordsOf(block.subarray(from, to));
    return wordsOf(Buffer.concat([...this.#begun, block.subarray(0, to)]));
  }

  #timeAt(position: number): KnownUntil | undefined {
    if (this.#known === undefined || position > this.#known.until) {
      this.#known = this.#timeOf(position);
    }
    return this.#known;
  }
}
