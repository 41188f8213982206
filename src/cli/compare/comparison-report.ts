import { bytesToJson, printableName, utf8Of } from "../../base/printable.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import type { Comparison, MomentAbout } from "../../inspect/compare/compare-moments.ts";
import type { Difference, KeyState } from "../../inspect/compare/difference.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { Output } from "../terminal/output.ts";

/** Rows are written together, up to this many characters. */
const CHUNK_CHARACTERS = 64 * 1024;

/** How a comparison is written. */
interface Format {
  readonly head: string;
  row(difference: Difference): string;
  end(comparison: Comparison): string;
}

/**
 * Writes what differs, row by row as it is read.
 * @throws OutputClosed; ReplicaError of the table; the signal's reason.
 */
export async function writeComparison(
  comparison: Comparison,
  how: "text" | "json" | "csv",
  { stdout, signal }: { readonly stdout: Output; readonly signal: AbortSignal },
): Promise<void> {
  const format = FORMATS[how];
  let text = format.head;
  for (const difference of comparison.differences()) {
    text += format.row(difference);
    if (text.length < CHUNK_CHARACTERS) continue;
    stdout.write(text);
    text = "";
    // A signal is only seen between turns.
    await Bun.sleep(0);
    signal.throwIfAborted();
  }
  stdout.write(text + format.end(comparison));
}

function whatOf({ before, after }: Difference): "came" | "went" | "changed" {
  if (before === undefined) return "came";
  return after === undefined ? "went" : "changed";
}

const TEXT: Format = {
  head: "",
  row: (difference) => {
    const { db, key, before, after } = difference;
    const about =
      before !== undefined && after !== undefined
        ? changeText(before, after, difference.isOtherValue)
        : stateText((after ?? before)!);
    return `${whatOf(difference).padEnd(7)}  db${db}  ${printableName(key)}  ${about}\n`;
  },
  end: summaryText,
};

/** What the elements of a value are called. */
const ELEMENTS: Partial<Record<KeyState["kind"], string>> = {
  list: "item",
  set: "member",
  zset: "member",
  hash: "field",
};

function elementsText({ kind, elements }: KeyState): string {
  if (elements === undefined) return "";
  if (kind === "stream") return `, ${elements} ${elements === 1 ? "entry" : "entries"}`;
  return `, ${counted(elements, ELEMENTS[kind] ?? "element")}`;
}

function valueText(state: KeyState): string {
  return `${state.kind}${elementsText(state)}, ${formatBytes(state.bytes)}`;
}

function expiryText({ expiresAtMs }: KeyState): string {
  return expiresAtMs === undefined ? "never" : timeText(expiresAtMs);
}

/** What an RDB may state as a time can lie beyond all dates. */
function timeText(atMs: number): string {
  return Math.abs(atMs) > 8.64e15 ? `${atMs} ms` : shownTime(atMs);
}

function stateText(state: KeyState): string {
  const expiry = state.expiresAtMs === undefined ? "" : `, expires ${expiryText(state)}`;
  return valueText(state) + expiry;
}

function changeText(before: KeyState, after: KeyState, isOtherValue: boolean): string {
  const [one, other] = [valueText(before), valueText(after)];
  const value = !isOtherValue
    ? `${other}, the same value`
    : one === other
      ? `${other}, another value`
      : `${one} → ${other}`;
  const expiry =
    before.expiresAtMs === after.expiresAtMs
      ? ""
      : `, expires ${expiryText(before)} → ${expiryText(after)}`;
  return value + expiry;
}

function momentText({ offset, atMs }: MomentAbout): string {
  return `offset ${offset}${atMs === undefined ? "" : ` (${shownTime(atMs)})`}`;
}

function summaryText({ before, after, counts, isOfTouched }: Comparison): string {
  const { came, went, changed, expiryOnly, unchanged, byBytes } = counts;
  const only = expiryOnly === 0 ? "" : ` (${expiryOnly} only in the time to live)`;
  const bytes =
    byBytes === 0
      ? ""
      : `\n${counted(byBytes, "value")} of a module, or of another form that isn't known here, differ in bytes; what they hold may be the same`;
  const among = isOfTouched ? " of those that commands touched in between" : "";
  return `from ${momentText(before)} to ${momentText(after)}: ${counted(came, "key")} came, ${went} went, ${changed} changed${only}, ${unchanged}${among} stayed the same${bytes}\n`;
}

function stateToJson(state: KeyState | undefined) {
  if (state === undefined) return null;
  const { kind, elements, bytes, expiresAtMs } = state;
  return {
    type: kind,
    elements: elements ?? null,
    bytes,
    expires_at_ms: expiresAtMs ?? null,
  };
}

const JSON_LINES: Format = {
  head: "",
  row: (difference) => {
    const { db, key, before, after, isOtherValue } = difference;
    const what = whatOf(difference);
    const line = {
      what,
      db,
      key: bytesToJson(key),
      before: stateToJson(before),
      after: stateToJson(after),
      value_changed: what !== "changed" || isOtherValue,
    };
    return `${JSON.stringify(line)}\n`;
  },
  end: ({ before, after, counts, isOfTouched }) => {
    const moment = ({ offset, atMs, how }: MomentAbout) => ({
      offset,
      time: atMs === undefined ? null : shownTime(atMs),
      found_by: how ?? null,
    });
    const line = {
      what: "summary",
      before: moment(before),
      after: moment(after),
      compared: isOfTouched ? "touched" : "all",
      came: counts.came,
      went: counts.went,
      changed: counts.changed,
      expiry_only: counts.expiryOnly,
      unchanged: counts.unchanged,
      compared_by_bytes: counts.byBytes,
    };
    return `${JSON.stringify(line)}\n`;
  },
};

const SIDES = ["before", "after"] as const;
const STATE_COLUMNS = ["type", "elements", "bytes", "expires_at_ms"] as const;
const COLUMNS = [
  "what",
  "db",
  "key",
  "key_base64",
  ...SIDES.flatMap((side) => STATE_COLUMNS.map((column) => `${column}_${side}`)),
  "value_changed",
];

/** RFC 4180, with line feeds. A name that is no UTF-8 stands in a column of its own. */
const CSV: Format = {
  head: `${COLUMNS.join(",")}\n`,
  row: (difference) => {
    const { db, key, before, after, isOtherValue } = difference;
    const text = utf8Of(key);
    const what = whatOf(difference);
    const cells = [
      what,
      db,
      text ?? "",
      text === undefined ? Buffer.from(key).toString("base64") : "",
      ...[before, after].flatMap((state) => {
        const shown = stateToJson(state);
        return STATE_COLUMNS.map((column) => shown?.[column] ?? "");
      }),
      String(what !== "changed" || isOtherValue),
    ];
    return `${cells.map((cell) => quoted(String(cell))).join(",")}\n`;
  },
  end: () => "",
};

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

const FORMATS: Readonly<Record<"text" | "json" | "csv", Format>> = {
  text: TEXT,
  json: JSON_LINES,
  csv: CSV,
};
