import { ReplicaError } from "../base/errors.ts";
import { infoSections } from "../monitor/info.ts";
import { infoText } from "../monitor/process-info.ts";
import { error, integer, simple, verbatim } from "../resp/reply.ts";
import { type ReplicaCall, type ReplicaCommand, subcommandHelp, wrongArgs } from "./call.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { infoSurroundings } from "./info-surroundings.ts";
import { NO_KEYS } from "./refuse-unknown.ts";

export const serverCommands: readonly ReplicaCommand[] = [
  {
    name: "info",
    arity: -1,
    flags: ["loading", "stale"],
    summary: "Returns the state of the replica, by section.",
    run: info,
  },
  {
    name: "dbsize",
    arity: 1,
    flags: ["readonly", "fast"],
    summary: "Says what is known of the number of keys, as an error: none is counted.",
    run: dbsize,
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
];

function info({ client, context, args }: ReplicaCall): Uint8Array {
  const sections = infoSections(context.status, infoSurroundings(context));
  return verbatim(infoText(sections, args), client.proto);
}

/**
 * DBSIZE is an error: a number can't say how old it is, and 0 would look like an empty database. The error says what is
 * known.
 */
function dbsize({ client, context }: ReplicaCall): Uint8Array {
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

/** BGSAVE [SCHEDULE]: takes a new generation over a second link while the first one keeps following. */
function bgsave({ client, context, args }: ReplicaCall): Uint8Array {
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
function replicaCommand({ client, context, args }: ReplicaCall): Uint8Array {
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
