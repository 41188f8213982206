import { styleText } from "node:util";
import { counted, formatBytes } from "../../base/quantity.ts";
import { printable, printableName, wholeCharacters } from "../../base/printable.ts";
import type { BigKey, PrefixesFound } from "../../inspect/keys/key-report.ts";
import type { PrefixCount } from "../../inspect/keys/prefix-counts.ts";
import type { Amount } from "../../inspect/keys/tally.ts";
import type { LifeSpan } from "../../inspect/keys/time-to-live.ts";
import { table } from "../terminal/table.ts";
import { bar } from "./bar.ts";
import { type KeysReport, type ReadSnapshot, typeName } from "./keys-report.ts";

/** How to show it. */
export interface KeysLook {
  /** A terminal's width; undefined: plain figures for a file or another program, without bars, and nothing is cut. */
  readonly columns: number | undefined;
  readonly hasColors: boolean;
}

/** A row's name, its figures, and what else there is to say. */
interface Row {
  readonly name: string;
  readonly amount: Amount;
  readonly more?: readonly (string | number)[];
}

interface Section {
  readonly title: string;
  readonly names: string;
  /** Of what the bars show the share. */
  readonly measure: "bytes" | "keys";
  readonly rows: readonly Row[];
  readonly moreTitles?: readonly string[];
}

const SPANS: Readonly<Record<LifeSpan, string>> = {
  no_expiry: "no expiry",
  expired: "expired",
  under_1m: "under 1 min",
  under_1h: "under 1 h",
  under_1d: "under 1 d",
  under_7d: "under 7 d",
  under_30d: "under 30 d",
  "30d_or_more": "30 d or more",
};

/** What a name has of a terminal's width at most. */
const NAME_SHARE = 0.4;
const MIN_NAME_COLUMNS = 16;
/** A bar's width, without the figure before it. A shorter one tells less than that figure. */
const MAX_BAR_COLUMNS = 24;
const MIN_BAR_COLUMNS = 4;
/** `  99.9% ` */
const SHARE_COLUMNS = 8;
/** Dates that JavaScript can show. */
const MAX_TIME_MS = 8_640_000_000_000_000;

/** The report for people: what was read, then a table for each way to break it down. */
export function keysToText(report: KeysReport, look: KeysLook): string {
  const { found, snapshots } = report;
  const { total, prefixes } = found;
  const shown = new Shown(look, total);
  const parts = [headOf(report)];
  if (snapshots.some(({ shard }) => shard !== undefined)) {
    const rows = snapshots.map(({ shard = "" }, at) => ({
      name: shard,
      amount: found.snapshots[at]!,
    }));
    parts.push(shown.section({ title: "By shard", names: "shard", measure: "bytes", rows }));
  }
  if (total.keys > 0) {
    parts.push(...breakdowns(report).map((one) => shown.section(one)));
    if (prefixes !== undefined) parts.push(...shown.prefixes(prefixes, report));
    parts.push(shown.bigKeys("Biggest keys by size", found.byBytes, snapshots));
    parts.push(shown.bigKeys("Biggest keys by elements", found.byElements, snapshots));
  }
  const damages = snapshots.flatMap(({ damage, shard }) =>
    damage === undefined ? [] : [damageLine(shard, damage)],
  );
  return [...parts.filter((part) => part !== ""), damages.join("")]
    .filter((part) => part !== "")
    .join("\n");
}

function damageLine(shard: string | undefined, damage: string): string {
  const whose = shard === undefined ? "" : ` of shard ${shard}`;
  return `damaged: ${printable(damage)}\n  what stands above was counted up to there${whose}\n`;
}

function headOf({ source, snapshots, found, db, match }: KeysReport): string {
  const { total, passedOver } = found;
  const lines = snapshots.map((one) => snapshotLine(source, one));
  const chosen = [
    ...(db === undefined ? [] : [`in database ${db}`]),
    ...(match === undefined ? [] : [`like ${printableName(Buffer.from(match))}`]),
  ];
  const which = chosen.length === 0 ? "" : ` ${chosen.join(" ")}`;
  const others = chosen.length === 0 ? "" : `; ${counted(passedOver, "other key")}`;
  lines.push(`${counted(total.keys, "key")}${which}, ${sizeOf(total.bytes)}${others}`);
  return lines.map((line) => `${line}\n`).join("");
}

