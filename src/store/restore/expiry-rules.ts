import { type RdbHeader, replicationAux } from "../../rdb/header.ts";
import {
  absoluteExpiry,
  mayExpireRelatively,
  streamsRelativeExpiries,
  type Words,
} from "../../resp/absolute-expiry.ts";
import {
  dependsOnFieldExpiries,
  FieldExpiries,
  mayDependOnFieldExpiry,
} from "../../resp/field-expiry.ts";
import type { Verb } from "../../resp/verbs.ts";

/** Which commands of a log are rewritten, and how. */
export interface ExpiryRule {
  /** Whether it may concern a command of this verb, with `args` words; only then are its words read. */
  concerns(verb: Verb | undefined, args: number): boolean;
  /**
   * Returns the commands that replace this one, which ends at byte `end` of the file; undefined where it stays
   * as it is.
   */
  replace(words: Words, end: number): Words[] | undefined;
}

/** When the log's file up to byte `until` had arrived, in milliseconds since 1970. */
export interface KnownUntil {
  readonly atMs: number;
  readonly until: number;
}

/** Tells when everything before byte `end` of the file had arrived; undefined where no mark tells. */
export type TimeOf = (end: number) => KnownUntil | undefined;

/**
 * Whether a log with these verbs, behind a snapshot with this header, has to be rewritten: whether what its
 * commands do depends on when they are replayed.
 */
export function dependsOnReplayTime(header: RdbHeader, verbs: ReadonlySet<Verb>): boolean {
  return hasRelativeExpiries(header) || dependsOnFieldExpiries(signsOf(header, verbs));
}

/** The rules for such a log; none where `dependsOnReplayTime` is false. */
export function expiryRules(
  header: RdbHeader,
  verbs: ReadonlySet<Verb>,
  timeOf: TimeOf,
): ExpiryRule[] {
  const rules: ExpiryRule[] = [];
  if (hasRelativeExpiries(header)) rules.push(relativeExpiries(timeOf));
  const signs = signsOf(header, verbs);
  if (dependsOnFieldExpiries(signs)) {
    const fields = new FieldExpiries(signs);
    rules.push({
      concerns: mayDependOnFieldExpiry,
      replace: (words) => fields.clockless(words),
    });
  }
  return rules;
}

/**
 * Makes relative expiries (of Redis before 7.0) absolute, by the times of the marks: replayed as they are, they
 * would count from the replay. Where no mark tells the time, a command stays as it is.
 */
export function relativeExpiries(timeOf: TimeOf): ExpiryRule {
  /** The mark that covers the last command. */
  let known: KnownUntil | undefined;
  return {
    concerns: mayExpireRelatively,
    replace(words, end) {
      if (known === undefined || end > known.until) known = timeOf(end);
      return known && absoluteExpiry(words, known.atMs);
    },
  };
}

function hasRelativeExpiries(header: RdbHeader): boolean {
  return streamsRelativeExpiries(replicationAux(header).redisVersion);
}

function signsOf({ aux }: RdbHeader, verbs: ReadonlySet<Verb>) {
  return { verbs, redisVersion: aux.get("redis-ver"), valkeyVersion: aux.get("valkey-ver") };
}
