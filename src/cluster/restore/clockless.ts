import { ReplicaError } from "../../base/errors.ts";
import type { Words } from "../../resp/absolute-expiry.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { Verb } from "../../resp/verbs.ts";
import { filesOf } from "../../store/generation/layout.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import { headerOf } from "../../store/restore/rdb-header.ts";
import { expiryRules } from "../../store/rewrite/expiry-rules.ts";
import type { RewriteRule } from "../../store/rewrite/log-rewriter.ts";
import type { SlotCommand } from "../../store/rewrite/slot-commands.ts";
import type { ShardLog, WholePart } from "./shard-log.ts";

const ABSTTL = Buffer.from("ABSTTL");

/**
 * Makes commands of a shard's log do in another log what they did in their own, whenever that is loaded: by the rules,
 * the version and the times of the log that they come from. One instance belongs to one passage of commands.
 */
export class Clockless {
  readonly #log: ShardLog;
  readonly #verbs: ReadonlySet<Verb>;
  readonly #rules = new Map<number, readonly RewriteRule[]>();

  /** @param verbs of all commands of the passage, as far as `Verb` names them. */
  constructor(log: ShardLog, verbs: ReadonlySet<Verb>) {
    this.#log = log;
    this.#verbs = verbs;
  }

  /** Returns what replaces a command; undefined where it stays as it is. */
  replacing({ generation }: WholePart, { verb, bytes, end }: SlotCommand): Words[] | undefined {
    if (verb === undefined) return undefined;
    const words = wordsOf(bytes);
    const rule = this.#rulesOf(generation).find((one) => one.concerns(verb, words.length));
    return rule?.replace(words, end);
  }

  /** The words of a RESTORE-ASKING, whose time to live counts from no load (servers since 5.0 know ABSTTL). */
  arrival(part: WholePart, command: SlotCommand): Words {
    const [restore, expiry] = this.replacing(part, command) ?? [];
    const at = expiry?.[2];
    if (restore === undefined || at === undefined) return wordsOf(command.bytes);
    return restore.with(2, at).concat([ABSTTL]);
  }

  #rulesOf(generation: KeptGeneration): readonly RewriteRule[] {
    const known = this.#rules.get(generation.id);
    if (known !== undefined) return known;
    const header = headerOf(filesOf(generation).base);
    const rules = expiryRules(header, this.#verbs, this.#log.timesIn(generation));
    this.#rules.set(generation.id, rules);
    return rules;
  }
}

/**
 * The words of a RESTORE-ASKING without REPLACE.
 * @throws ReplicaError BAD_FRAME where words are missing.
 */
export function restoreWords(words: Words): Uint8Array[] {
  if (words.length < 4) {
    throw new ReplicaError("BAD_FRAME", {
      retry: "never",
      message: `a RESTORE-ASKING in the log has ${words.length} words: it has at least 4`,
    });
  }
  return words.filter((word, index) => index < 4 || !isReplace(word));
}

const REPLACE = "REPLACE";

function isReplace(word: Uint8Array): boolean {
  return (
    word.length === REPLACE.length && Buffer.from(word).toString("latin1").toUpperCase() === REPLACE
  );
}
