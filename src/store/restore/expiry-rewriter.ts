import { limits } from "../../config/limits.ts";
import { encodeCommands } from "../../resp/encode.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { ExpiryRule } from "./expiry-rules.ts";

/** Rewrites an undamaged log so that what expires, and when, doesn't depend on the time of the replay. */
export class ExpiryRewriter {
  readonly #scanner = new FrameScanner({ limits: limits.frame });
  readonly #rules: readonly ExpiryRule[];
  #readBytes = 0;
  /** The beginning of an unfinished command, from earlier blocks. */
  #begun: Uint8Array[] = [];
  rewrittenCommands = 0;

  /** @param rules of which at most one concerns a verb. */
  constructor(rules: readonly ExpiryRule[]) {
    this.#rules = rules;
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
      if (verb === undefined) continue;
      const rule = this.#rules.find((one) => one.concerns(verb, args));
      const commands = rule?.replace(this.#words(block, start - begin, end - begin), end);
      if (commands === undefined) continue;
      if (start > begin) pass(start - begin);
      out.push(encodeCommands(commands));
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
}
