import { usageError } from "../../base/errors.ts";
import { Glob } from "../../base/glob.ts";
import type { KeyReportOptions } from "../../inspect/keys/key-report.ts";
import { PREFIX_LOOK_BYTES } from "../../inspect/keys/prefix-cut.ts";
import { DEFAULT_DEPTH, DEFAULT_SEPARATORS, DEFAULT_TOP } from "./keys-options.ts";

/** With names of 4 KiB these take 80 MB. */
const MAX_TOP = 10_000;
const MAX_SEPARATORS = 16;

/** What was chosen of the keys, and how to count them. */
export interface KeysChoice {
  readonly report: KeyReportOptions;
  readonly separators: string;
  readonly db: number | undefined;
  readonly match: string | undefined;
}

/** Reads the options. @throws ReplicaError USAGE. */
export function keysChoice(options: ReadonlyMap<string, string>): KeysChoice {
  if (options.has("json") && options.has("csv")) throw usageError("give --json or --csv, not both");
  const separators = options.get("separators") ?? DEFAULT_SEPARATORS;
  if (!/^[!-~]+$/.test(separators) || separators.length > MAX_SEPARATORS) {
    throw usageError(
      `--separators is ${shown(separators)}: it takes 1 to ${MAX_SEPARATORS} visible ASCII characters, such as :/.`,
    );
  }
  const db = wholeNumber(options, "db", Number.MAX_SAFE_INTEGER);
  const match = options.get("match");
  return {
    report: {
      prefixDepth: wholeNumber(options, "prefix-depth", PREFIX_LOOK_BYTES) ?? DEFAULT_DEPTH,
      separators: Buffer.from(separators),
      top: wholeNumber(options, "top", MAX_TOP) ?? DEFAULT_TOP,
      selects: selectorOf(db, match),
      seed: crypto.getRandomValues(new Int32Array(1))[0]!,
    },
    separators,
    db,
    match,
  };
}

function selectorOf(
  db: number | undefined,
  match: string | undefined,
): KeyReportOptions["selects"] {
  // As KEYS takes it, where no other pattern matches the empty key.
  const pattern = match === "*" ? undefined : match;
  const glob =
    pattern === undefined ? undefined : new Glob(Buffer.from(pattern).toString("latin1"));
  if (db === undefined && glob === undefined) return undefined;
  return (entry) =>
    (db === undefined || entry.db === db) &&
    (glob === undefined || glob.matchesBytes(entry.keyBuffer, entry.keyStart, entry.keyEnd));
}

function wholeNumber(
  options: ReadonlyMap<string, string>,
  name: string,
  most: number,
): number | undefined {
  const text = options.get(name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && value <= most) return value;
  throw usageError(`--${name} is ${shown(text)}: it takes a whole number up to ${most}`);
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}
