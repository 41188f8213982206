import { bytesToJson, jsonLine, printableName, wholeCharacters } from "../../base/printable.ts";
import { formatAge, formatBytes } from "../../base/quantity.ts";
import type { KeyState } from "../../inspect/deliver/deliver.ts";
import { type DeliveredEntry, payloadBytes } from "../../inspect/deliver/entry.ts";

/** What would become of a key. */
export type Prospect = "restore" | "replace" | "keep" | "expired";

/** What would become of a key in this state. */
export function prospectOf({ exists, isExpired }: KeyState, replace: boolean): Prospect {
  if (isExpired) return "expired";
  if (!exists) return "restore";
  return replace ? "replace" : "keep";
}

/** Rows come one by one, of any number of keys, so the widths are those of the widest usual values. */
const WIDTHS = [2, 7, 10, 9, 46, 7] as const;
const TITLES = ["db", "type", "size", "elements", "expires", "would"] as const;
/** These are aligned to the right. */
const NUMBERS = new Set([0, 2, 3]);

/** The titles of the rows. */
export function keyTitles(): string {
  return rowOf(TITLES, "key");
}

/** A key as a row for people. */
export function keyRow(entry: DeliveredEntry, prospect: Prospect, nowMs: number): string {
  const { db, kind, elements, key, expiresAtMs } = entry;
  const size = formatBytes(payloadBytes(entry));
  const expires = expiresAtMs === undefined ? "never" : shownExpiry(expiresAtMs, nowMs);
  return rowOf([db, kind, size, elements ?? "-", expires, prospect], shownKey(key));
}

function rowOf(cells: readonly (string | number)[], key: string): string {
  const padded = cells.map((cell, column) => {
    const width = WIDTHS[column]!;
    return NUMBERS.has(column) ? String(cell).padStart(width) : String(cell).padEnd(width);
  });
  return `${padded.join("  ")}  ${key}\n`;
}

/** The same moment as a time and as the time from now. */
function shownExpiry(expiresAtMs: number, nowMs: number): string {
  const seconds = Math.abs(expiresAtMs - nowMs) / 1000;
  const age = formatAge(seconds);
  return `${shownTime(expiresAtMs)} (${expiresAtMs > nowMs ? `in ${age}` : `${age} ago`})`;
}

/** The last moment that a date in JavaScript can be. */
const LAST_DATE_MS = 8_640_000_000_000_000;

/** An expiry may lie beyond every date. */
function shownTime(atMs: number): string {
  return atMs > LAST_DATE_MS ? `${atMs} ms` : new Date(atMs).toISOString();
}

/** A key as a row for programs: one object, in one line. */
export function keyRowToJson(
  entry: DeliveredEntry,
  state: KeyState,
  prospect: Prospect,
  nowMs: number,
): string {
  const { db, key, kind, elements, expiresAtMs } = entry;
  const row = {
    db,
    key: bytesToJson(key),
    type: kind,
    bytes: payloadBytes(entry),
    elements: elements ?? null,
    expires_ms: expiresAtMs ?? null,
    expires: expiresAtMs === undefined ? null : shownTime(expiresAtMs),
    expires_in_ms: expiresAtMs === undefined ? null : Math.round(expiresAtMs - nowMs),
    exists: state.exists,
    would: prospect,
  };
  return `${jsonLine(row)}\n`;
}

/** As much of a name as a line shows. */
const MAX_SHOWN_BYTES = 200;

/** A key for people, on one line and with nothing that a terminal obeys. */
export function shownKey(key: Uint8Array): string {
  if (key.length <= MAX_SHOWN_BYTES) return printableName(key);
  return `${printableName(wholeCharacters(key.subarray(0, MAX_SHOWN_BYTES)))}…`;
}