function sizeOf(bytes: number): string {
  return bytes < 1024 ? counted(bytes, "byte") : `${formatBytes(bytes)} (${bytes} bytes)`;
}

function snapshotLine(source: string, snapshot: ReadSnapshot): string {
  const { shard, generation, format, server, atMs, atFrom, rdbBytes, readBytes } = snapshot;
  const name =
    shard === undefined ? (source === "-" ? "standard input" : source) : `shard ${shard}`;
  const which = generation === undefined ? "" : `the snapshot of generation ${generation}, `;
  const made = server === undefined ? (format ?? "") : `${format ?? ""} of ${server}`;
  const when = atFrom === "now" ? "of an unknown time" : `of ${shownTime(atMs)}`;
  const { functionLibraries = 0 } = snapshot;
  const libraries = functionLibraries === 0 ? "" : `, with ${libraryCount(functionLibraries)}`;
  return `${printable(name)}: ${which}${made}, ${formatBytes(rdbBytes ?? readBytes)}, ${when}${libraries}`;
}

function libraryCount(libraries: number): string {
  return libraries === 1 ? "1 library of functions" : `${libraries} libraries of functions`;
}

function breakdowns({ found, snapshots }: KeysReport): Section[] {
  const [first] = snapshots;
  const sameMoment =
    snapshots.length === 1 && first !== undefined
      ? `, as of ${first.atFrom === "now" ? "now" : shownTime(first.atMs)}`
      : ", as of each snapshot";
  return [
    {
      title: "By type",
      names: "type",
      measure: "bytes",
      rows: found.types.map(({ kind, module, ...amount }) => ({
        name: typeName(kind, module),
        amount,
      })),
    },
    {
      title: "By encoding",
      names: "type and encoding",
      measure: "bytes",
      rows: found.encodings.map(({ kind, module, encoding, ...amount }) => ({
        name: kind === "module" ? typeName(kind, module) : `${kind} ${encoding}`,
        amount,
      })),
    },
    {
      title: "By database",
      names: "database",
      measure: "bytes",
      rows: found.databases.map(({ db, ...amount }) => ({
        name: db === undefined ? "all others" : `db${db}`,
        amount,
      })),
    },
    {
      title: `By time to live${sameMoment}`,
      names: "time to live",
      measure: "keys",
      rows: found.lifeTimes
        .filter(({ keys }) => keys > 0)
        .map(({ span, ...amount }) => ({ name: SPANS[span], amount })),
    },
  ];
}

/** Shows tables in one look. */
class Shown {
  readonly #look: KeysLook;
  readonly #total: Amount;

  constructor(look: KeysLook, total: Amount) {
    this.#look = look;
    this.#total = total;
  }

