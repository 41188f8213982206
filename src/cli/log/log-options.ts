/** What an option of these is to the command line. */
interface Option {
  readonly name: string;
  readonly value: string;
  readonly help: string;
  readonly isList?: true;
}

/** The options of `replica log`. */
export const logOptions: readonly Option[] = [
  {
    name: "from",
    value: "T",
    help: "what was written from this time on, or behind this offset (offset:N) [the beginning]",
  },
  {
    name: "to",
    value: "T",
    help: "what was written up to this time, or up to this offset (offset:N) [the end]",
  },
  {
    name: "key",
    value: "PATTERN",
    help: "only commands with a key that this glob matches; may be given more than once: one of them",
    isList: true,
  },
  {
    name: "command",
    value: "NAME",
    help: "only commands of this name; may be given more than once: one of them",
    isList: true,
  },
  {
    name: "db",
    value: "N",
    help: "only commands in this database, and those that change it from another one",
  },
  { name: "all", value: "", help: "also what writes nothing: PING, SELECT, REPLCONF, MULTI, EXEC" },
  { name: "follow", value: "", help: "go on as the log grows, until stopped" },
  { name: "limit", value: "N", help: "end after N commands" },
];
