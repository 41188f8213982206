import { styleText } from "node:util";
import { counted, formatAge, formatBytes, formatProgress } from "../../base/quantity.ts";
import { withCause } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import { FULL_REASONS } from "../../upstream/link/full-reason.ts";
import type { Info } from "./info-connection.ts";
import { printable } from "../../base/printable.ts";
import { clusterRows, type Row, shardLines } from "./cluster-screen.ts";
import { Fields } from "./info-fields.ts";
import { isReady } from "./info-json.ts";
import { isCluster } from "./shard-fields.ts";

/** What to show. */
export interface Scene {
  /** The replica's address as HOST:PORT. */
  readonly at: string;
  /** The last answer; undefined if there never was one. */
  readonly info: Info | undefined;
  /** Why there is no answer now, and for how long; undefined if there is one. */
  readonly away?: { readonly reason: string; readonly seconds: number };
}

/** How to show it. */
export interface Look {
  /** The width to wrap lines at; undefined: no wrapping. */
  readonly columns: number | undefined;
  readonly hasColors: boolean;
}

type Format = Parameters<typeof styleText>[0];

const NAME_COLUMNS = 14;
/** On a narrower terminal, lines are cut at the edge. */
const LEAST_VALUE_COLUMNS = 20;

/** The screen as lines: a headline and a table. */
export function screenLines({ at, info, away }: Scene, { columns, hasColors }: Look): string[] {
  const paint = (format: Format, text: string): string =>
    hasColors ? styleText(format, text, { validateStream: false }) : text;
  const wrap = (text: string, width: number | undefined): string[] =>
    width === undefined ? [text] : Bun.wrapAnsi(text, width, { hard: true }).split("\n");

  const head = wrap(headline(at, info, away, paint), columns);
  if (info === undefined) return head;
  const width =
    columns === undefined ? undefined : Math.max(LEAST_VALUE_COLUMNS, columns - NAME_COLUMNS);
  const fields = new Fields(info);
  const rows = (isCluster(info) ? clusterRows(fields) : rowsOf(fields)).flatMap(([name, value]) =>
    wrap(printable(value), width).map((line, index) => {
      const label = (index === 0 ? name : "").padEnd(NAME_COLUMNS);
      // A state that is no longer current is dimmed.
      return away === undefined ? `${paint("dim", label)}${line}` : paint("dim", label + line);
    }),
  );
  const below = isCluster(info) ? ["", ...shardLines(info, columns)] : [];
  return [
    ...head,
    "",
    ...rows,
    ...below.map((line) => (away === undefined ? line : paint("dim", line))),
  ];
}

function headline(
  at: string,
  info: Info | undefined,
  away: Scene["away"],
  paint: (format: Format, text: string) => string,
): string {
  if (away !== undefined || info === undefined) {
    const { reason = "not asked yet", seconds = 0 } = away ?? {};
    const since = info === undefined ? "" : `; the state below is ${formatAge(seconds)} old`;
    return `${at}: ${paint(["bold", "red"], "no answer")}: ${printable(reason)}${since}`;
  }
  if (isReady(info)) return `${at} is ${paint(["bold", "green"], "ready")}`;
  // A full resync in progress leads to ready.
  const color = info.get("master_sync_in_progress") === "1" ? "yellow" : "red";
  const reason = printable(info.get("not_ready_reason") ?? "");
  return `${at} is ${paint(["bold", color], "not ready")}: ${reason}`;
}

function rowsOf(fields: Fields): Row[] {
  return [
    ["state", stateOf(fields)],
    ["primary", primaryOf(fields)],
    ...transferOf(fields),
    ...offsetsOf(fields),
    ["lag", lagOf(fields)],
    ["restorable", restorableOf(fields)],
    ["generation", generationOf(fields)],
    ...shrunkenOf(fields),
    ["log", fields.bytes("log_bytes")],
    ["sealed", fields.counted("sealed_generations", "sealed generation")],
    ...newSnapshotOf(fields),
    ...archiveOf(fields),
    ...downstreamsOf(fields),
    ["disk", roomOf(fields)],
    ["syncs", syncsOf(fields)],
    ["breaks", breaksOf(fields)],
    ...otherHistoryOf(fields),
    ["last error", lastErrorOf(fields)],
    ["uptime", uptimeOf(fields)],
  ];
}

function stateOf(fields: Fields): string {
  const state = fields.text("state");
  // It may be up without anything that can come over it.
  if (state === "connected") {
    return `${state}, last heard ${fields.age("master_last_io_seconds_ago")} ago`;
  }
  const downSeconds = fields.number("master_link_down_since_seconds") ?? -1;
  if (downSeconds < 0) return `${state}, never connected since its start`;
  return `${state}, down for ${formatAge(downSeconds)}`;
}

function primaryOf(fields: Fields): string {
  const primary = fields.text("primary");
  if (fields.number("offline") === 1) {
    return fields.number("served_offset") === 0
      ? "none (--offline): nothing is served yet"
      : `none (--offline): serving what is kept, up to offset ${fields.count("served_offset")}`;
  }
  if (primary === "") return "none, since REPLICAOF NO ONE";
  return fields.text("master_host") === "" ? `${primary}, which names no primary yet` : primary;
}

