import { ReplicaError } from "../../base/errors.ts";
import type { GuardedDatabase } from "../../store/ledger/guarded-database.ts";
import { parseRanges, type SlotRange } from "../slots/slot-ranges.ts";

/** Which shard owned which slots, as one look at the cluster found it. */
export interface Layout {
  /** When it was first seen, and when a look last found the same; milliseconds since 1970. */
  readonly atMs: number;
  readonly confirmedMs: number;
  /** The cluster's current epoch at that look. */
  readonly epoch: number;
  /** By the shards' numbers; those without slots have an empty list, or none. */
  readonly slots: ReadonlyMap<number, readonly SlotRange[]>;
}

/** A slot that one shard was migrating to another, as looks at the cluster saw it. */
export interface OpenSlot {
  readonly slot: number;
  /** The shards' numbers. */
  readonly source: number;
  readonly target: number;
  /** The first look that saw it open. */
  readonly fromMs: number;
  /** The first look that didn't; undefined where the last look saw it. */
  readonly untilMs: number | undefined;
}

/** A row of `layouts`. */
export interface LayoutRow {
  readonly seq: number;
  readonly atMs: number;
  readonly confirmedMs: number;
  readonly epoch: number;
}

export const LAYOUT = "seq, at_ms AS atMs, confirmed_ms AS confirmedMs, epoch";

/**
 * What each shard owns in a layout. A layout has rows for those shards alone that changed with it.
 * @param path how a message names the database.
 * @throws ReplicaError of the database; DIRECTORY_DAMAGED for slots that can't be.
 */
export function readLayout(sql: GuardedDatabase, path: string, row: LayoutRow): Layout {
  const rows = sql.all<{ shard: number; slots: string }>(
    `SELECT number AS shard, slots FROM shards JOIN layout_slots ON shard = number AND layout =
       (SELECT max(layout) FROM layout_slots WHERE shard = number AND layout <= ?)`,
    row.seq,
  );
  return asLayout(row, new Map(rows.map(({ shard, slots }) => [shard, rangesOf(path, slots)])));
}

/**
 * The layouts after one that began by some time. A row has but what changed since the row before it, of whatever time:
 * where the clock was set back, that one may be later.
 * @param before the layout that they follow.
 */
export function readLayoutsAfter(
  sql: GuardedDatabase,
  path: string,
  before: LayoutRow,
  layout: Layout,
  untilMs: number,
): Layout[] {
  const layouts: Layout[] = [];
  let { slots } = layout;
  const rows = sql.all<LayoutRow>(
    `SELECT ${LAYOUT} FROM layouts WHERE seq > ?1
       AND seq <= (SELECT max(seq) FROM layouts WHERE seq > ?1 AND at_ms <= ?2) ORDER BY seq`,
    before.seq,
    untilMs,
  );
  for (const row of rows) {
    const changed = sql.all<{ shard: number; slots: string }>(
      "SELECT shard, slots FROM layout_slots WHERE layout = ?",
      row.seq,
    );
    slots = new Map([
      ...slots,
      ...changed.map((one) => [one.shard, rangesOf(path, one.slots)] as const),
    ]);
    if (row.atMs <= untilMs) layouts.push(asLayout(row, slots));
  }
  return layouts;
}

function asLayout(
  { atMs, confirmedMs, epoch }: LayoutRow,
  slots: ReadonlyMap<number, readonly SlotRange[]>,
): Layout {
  return { atMs, confirmedMs, epoch, slots };
}

function rangesOf(path: string, text: string): SlotRange[] {
  const ranges = parseRanges(text);
  if (ranges !== undefined) return ranges;
  throw new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is damaged: it holds the slots "${text.slice(0, 100)}", which can't be: restore it from a copy`,
  });
}
