import { limits } from "../../config/limits.ts";
import { encodeCommands } from "../../resp/encode.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { Words } from "../../resp/absolute-expiry.ts";
import type { Verb } from "../../resp/verbs.ts";

/** Which commands of a log are rewritten, and how. */
export interface RewriteRule {
  /** Whether it may concern a command of this verb, with `args` words; only then are its words read. */
  concerns(verb: Verb | undefined, args: number): boolean;
  /**
   * Returns the commands that replace this one, which ends at byte `end` of the file: none to leave it out; undefined
   * where it stays as it is.
   */
  replace(words: Words, end: number): Words[] | undefined;
}

/** Rewrites an undamaged log command by command; what no rule replaces passes byte by byte. */
export class LogRewriter {
  readonly #scanner = new FrameScanner({ limits: limits.frame });
  readonly #rules: readonly RewriteRule[];
  #readBytes = 0;
  /** The beginning of an unfinished command, from earlier blocks. */
  #begun: Uint8Array[] = [];
  replacedCommands = 0;

  /** @param rules of which at most one concerns a verb. */
  constructor(rules: readonly RewriteRule[]) {
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
      const rule = this.#ruleFor(verb, args);
      if (rule === undefined) continue;
      const commands = rule.replace(this.#words(block, start - begin, end - begin), end);
      if (commands === undefined) continue;
      if (start > begin) pass(start - begin);
      out.push(encodeCommands(commands));
      this.#begun = [];
      done = end - begin;
      this.replacedCommands++;
    }
    if (this.#scanner.end > begin) pass(this.#scanner.end - begin);
    // A long command that stays as it is passes without being held.
    const { unfinished } = this.#scanner;
    const stays = unfinished && this.#ruleFor(unfinished.verb, unfinished.args) === undefined;
    if (stays) pass(block.length);
    else if (done < block.length) this.#begun.push(Uint8Array.from(block.subarray(done)));
    return out;
  }

  #ruleFor(verb: Verb | undefined, args: number): RewriteRule | undefined {
    return verb && this.#rules.find((one) => one.concerns(verb, args));
  }

  /** The words of the command between two bytes of the block; it may have begun before the block. */
  #words(block: Uint8Array, from: number, to: number): Uint8Array[] {
    if (from >= 0) return wordsOf(block.subarray(from, to));
    return wordsOf(Buffer.concat([...this.#begun, block.subarray(0, to)]));
  }
}
