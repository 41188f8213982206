import { hasControls, utf8Of, wholeCharacters } from "../../base/printable.ts";
import type { BigKey } from "../../inspect/keys/key-report.ts";
import type { PrefixCount } from "../../inspect/keys/prefix-counts.ts";
import type { Amount } from "../../inspect/keys/tally.ts";
import { isComplete, type KeysReport, typeName } from "./keys-report.ts";

/** The columns; what a row has no value for is empty. */
const COLUMNS = [
  "section",
  "name",
  "name_base64",
  "shard",
  "db",
  "type",
  "encoding",
  "keys",
  "bytes",
  "elements",
  "keys_missed_at_most",
  "bytes_missed_at_most",
  "name_bytes",
  "expires_at_ms",
] as const;

type Cells = Partial<Record<(typeof COLUMNS)[number], string | number>>;

/** The report as CSV (RFC 4180, with line feeds): a line of names, then a row a line. */
export function keysToCsv(report: KeysReport): string {
  const lines = [COLUMNS.join(","), ...rowsOf(report).map(lineOf)];
  return lines.map((line) => `${line}\n`).join("");
}

function lineOf(cells: Cells): string {
  return COLUMNS.map((column) => quoted(String(cells[column] ?? ""))).join(",");
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

function rowsOf(report: KeysReport): Cells[] {
  const { found, snapshots } = report;
  const { prefixes } = found;
  const keyOf = (section: string) => (big: BigKey) => ({
    ...bigKeyCells(big),
    section,
    shard: snapshots[big.snapshot]?.shard ?? "",
  });
  return [
    {
      section: "total",
      name: isComplete(report) ? "complete" : "partial",
      ...amountCells(found.total),
    },
    ...snapshots.flatMap(({ shard }, at) => {
      const amount = found.snapshots[at];
      if (shard === undefined || amount === undefined) return [];
      return [{ section: "shard", name: shard, shard, ...amountCells(amount) }];
    }),
    ...found.types.map(({ kind, module, ...amount }) => {
      const type = typeName(kind, module);
      return { section: "type", name: type, type, ...amountCells(amount) };
    }),
    ...found.encodings.map(({ kind, module, encoding, ...amount }) => {
      const type = typeName(kind, module);
      return { section: "encoding", name: encoding, type, encoding, ...amountCells(amount) };
    }),
    ...found.databases.map(({ db = "others", ...amount }) => ({
      section: "database",
      name: db,
      db,
      ...amountCells(amount),
    })),
    ...found.lifeTimes.map(({ span, ...amount }) => ({
      section: "time_to_live",
      name: span,
      ...amountCells(amount),
    })),
    ...(prefixes?.byBytes ?? []).map(prefixCells("prefix_by_bytes")),
    ...(prefixes?.byKeys ?? []).map(prefixCells("prefix_by_keys")),
    ...found.byBytes.map(keyOf("biggest_by_bytes")),
    ...found.byElements.map(keyOf("biggest_by_elements")),
  ];
}

function amountCells({ keys, bytes, elements, counted }: Amount): Cells {
  return { keys, bytes, ...(counted > 0 && { elements }) };
}

/** A name that is no UTF-8, or has control characters, stands in a column of its own: a terminal would act on them. */
function nameCells(name: Uint8Array): Cells {
  const text = utf8Of(name);
  return text === undefined || hasControls(text)
    ? { name_base64: Buffer.from(name).toString("base64") }
    : { name: text };
}

function prefixCells(section: string): (count: PrefixCount) => Cells {
  return ({ prefix, keys, bytes, elements, maxMissedKeys, maxMissedBytes }) => ({
    section,
    ...nameCells(prefix),
    keys,
    bytes,
    elements,
    keys_missed_at_most: maxMissedKeys,
    bytes_missed_at_most: maxMissedBytes,
    name_bytes: prefix.length,
  });
}

function bigKeyCells(big: BigKey): Cells {
  const { db, key, keyBytes, kind, module, encoding, bytes, elements, expiresAtMs } = big;
  return {
    ...nameCells(key.length < keyBytes ? wholeCharacters(key) : key),
    db,
    type: typeName(kind, module),
    encoding,
    keys: 1,
    bytes,
    ...(elements !== undefined && { elements }),
    name_bytes: keyBytes,
    ...(expiresAtMs !== undefined && { expires_at_ms: expiresAtMs }),
  };
}
