import { logger } from "../base/logger.ts";
import { ReplicaError } from "../base/errors.ts";
import { infoSections, infoText } from "../monitor/info.ts";
import { array, bulk, error, integer, map, nil, simple, verbatim } from "../resp/reply.ts";
import { type Call, type Command, subcommandHelp, wrongArgs } from "./call.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { NO_KEYS } from "./refuse-unknown.ts";

export const serverCommands: readonly Command[] = [
  {
    name: "info",
    arity: -1,
    flags: ["loading", "stale"],
    summary: "Returns the state of the replica, by section.",
    run: info,
  },
  {
    name: "command",
    arity: -1,
    flags: ["loading", "stale"],
    summary: "Returns the commands of this port.",
    run: commandCommand,
  },
  {
    name: "dbsize",
    arity: 1,
    flags: ["readonly", "fast"],
    summary: "Says what is known of the number of keys, as an error: none is counted.",
    run: dbsize,
  },
  {
    name: "time",
    arity: 1,
    flags: ["fast"],
    summary: "Returns the time of this machine.",
    run: time,
  },
  {
    name: "lastsave",
    arity: 1,
    flags: ["fast"],
    summary: "Returns when the current snapshot became current, in unix time.",
    run: ({ context }) =>
      integer(Math.floor((context.status.currentGeneration?.currentAtMs ?? 0) / 1000)),
  },
  {
    name: "bgsave",
    arity: -1,
    flags: ["admin", "noscript"],
    changes: true,
    summary: "Takes a new snapshot over a second link to the primary.",
    run: bgsave,
  },
  {
    name: "replica",
    arity: -2,
    flags: ["admin", "noscript"],
    changes: ["accept"],
    summary:
      "Says that the data is right though it is less than half of what it was: REPLICA ACCEPT.",
    run: replicaCommand,
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
];

function info({ client, context, args }: Call): Uint8Array {
  const { status, version, port, clients, counts, settings } = context;
  const about = {
    version,
    port,
    nowMs: context.now(),
    readyLagMs: settings.readyLagMs,
    announced: settings.announce,
    connectedClients: clients.size,
    blockedClients: [...clients].filter(({ blocked }) => blocked).length,
    maxClients: context.maxClients,
    counts,
  };
  const sections = infoSections(status, about);
  return verbatim(infoText(sections, args), client.proto);
}

/**
 * DBSIZE is an error: a number can't say how old it is, and 0 would look like an empty database. The error says what is
 * known.
 */
function dbsize({ client, context }: Call): Uint8Array {
  const { status } = context;
  return error(`${NO_KEYS}: ${keysIn(client.database, status)}`);
}

function keysIn(database: number, { generation, keyspace }: ReplicaStatus): string {
  if (generation === undefined) return "nothing is kept yet";
  if (keyspace === undefined)
    return "neither its primary nor its snapshot says how many keys there are";
  const { source, databases, isWhole, atMs } = keyspace;
  const here = databases.find((one) => one.database === database);
  const last = databases.at(-1)?.database ?? -1;
  const count = here?.keys ?? (isWhole || database < last ? 0 : undefined);
  const when = new Date(atMs).toISOString();
  if (source === "primary")
    return `its primary had ${count ?? "an unknown number"} in db${database} at ${when}`;
  const snapshot = `its snapshot of ${when}`;
  return count === undefined
    ? `${snapshot} does not say how many are in db${database}`
    : `${snapshot} has ${count} in db${database}, and what came after it is not counted`;
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

/** BGSAVE [SCHEDULE]: takes a new generation over a second link while the first one keeps following. */
function bgsave({ client, context, args }: Call): Uint8Array {
  const [option, ...more] = args;
  if (more.length > 0 || (option !== undefined && option.toUpperCase() !== "SCHEDULE")) {
    return error("ERR syntax error");
  }
  if (context.status.snapshot.runningSeconds !== undefined) {
    return error("ERR Background save already in progress");
  }
  try {
    context.replica.renewal.begin(`BGSAVE from ${client.address}`);
    return simple("Background saving started");
  } catch (refused) {
    if (!(refused instanceof ReplicaError)) throw refused;
    return error(`ERR ${refused.message}`);
  }
}

/** REPLICA ACCEPT: the data has become less than half, and that is right. */
function replicaCommand({ client, context, args }: Call): Uint8Array {
  const [what = "", ...more] = args;
  switch (what.toLowerCase()) {
    case "accept":
      if (more.length > 0) return wrongArgs("replica|accept");
      try {
        context.replica.directory.keeping.accept(client.address);
        return simple("OK");
      } catch (refused) {
        if (!(refused instanceof ReplicaError)) throw refused;
        return error(`ERR ${refused.message}`);
      }
    case "help":
      return subcommandHelp("REPLICA", [
        ["ACCEPT", "Says that the data is right though it is less than half of what it was."],
      ]);
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try REPLICA HELP.`);
  }
}