  /** A table under its title; empty where it has no row. */
  section({ title, names, measure, rows, moreTitles = [] }: Section): string {
    if (rows.length === 0) return "";
    const titles = [names, "keys", this.#sizeTitle, "elements", ...moreTitles];
    const cells = rows.map(({ name, amount, more = [] }) => {
      const elements = amount.counted === 0 ? "-" : amount.elements;
      return [this.#name(name), amount.keys, this.#size(amount.bytes), elements, ...more];
    });
    const numeric = titles.map((_, at) => at).slice(1, 4 + moreTitles.length);
    const width = this.#barColumns(titles, cells);
    if (width > 0) {
      titles.push(measure === "bytes" ? "of all bytes" : "of all keys");
      const all = this.#total[measure];
      for (const [at, { amount }] of rows.entries())
        cells[at]!.push(this.#bar(all === 0 ? 0 : amount[measure] / all, width));
    }
    return `${this.#title(title)}\n${table(titles, cells, numeric)}`;
  }

  prefixes(found: PrefixesFound, { prefixDepth, separators }: KeysReport): string[] {
    const { isExact, distinct = 0, missedKeys, missedBytes } = found;
    const rowOf = (count: PrefixCount): Row => ({
      name: count.prefix.length === 0 ? "(no prefix)" : printableName(count.prefix),
      // Which of them have elements isn't counted: of strings alone there are none.
      amount: { ...count, counted: count.elements },
      ...(!isExact && {
        more: [count.keys + count.maxMissedKeys, this.#size(count.bytes + count.maxMissedBytes)],
      }),
    });
    const most = isExact ? {} : { moreTitles: ["keys at most", "bytes at most"] };
    const how = `(--prefix-depth ${prefixDepth} --separators ${separators})`;
    const note = isExact
      ? `${distinct === 1 ? "1 prefix" : `${distinct} prefixes`} in all ${how}`
      : `more prefixes than are counted exactly ${how}: each has at least what is shown first, and at most ${counted(missedKeys, "key")} and ${sizeOf(missedBytes)} more; what may be as small as any other is left out`;
    const byBytes = found.byBytes.filter(({ bytes }) => bytes > missedBytes).map(rowOf);
    const byKeys = found.byKeys.filter(({ keys }) => keys > missedKeys).map(rowOf);
    const names = "prefix";
    const sections: Section[] = [
      { title: "Prefixes by size", measure: "bytes", rows: byBytes, names, ...most },
      { title: "Prefixes by keys", measure: "keys", rows: byKeys, names, ...most },
    ];
    return sections.map((one) => this.section(one)).concat(`${note}\n`);
  }

  bigKeys(title: string, keys: readonly BigKey[], snapshots: readonly ReadSnapshot[]): string {
    if (keys.length === 0) return "";
    const isCluster = snapshots.some(({ shard }) => shard !== undefined);
    const titles = [this.#sizeTitle, "elements", "type", "encoding", "db"];
    if (isCluster) titles.push("shard");
    titles.push("expires", "key");
    const rows = keys.map((big) => {
      const { kind, module, encoding, elements, bytes, db, snapshot } = big;
      return [
        this.#size(bytes),
        elements ?? "-",
        typeName(kind, module),
        kind === "module" ? "-" : encoding,
        db,
        ...(isCluster ? [snapshots[snapshot]?.shard ?? ""] : []),
        expiryOf(big),
        // The last, so that a long one moves nothing.
        this.#name(keyName(big)),
      ];
    });
    return `${this.#title(title)}\n${table(titles, rows, [0, 1])}`;
  }

  get #sizeTitle(): string {
    return this.#look.columns === undefined ? "bytes" : "size";
  }

  #size(bytes: number): string | number {
    return this.#look.columns === undefined ? bytes : formatBytes(bytes);
  }

  #title(title: string): string {
    return this.#look.hasColors ? styleText("bold", title, { validateStream: false }) : title;
  }

  #name(name: string): string {
    const { columns } = this.#look;
    if (columns === undefined) return name;
    const most = Math.max(MIN_NAME_COLUMNS, Math.floor(columns * NAME_SHARE));
    return Bun.sliceAnsi(name, 0, most, "…");
  }

  /** How wide bars are beside the other columns; 0: there are none. */
  #barColumns(titles: readonly string[], cells: readonly (readonly (string | number)[])[]): number {
    const { columns } = this.#look;
    if (columns === undefined) return 0;
    const widths = titles.map((title, column) =>
      Math.max(title.length, ...cells.map((row) => Bun.stringWidth(String(row[column])))),
    );
    const used = widths.reduce((sum, width) => sum + width, 2 * (widths.length - 1));
    const left = columns - used - SHARE_COLUMNS;
    return left < MIN_BAR_COLUMNS ? 0 : Math.min(MAX_BAR_COLUMNS, left);
  }

  #bar(share: number, width: number): string {
    const { hasColors } = this.#look;
    const percent = `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)}%`.padStart(5);
    const drawn = bar(share, width, !hasColors);
    return `${percent} ${hasColors ? styleText("cyan", drawn, { validateStream: false }) : drawn}`;
  }
}

function keyName({ key, keyBytes }: BigKey): string {
  if (key.length === keyBytes) return printableName(key);
  return `${printableName(wholeCharacters(key))}… (${formatBytes(keyBytes)})`;
}

function expiryOf({ expiresAtMs }: BigKey): string {
  return expiresAtMs === undefined ? "never" : shownTime(expiresAtMs);
}

function shownTime(atMs: number): string {
  return Math.abs(atMs) <= MAX_TIME_MS ? new Date(atMs).toISOString() : `${atMs} ms`;
}
