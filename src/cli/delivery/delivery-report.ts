import type { ReplicaError } from "../../base/errors.ts";
import { bytesToJson, jsonLine } from "../../base/printable.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import type { Told } from "../../inspect/deliver/deliver.ts";
import type { Outcome } from "../../inspect/deliver/parcel.ts";
import { shownKey } from "./key-rows.ts";

/** The moment that the keys come from. */
export interface DeliveryMoment {
  /** The kept history, as it was given. */
  readonly source: string;
  readonly generation: string | number;
  readonly offset: number;
  /** Milliseconds since 1970; undefined where no mark tells. */
  readonly atMs: number | undefined;
}

/** What a delivery did, or would do. */
export interface DeliveryReport {
  readonly moment: DeliveryMoment;
  readonly target: string;
  readonly server: string;
  readonly isDryRun: boolean;
  readonly replace: boolean;
  readonly found: number;
  readonly counts: Readonly<Record<Outcome, number>>;
  readonly uncertain: number;
  /** Of the payloads that were restored, or would be. */
  readonly bytes: number;
  /** How many times the link broke. */
  readonly breaks: number;
  /** Why it ended early. */
  readonly error: ReplicaError | undefined;
}

/** How many keys of an outcome are named to people. */
export const MAX_NAMED = 20;

/** The keys that people are told of by name, few of each outcome, and all that programs are. */
export class KeysTold {
  readonly #named = new Map<Outcome, string[]>();

  add({ entry, outcome, why, isUncertain }: Told): void {
    const names = this.#named.get(outcome) ?? [];
    this.#named.set(outcome, names);
    if (names.length >= MAX_NAMED) return;
    const db = entry.db === 0 ? "" : ` (database ${entry.db})`;
    const note = why === undefined ? (isUncertain ? ": it may be there" : "") : `: ${why}`;
    names.push(`${shownKey(entry.key)}${db}${note}`);
  }

  /** A line for each name, and how many more there are. */
  lines(outcome: Outcome, count: number): string {
    const names = this.#named.get(outcome) ?? [];
    const more = count - names.length;
    const rest = more > 0 && names.length > 0 ? [`and ${more} more (--json lists all)`] : [];
    return [...names, ...rest].map((line) => `    ${line}\n`).join("");
  }
}

/** The report for people. */
export function describeDelivery(report: DeliveryReport, told: KeysTold): string {
  const { counts, isDryRun, moment, target, server, bytes, replace } = report;
  const { restored, replaced } = counts;
  const would = isDryRun ? "would be " : "";
  const when = moment.atMs === undefined ? "" : ` as of ${new Date(moment.atMs).toISOString()},`;
  const which = `from generation ${moment.generation},${when} offset ${moment.offset}`;
  const into = `${target} (${server})`;
  const sum = `${counted(restored + replaced, "key")} ${would}restored (${formatBytes(bytes)})`;
  const ofThem = replaced === 0 ? "" : `, ${replaced} of them in place of others`;
  const part = (outcome: Outcome, text: string) =>
    counts[outcome] === 0
      ? ""
      : `  ${counts[outcome]} ${text}\n${told.lines(outcome, counts[outcome])}`;
  const stays = isDryRun || replace ? "" : " (--replace replaces them)";
  return [
    `${into}: ${sum}${ofThem}, ${which}\n`,
    part("existed", `exist there and ${isDryRun ? "would stay" : "stayed"}${stays}`),
    part("expired", "have expired since that moment, so they were not brought back"),
    part("failed", "were refused"),
    part("left", "are left: run this again to go on, what is there by then stays"),
    isDryRun ? "nothing was written\n" : "",
  ].join("");
}

/** The report for programs: one object, in one line. */
export function deliveryToJson(report: DeliveryReport): string {
  const {
    moment,
    target,
    server,
    isDryRun,
    replace,
    found,
    counts,
    uncertain,
    bytes,
    breaks,
    error,
  } = report;
  const result = {
    target,
    server,
    source: moment.source,
    generation: moment.generation,
    offset: moment.offset,
    time: moment.atMs === undefined ? null : new Date(moment.atMs).toISOString(),
    dry_run: isDryRun,
    replace,
    found,
    restored: counts.restored,
    replaced: counts.replaced,
    existed: counts.existed,
    expired: counts.expired,
    failed: counts.failed,
    left: counts.left,
    left_uncertain: uncertain,
    bytes,
    breaks,
    error: error === undefined ? null : { code: error.code, message: error.message },
  };
  return `${jsonLine(result)}\n`;
}

/** A key that wasn't restored, for programs: one object, in one line. */
export function toldToJson({ entry, outcome, why, isUncertain }: Told): string {
  const { db, key } = entry;
  const more = {
    ...(why === undefined ? {} : { why }),
    ...(isUncertain ? { uncertain: true } : {}),
  };
  return `${jsonLine({ db, key: bytesToJson(key), outcome, ...more })}\n`;
}
