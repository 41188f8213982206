import type { Position } from "../../base/history.ts";
import { parseInfo } from "../../resp/info-text.ts";

/** What a primary says in INFO of how large a full resync would be, and whether there will be one. */
export interface PrimarySize {
  /** Its data in memory, in bytes; undefined where it doesn't say. */
  readonly datasetBytes: number | undefined;
  /** All of its memory, in bytes, as its snapshots tell it too; undefined where it doesn't say. */
  readonly usedBytes: number | undefined;
  /** Whether it can continue after what is kept; undefined where it doesn't say. */
  readonly continues: boolean | undefined;
}

/** Reads INFO. Whatever is missing or malformed counts as not known. */
export function readPrimarySize(text: string, resume: Position | undefined): PrimarySize {
  const info = parseInfo(text);
  const number = (name: string): number | undefined => {
    const value = info.get(name) ?? "";
    return /^\d{1,15}$/.test(value) ? Number(value) : undefined;
  };
  const ids = [info.get("master_replid"), info.get("master_replid2")] as const;
  return {
    datasetBytes: number("used_memory_dataset"),
    usedBytes: number("used_memory"),
    continues: resume && continuesAfter(resume, ids, number),
  };
}

/** As a primary decides it ("Redis 7.2, replication.c": masterTryPartialResync). */
function continuesAfter(
  { replid, offset }: Position,
  [first, second]: readonly [string | undefined, string | undefined],
  number: (name: string) => number | undefined,
): boolean | undefined {
  const next = offset + 1;
  const begin = number("repl_backlog_first_byte_offset");
  const length = number("repl_backlog_histlen");
  if (first === undefined || begin === undefined || length === undefined) return undefined;
  const isOlder = replid === second && next <= (number("second_repl_offset") ?? 0);
  const isKnown = replid === first || isOlder;
  const isActive = number("repl_backlog_active") !== 0;
  return isKnown && isActive && next >= begin && next <= begin + length;
}
