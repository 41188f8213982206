import { formatAge, formatBytes } from "../../base/quantity.ts";
import { printable } from "../../base/printable.ts";
import { type Column, fittedTables } from "../terminal/fitted-table.ts";
import type { Info } from "./info-connection.ts";
import { Fields } from "./info-fields.ts";
import { shardsOf } from "./shard-fields.ts";

/** A name and what it is, as one line or more. */
export type Row = readonly [name: string, value: string];

/** What is true of the cluster as a whole. */
export function clusterRows(fields: Fields): Row[] {
  return [
    ["cluster", fields.text("primary")],
    ["state", stateOf(fields)],
    ["slots", `${fields.count("cluster_slots_covered")} of 16,384`],
    ["shards", shardsText(fields)],
    ["restorable", restorableOf(fields)],
    ["log", fields.bytes("log_bytes")],
    ["syncs", `${fields.count("full_syncs")} full, ${fields.count("partial_syncs")} partial`],
    ["breaks", fields.count("breaks")],
    ["uptime", fields.age("uptime_in_seconds")],
  ];
}

function stateOf(fields: Fields): string {
  const age = fields.number("topology_age_seconds") ?? -1;
  const trouble = fields.text("topology_trouble");
  const told = age < 0 ? "no node has told it yet" : `told ${formatAge(age)} ago`;
  const state = `cluster_state:${fields.text("cluster_state")}, ${fields.counted("cluster_known_nodes", "node")}, ${told}`;
  return trouble === "" || trouble === "?" ? state : `${state}; ${trouble}`;
}

function shardsText(fields: Fields): string {
  const ended = fields.number("shards_ended") ?? 0;
  const text = `${fields.count("shards_ready")} of ${fields.count("shards")} ready`;
  return ended === 0 ? text : `${text}, ${ended} ended`;
}

function restorableOf(fields: Fields): string {
  if ((fields.number("newest_restorable_time") ?? 0) === 0) return "not all shards yet";
  return `all shards up to ${fields.moment("newest_restorable_time")}`;
}

/**
 * A row for each shard, and below them why some are not ready.
 * @param columns the width; undefined: no limit.
 */
export function shardLines(info: Info, columns: number | undefined): string[] {
  const shards = shardsOf(info).map(({ label, fields }) => ({ label, fields: new Fields(fields) }));
  const column = (title: string, cell: (fields: Fields) => string): Column => ({
    title,
    cells: shards.map(({ fields }) => cell(fields)),
  });
  const isArchived = shards.some(({ fields }) => fields.text("archive_state") !== "?");
  const archive = column("archive", (fields) => known(fields.text("archive_state")));
  const all = [
    column("state", (fields) => known(fields.text("state"))),
    column("slots", (fields) => known(fields.text("slots")) || "-"),
    column("primary", (fields) => known(fields.text("primary")) || "-"),
    column("not durable", lagOf),
    column("snapshot", (fields) => fields.bytes("rdb_bytes")),
    column("log", (fields) => fields.bytes("log_bytes")),
    ...(isArchived ? [archive] : []),
  ];
  const label = { title: "shard", cells: shards.map((shard) => shard.label) };
  const lines = fittedTables([label], [all], columns).trimEnd().split("\n");
  const reasons = shards.flatMap(({ label, fields }) => {
    const why = known(fields.text("not_ready_reason"));
    if (why === "" || fields.text("ready") === "1") return [];
    const text = `shard ${label}: ${printable(why)}`;
    return columns === undefined ? [text] : Bun.wrapAnsi(text, columns, { hard: true }).split("\n");
  });
  return reasons.length === 0 ? lines : [...lines, "", ...reasons];
}

function known(text: string): string {
  return text === "?" ? "" : printable(text);
}

function lagOf(fields: Fields): string {
  const received = fields.number("received_offset");
  const durable = fields.number("durable_offset");
  return received === undefined || durable === undefined ? "?" : formatBytes(received - durable);
}
