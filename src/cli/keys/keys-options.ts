/** What an option of these is to the command line. */
interface Option {
  readonly name: string;
  readonly value: string;
  readonly help: string;
  readonly completes?: "file";
}

export const DEFAULT_TOP = 10;
export const DEFAULT_DEPTH = 1;
export const DEFAULT_SEPARATORS = ":";

/** The options of `replica keys` that are about keys. */
export const keysOptions: readonly Option[] = [
  { name: "db", value: "N", help: "only keys of this database" },
  { name: "match", value: "PATTERN", help: "only keys that match this glob, as KEYS does" },
  {
    name: "prefix-depth",
    value: "N",
    help: `how many parts of a key are its prefix; 0 counts no prefixes [${DEFAULT_DEPTH}]`,
  },
  {
    name: "separators",
    value: "CHARS",
    help: `each of these characters ends a part of a key [${DEFAULT_SEPARATORS}]`,
  },
  { name: "top", value: "N", help: `how many of the biggest keys and prefixes [${DEFAULT_TOP}]` },
  {
    name: "compare-to",
    value: "TIME",
    help: "with --at: the keys that came, went or changed from that time to this one",
  },
  {
    name: "server",
    value: "PATH",
    completes: "file",
    help: "with --compare-to: the stock server that replays the log [redis-server or valkey-server on PATH]",
  },
  { name: "csv", value: "", help: "print CSV" },
];
