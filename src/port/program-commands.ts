import { logger } from "../base/logger.ts";
import { array, bulk, error, integer, map, nil, simple } from "../resp/reply.ts";
import { type Call, type Command, subcommandHelp, wrongArgs } from "./call.ts";

/** The commands about the program and the port, whatever the port answers for. */
export const programCommands: readonly Command[] = [
  {
    name: "command",
    arity: -1,
    flags: ["loading", "stale"],
    summary: "Returns the commands of this port.",
    run: commandCommand,
  },
  {
    name: "time",
    arity: 1,
    flags: ["fast"],
    summary: "Returns the time of this machine.",
    run: time,
  },
  {
    name: "shutdown",
    arity: -1,
    flags: ["admin", "noscript"],
    changes: true,
    alone: true,
    summary: "Syncs everything to disk and ends the program.",
    run: shutdown,
  },
  {
    name: "slowlog",
    arity: -2,
    flags: ["admin", "loading", "stale"],
    summary: "Returns an empty log of slow commands: none is kept.",
    run: slowlog,
  },
  {
    name: "latency",
    arity: -2,
    flags: ["admin", "noscript", "loading", "stale"],
    summary: "Returns no latencies: none are recorded.",
    run: latency,
  },
];

/** SLOWLOG of a server that has met no slow command ("Redis 7.2, slowlog.c"): tools that watch Redis ask for it. */
function slowlog({ args }: Call): Uint8Array {
  const [what = "", ...rest] = args;
  switch (what.toLowerCase()) {
    case "get":
      if (rest.length > 1) {
        const asked = `unknown subcommand or wrong number of arguments for '${what}'`;
        return error(`ERR ${asked}. Try SLOWLOG HELP.`);
      }
      if (rest[0] === undefined || /^(?:-1|\d{1,18})$/.test(rest[0])) return array([]);
      return error("ERR count should be greater than or equal to -1");
    case "len":
      return rest.length > 0 ? wrongArgs("slowlog|len") : integer(0);
    case "reset":
      return rest.length > 0 ? wrongArgs("slowlog|reset") : simple("OK");
    case "help":
      return subcommandHelp("SLOWLOG", [
        ["GET [<count>]", "Returns nothing: no command is logged."],
        ["LEN", "Returns 0."],
        ["RESET", "Does nothing."],
      ]);
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try SLOWLOG HELP.`);
  }
}

/** LATENCY of a server that records none, as Redis by default ("Redis 7.2, latency.c, latencyCommand"). */
function latency({ client, args }: Call): Uint8Array {
  const [what = "", ...rest] = args;
  switch (what.toLowerCase()) {
    case "latest":
      return rest.length > 0 ? wrongArgs("latency|latest") : array([]);
    case "history":
      return rest.length === 1 ? array([]) : wrongArgs("latency|history");
    case "histogram":
      return map([], client.proto);
    case "reset":
      return integer(0);
    case "help":
      return subcommandHelp("LATENCY", [
        ["LATEST", "Returns nothing: no latency is recorded."],
        ["HISTORY <event>", "Returns nothing."],
        ["HISTOGRAM [<command> ...]", "Returns nothing."],
        ["RESET [<event> ...]", "Returns 0: there is nothing to reset."],
      ]);
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try LATENCY HELP.`);
  }
}

function time({ context }: Call): Uint8Array {
  const nowMs = context.now();
  const micros = (nowMs % 1000) * 1000;
  return array([bulk(String(Math.floor(nowMs / 1000))), bulk(String(micros))]);
}

function shutdown({ client, context, args }: Call): Uint8Array | undefined {
  const words = new Set(args.map((arg) => arg.toUpperCase()));
  if (words.has("ABORT") && args.length === 1) return error("ERR No shutdown in progress.");
  const known = words.isSubsetOf(new Set(["NOW", "FORCE", "SAVE", "NOSAVE"]));
  if (!known || words.isSupersetOf(new Set(["SAVE", "NOSAVE"]))) return error("ERR syntax error");
  client.leaving = true;
  logger.info("SHUTDOWN: stopping", { client: client.address });
  context.shutdown();
  return undefined;
}

/** How many commands COMMAND INFO and COMMAND DOCS are asked for at once: more than there are. */
const MAX_NAMES = 100;

/** COMMAND and its subcommands ("Redis 7.2, server.c, commandCommand"). */
function commandCommand({ client, context, args }: Call): Uint8Array {
  const { commands } = context;
  const [what, ...names] = args.map((arg) => arg.toLowerCase());
  // A thousand times the same name would take longer than a turn may.
  if (names.length > MAX_NAMES) return error(`ERR too many names: at most ${MAX_NAMES}`);
  const known = (names.length > 0 ? names : [...commands.keys()]).map((name) => commands.get(name));
  switch (what) {
    case undefined:
      return array([...commands.values()].map(describe));
    case "count":
      return names.length > 0 ? wrongArgs("command|count") : integer(commands.size);
    case "list":
      if (names.length > 0) return error("ERR syntax error");
      return array([...commands.keys()].map((name) => bulk(name)));
    case "info":
      return array(
        known.map((command) => (command === undefined ? nil(client.proto) : describe(command))),
      );
    case "docs":
      return map(
        known
          .filter((command) => command !== undefined)
          .map(({ name, summary }) => [
            bulk(name),
            map([[bulk("summary"), bulk(summary)]], client.proto),
          ]),
        client.proto,
      );
    case "help":
      return subcommandHelp("COMMAND", [
        ["(no subcommand)", "Returns details about every command."],
        ["COUNT", "Returns the number of commands."],
        ["LIST", "Returns the names of all commands."],
        ["INFO [<name> ...]", "Returns details about these commands, or about all."],
        ["DOCS [<name> ...]", "Returns what these commands do, or what all do."],
      ]);
    default:
      return error(`ERR unknown subcommand '${(args[0] ?? "").slice(0, 60)}'. Try COMMAND HELP.`);
  }
}

/** Name, arity, flags, and no key positions. */
function describe({ name, arity, flags }: Command): Uint8Array {
  const noKeys = [integer(0), integer(0), integer(0)];
  return array([bulk(name), integer(arity), array(flags.map(simple)), ...noKeys]);
}