function transferOf(fields: Fields): Row[] {
  if (fields.number("master_sync_in_progress") !== 1) return [];
  const readBytes = fields.number("master_sync_read_bytes") ?? 0;
  // With $EOF the total is unknown before the end, and Redis reports 0.
  const totalBytes = fields.number("master_sync_total_bytes") || undefined;
  if (fields.text("state") !== "transfer") {
    const age = fields.age("sync_preparing_seconds");
    return [["transfer", `the primary is preparing the snapshot (fork), for ${age} so far`]];
  }
  if (readBytes === totalBytes) {
    return [["transfer", `${formatBytes(readBytes)} received; verifying and syncing`]];
  }
  const rate = fields.number("received_bytes_per_second") ?? 0;
  const expectedBytes = fields.number("sync_expected_bytes") || undefined;
  const figures = formatProgress(readBytes, totalBytes, rate, expectedBytes);
  return [["transfer", figures.trimStart()]];
}

function offsetsOf(fields: Fields): Row[] {
  const names = ["received", "written", "durable"];
  const offsets = names.map((name) => fields.count(`${name}_offset`));
  const width = Math.max(...offsets.map((offset) => offset.length));
  return names.map((name, index): Row => {
    const rate = fields.number(`${name}_bytes_per_second`);
    const perSecond = rate === undefined ? "" : `   ${formatBytes(rate)}/s`;
    return [name, `offset ${(offsets[index] ?? "").padStart(width)}${perSecond}`];
  });
}

function lagOf(fields: Fields): string {
  const bytes = fields.number("durable_lag_bytes");
  const age = fields.number("durable_age_seconds");
  // What was never received is no lag; how old the copy is by now is what counts then.
  const isUp = fields.text("master_link_status") === "up";
  if (bytes === 0 && age === 0 && !isUp) return staleFor(fields);
  if (bytes === 0 && age === 0) return "none: everything received is durable";
  const seconds = age === undefined ? "?" : `${age.toFixed(1)} s`;
  return `${fields.bytes("durable_lag_bytes")} not durable yet, the oldest for ${seconds}`;
}

function staleFor(fields: Fields): string {
  const seconds = fields.number("stale_seconds");
  if (seconds === -1) return "nothing is kept yet";
  return `stale for ${fields.age("stale_seconds")}`;
}

/** The moments that a restore can choose from. */
function restorableOf(fields: Fields): string {
  const newest = fields.number("newest_restorable_time") ?? 0;
  if (newest === 0) return "nothing yet";
  // Both are whole seconds, the oldest rounded up: right after the first snapshot they cross.
  const isOne = newest < (fields.number("oldest_restorable_time") ?? 0);
  if (isOne) return `only ${fields.moment("oldest_restorable_time")}`;
  const from = fields.moment("oldest_restorable_time");
  return `from ${from} to ${fields.moment("newest_restorable_time")}`;
}

function generationOf(fields: Fields): string {
  if (fields.number("generation") === 0) return "none yet";
  const since = fields.moment("rdb_last_save_time");
  return `${fields.text("generation")}, snapshot of ${fields.bytes("rdb_bytes")}, since ${since}`;
}

/** The snapshot of a new generation, which arrives over a second link. */
function newSnapshotOf(fields: Fields): Row[] {
  if (fields.number("rdb_bgsave_in_progress") === 1) {
    const preparing = fields.number("snapshot_preparing_seconds") ?? -1;
    const age = fields.age("rdb_current_bgsave_time_sec");
    const what = preparing < 0 ? renewedOf(fields) : "the primary is preparing it (fork)";
    return [["new snapshot", `${what}, for ${age} so far`]];
  }
  const error = fields.text("last_snapshot_error");
  return error === "" ? [] : [["new snapshot", `the last one failed: ${error}`]];
}

/** How much of it has come. */
function renewedOf(fields: Fields): string {
  const totalBytes = fields.number("snapshot_total_bytes") ?? 0;
  const expectedBytes = fields.number("snapshot_expected_bytes") ?? 0;
  const about = expectedBytes === 0 ? "" : ` of about ${formatBytes(expectedBytes)} (estimate)`;
  const of = totalBytes === 0 ? about : ` of ${formatBytes(totalBytes)}`;
  return fields.bytes("snapshot_read_bytes") + of;
}

/** What is archived, where something is. */
function archiveOf(fields: Fields): Row[] {
  const url = fields.text("archive_url");
  if (url === "" || url === "?") return [];
  return [
    ["archive", `${url}: ${fields.text("archive_state")}`],
    ["archived", archivedOf(fields)],
    ["sent", sentOf(fields)],
  ];
}

