import { counted, formatBytes } from "../../base/quantity.ts";
import type { Position } from "../../base/history.ts";
import type { FullSyncGrant } from "../../session/state.ts";

/** Why a primary insisted on a full resync, for programs. */
export const FULL_REASONS = [
  "nothing-kept",
  "no-psync",
  "other-history",
  "primary-behind",
  "backlog-too-small",
  "disk-full",
] as const;

export type FullReason = (typeof FULL_REASONS)[number];

/**
 * The full resync in one line: where it begins, why the primary insists on it, what would have spared it.
 * @param isForRoom see `whyFull`.
 */
export function describeFullResync(
  asked: Position | undefined,
  grant: FullSyncGrant,
  isForRoom = false,
): string {
  const where = grant.by === "psync" ? `at offset ${grant.position.offset}` : "by SYNC";
  return `full resync ${where}: ${whyFull(asked, grant, isForRoom)[1]}`;
}

/**
 * Why the primary insists on a full resync, for programs and for people.
 * @param isForRoom whether it was asked for, in place of what comes after `asked`, to end a log that fills the disk.
 */
export function whyFull(
  asked: Position | undefined,
  grant: FullSyncGrant,
  isForRoom = false,
): [FullReason, string] {
  if (asked === undefined) return ["nothing-kept", "nothing was kept to resume from"];
  if (grant.by === "sync") return ["no-psync", "the primary doesn't support partial resync"];
  const { replid, offset } = grant.position;
  const gapBytes = offset - asked.offset;
  const size = `repl-backlog-size to at least ${formatBytes(2 ** Math.ceil(Math.log2(gapBytes + 1)))}`;
  if (replid !== asked.replid) {
    const other = `the primary's history (${replid}) differs from the one kept up to offset ${asked.offset} (${asked.replid}): it was restarted or replaced, or it dropped its backlog after repl-backlog-ttl without a replica`;
    const why =
      gapBytes > 0
        ? `${other}, or was promoted with too small a backlog (this gap of ${counted(gapBytes, "byte")} needs ${size})`
        : `${other}, or it is behind this replica`;
    return ["other-history", why];
  }
  if (isForRoom) {
    const why = `the log up to offset ${asked.offset} had filled the disk, so that what came after it could not be kept`;
    return ["disk-full", why];
  }
  if (gapBytes < 0) {
    const why = `the primary is at offset ${offset}, behind offset ${asked.offset} that is kept here`;
    return ["primary-behind", why];
  }
  const why =
    gapBytes === 0
      ? "the primary has no backlog, though nothing was missed"
      : `the primary's backlog no longer holds offset ${asked.offset + 1}: the gap is ${counted(gapBytes, "byte")}, set ${size}`;
  return ["backlog-too-small", why];
}
