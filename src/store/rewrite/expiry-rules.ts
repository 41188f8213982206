import { type RdbHeader, replicationAux } from "../../rdb/header.ts";
import {
  absoluteExpiry,
  mayExpireRelatively,
  streamsRelativeExpiries,
} from "../../resp/absolute-expiry.ts";
import {
  dependsOnFieldExpiries,
  FieldExpiries,
  mayDependOnFieldExpiry,
} from "../../resp/field-expiry.ts";
import type { Verb } from "../../resp/verbs.ts";
import type { RewriteRule } from "./log-rewriter.ts";

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
): RewriteRule[] {
  const rules: RewriteRule[] = [];
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
export function relativeExpiries(timeOf: TimeOf): RewriteRule {
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