/** How far it has come. A figure that isn't there is known to nobody. */
function archivedOf(fields: Fields): string {
  const hasBase = fields.number("archive_offset") !== undefined;
  const reached = hasBase ? `offset ${fields.count("archive_offset")}` : "no snapshot yet";
  const lagBytes = fields.number("archive_lag_bytes");
  const baseBytes = fields.number("archive_lag_snapshot_bytes");
  const success = fields.number("archive_last_success_time");
  const last =
    success === undefined ? "" : `; last sent ${fields.moment("archive_last_success_time")}`;
  if (lagBytes === undefined || baseBytes === undefined) return `${reached}, lag not known${last}`;
  if (lagBytes + baseBytes === 0) return `${reached}, lacks nothing${last}`;
  const bases = baseBytes === 0 ? "" : ` and ${formatBytes(baseBytes)} of snapshots`;
  const age = fields.age("archive_lag_seconds");
  return `${reached}, lacks ${formatBytes(lagBytes)} of log${bases}, the oldest for ${age}${last}`;
}

function sentOf(fields: Fields): string {
  const kinds = [
    ["segment", "segment"],
    ["piece", "piece"],
    ["document", "document"],
  ] as const;
  const sent = kinds.map(
    ([kind, noun]) =>
      `${counted(fields.number(`archive_${kind}_objects`) ?? 0, noun)} (${fields.bytes(`archive_${kind}_bytes`)})`,
  );
  const failures = fields.number("archive_failures") ?? 0;
  const by = fields.text("archive_failures_by_code").replaceAll("=", ": ").replaceAll(",", ", ");
  return `${sent.join(", ")}${failures === 0 ? "" : `; ${counted(failures, "failure")} (${by})`}`;
}

/** The replicas attached to this one, if any. */
function downstreamsOf(fields: Fields): Row[] {
  const count = fields.number("connected_slaves") ?? 0;
  const all = Array.from({ length: Math.min(count, limits.clients) }, (_, n) => {
    const about = fields.text(`slave${n}`);
    const [, state, offset] = /state=(\w+),offset=(\d{1,16}),/.exec(about) ?? [];
    return { isOnline: state === "online", offset: Number(offset ?? 0) };
  });
  if (all.length === 0) return [];
  const online = all.filter(({ isOnline }) => isOnline);
  const end = fields.number("master_repl_offset") ?? 0;
  // A replica that has just attached has acknowledged nothing yet.
  const acked = online.filter(({ offset }) => offset > 0);
  const behind = Math.max(0, ...acked.map(({ offset }) => end - offset));
  const lag = acked.length === 0 ? "" : `, at most ${formatBytes(behind)} behind`;
  return [
    ["feeds", `${fields.counted("connected_slaves", "replica")}, ${online.length} online${lag}`],
  ];
}

function roomOf(fields: Fields): string {
  const isLow = fields.number("disk_low") === 1;
  const low = isLow ? ", less than --min-free: no new snapshot is taken" : "";
  const removable = fields.number("disk_removable_bytes") ?? 0;
  const gives = removable === 0 ? "" : `, ${formatBytes(removable)} in old generations give way`;
  const left = fields.number("disk_left_seconds") ?? -1;
  // "0 B free" says it where it is full.
  const full = left <= 0 ? "" : `, full in ${formatAge(left)} at the present rate`;
  return `${fields.bytes("disk_free_bytes")} free${gives}${low}${full}`;
}

function shrunkenOf(fields: Fields): Row[] {
  if (fields.number("shrunken") !== 1) return [];
  const since = fields.age("shrunken_seconds");
  const from = fields.text("shrunken_from");
  return [["shrunken", `for ${since}: less than half of ${from}; that one is kept`]];
}

function syncsOf(fields: Fields): string {
  const reasons = FULL_REASONS.flatMap((reason) => {
    const count = fields.number(`full_syncs_${reason.replaceAll("-", "_")}`) ?? 0;
    return count === 0 ? [] : [`${reason.replaceAll("-", " ")}: ${count}`];
  });
  const why = reasons.length === 0 ? "" : ` (${reasons.join(", ")})`;
  return `${fields.count("full_syncs")} full${why}, ${fields.count("partial_syncs")} partial`;
}

function breaksOf(fields: Fields): string {
  const failed = fields.number("attempts_failed") ?? 0;
  const attempts = failed === 0 ? "" : `, ${fields.counted("attempts_failed", "failed attempt")}`;
  return `${fields.count("breaks")}${attempts}`;
}

function otherHistoryOf(fields: Fields): Row[] {
  const text = fields.text("other_history");
  if (text === "" || text === "?") return [];
  return [["history", `${fields.moment("other_history_time")}: ${text}`]];
}

function lastErrorOf(fields: Fields): string {
  const error = fields.text("last_error");
  if (error === "") return "none";
  const cause = fields.text("last_error_cause");
  return `${fields.moment("last_error_time")}: ${withCause(error, cause)}`;
}

function uptimeOf(fields: Fields): string {
  const snapshots = fields.bytes("received_snapshot_bytes");
  const stream = fields.bytes("received_stream_bytes");
  return `${fields.age("uptime_in_seconds")}; received ${snapshots} of snapshots, ${stream} of stream`;
}
