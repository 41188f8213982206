import { formatBytes } from "../../base/quantity.ts";
import { printable } from "../../base/printable.ts";
import type { Snapshot } from "../../inspect/snapshots/snapshot.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { type Column, fittedTables, PLAIN_COLUMNS } from "../terminal/fitted-table.ts";

/** A snapshot as it is listed, and which shard of a cluster it is of. */
export interface Listed {
  readonly snapshot: Snapshot;
  readonly shard?: { readonly name: string; readonly ended: string | undefined };
}

/** Lists snapshots in tables of 80 columns: when, how much, where from, and why they were sealed. */
export function snapshotTables(listed: readonly Listed[]): string {
  const column = (title: string, cell: (snapshot: Snapshot) => string | number): Column => ({
    title,
    cells: listed.map(({ snapshot }) => cell(snapshot)),
  });
  const id = column("id", (one) => one.id);
  const state = column("state", (one) => one.state);
  const times = [
    column("from", (one) => timeOf(one.fromMs)),
    column("until", (one) => timeOf(one.toMs)),
  ];
  const sizes = [
    column("from offset", (one) => one.fromOffset),
    column("to offset", (one) => one.toOffset),
    column("snapshot", (one) => formatBytes(one.rdbBytes)),
    column("log", (one) => formatBytes(one.logBytes)),
  ];
  const origin = [
    column("primary", (one) => printable(one.primary ?? "unknown")),
    column("server", (one) => printable(one.primaryVersion ?? "unknown")),
    column("rdb", (one) => one.rdbFormat ?? "unknown"),
  ];
  const sealed = column("sealed because", (one) => printable(one.sealedReason ?? ""));
  const ended = { title: "shard ended", cells: listed.map(({ shard }) => shard?.ended ?? "") };
  // An archive's ids are names, beside which the times alone find room.
  const isNamed = listed.some(({ snapshot }) => typeof snapshot.id === "string");
  const first = isNamed ? [times, [state, ...sizes]] : [[state, ...times], sizes];
  const keys = listed.some(({ shard }) => shard !== undefined)
    ? [{ title: "shard", cells: listed.map(({ shard }) => shard?.name ?? "") }, id]
    : [id];
  const more = [sealed, ended].filter(({ cells }) => cells.some((cell) => cell !== ""));
  return fittedTables(keys, [...first, origin, ...more.map((one) => [one])], PLAIN_COLUMNS);
}

function timeOf(ms: number | undefined): string {
  return ms === undefined ? "unknown" : shownTime(ms);
}
