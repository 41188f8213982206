import { ReplicaError } from "../base/errors.ts";
import { clusterSections } from "../cluster/monitor/cluster-info.ts";
import { infoText } from "../monitor/process-info.ts";
import { array, bulk, error, integer, simple, verbatim } from "../resp/reply.ts";
import { type ClusterCall, type ClusterCommand, subcommandHelp, wrongArgs } from "./call.ts";
import type { Answer } from "./clients/client.ts";
import { clusterConfig } from "./config-commands.ts";
import { infoSurroundings } from "./info-surroundings.ts";
import { NO_KEYS } from "./refuse-unknown.ts";

const ONE_SHARD =
  "this port answers for all shards of a cluster: start with --relay-ports FROM, and ask the port of one shard";

/** Commands that speak of one replication history; a cluster has one for each shard. */
const OF_ONE_SHARD = [
  ["replicaof", 3, "Refused: whom a shard follows is what the cluster says."],
  ["slaveof", 3, "Refused: whom a shard follows is what the cluster says."],
  ["replconf", -1, "Refused: each shard's relay has a port of its own."],
  ["psync", -3, "Refused: each shard's relay has a port of its own."],
  ["sync", 1, "Refused: each shard's relay has a port of its own."],
  ["wait", 3, "Refused: each shard's relay has a port of its own."],
] as const;

/** What a port answers for all shards of a cluster, beside what every port does. */
export const clusterCommands: readonly ClusterCommand[] = [
  {
    name: "info",
    arity: -1,
    flags: ["loading", "stale"],
    summary: "Returns the state of the replica, by section, with a row for each shard.",
    run: (call) => {
      const { context, client, args } = call;
      const sections = clusterSections(context.cluster.status, infoSurroundings(context));
      return verbatim(infoText(sections, args), client.proto);
    },
  },
  {
    name: "role",
    arity: 1,
    flags: ["fast", "stale"],
    summary: "Returns that it is a replica, of no single primary.",
    run: role,
  },
  {
    name: "dbsize",
    arity: 1,
    flags: ["readonly", "fast"],
    summary: "Says, as an error, that no keys are counted.",
    run: () => error(NO_KEYS),
  },
  {
    name: "lastsave",
    arity: 1,
    flags: ["fast"],
    summary:
      "Returns when the oldest of the shards' current snapshots became current, in unix time.",
    run: lastSave,
  },
  {
    name: "bgsave",
    arity: -1,
    flags: ["admin", "noscript"],
    changes: true,
    summary: "Takes a new snapshot of every shard, some at a time (--cluster-snapshots).",
    run: bgsave,
  },
  {
    name: "replica",
    arity: -2,
    flags: ["admin", "noscript"],
    changes: ["accept"],
    summary:
      "Says of a shard, or of all, that the data is right though it is less than half of what it was: REPLICA ACCEPT [shard].",
    run: replicaCommand,
  },
  {
    name: "config",
    arity: -2,
    flags: ["admin", "noscript"],
    changes: ["set", "rewrite", "resetstat"],
    summary: "Returns settings.",
    run: clusterConfig,
  },
  ...OF_ONE_SHARD.map(([name, arity, summary]): ClusterCommand => {
    const flags = ["admin", "noscript"];
    return { name, arity, flags, alone: true, summary, run: () => error(`ERR ${ONE_SHARD}`) };
  }),
];

function role({ context }: ClusterCall): Uint8Array {
  const { live } = context.cluster.status;
  const areConnected =
    live.length > 0 && live.every(({ replica }) => replica?.link.state === "connected");
  const state = areConnected ? "connected" : "connect";
  return array([bulk("slave"), bulk(""), integer(0), bulk(state), integer(-1)]);
}

function lastSave({ context }: ClusterCall): Uint8Array {
  const saved = context.cluster.status.live.map(
    ({ replica }) => replica?.currentGeneration?.currentAtMs ?? 0,
  );
  return integer(saved.length === 0 ? 0 : Math.floor(Math.min(...saved) / 1000));
}

/** BGSAVE [SCHEDULE] */
function bgsave({ client, context, args }: ClusterCall): Uint8Array {
  const [option, ...more] = args;
  if (more.length > 0 || (option !== undefined && option.toUpperCase() !== "SCHEDULE")) {
    return error("ERR syntax error");
  }
  const count = context.cluster.bgsave(`BGSAVE from ${client.address}`);
  if (count === 0) return error("ERR Background save already in progress for all shards");
  return simple("Background saving started");
}

/** REPLICA ACCEPT [shard] */
function replicaCommand({ client, context, args }: ClusterCall): Answer {
  const [what = "", shard, ...more] = args;
  switch (what.toLowerCase()) {
    case "accept":
      if (more.length > 0) return wrongArgs("replica|accept");
      if (shard !== undefined && !/^\d{1,9}$/.test(shard)) return error("ERR invalid shard number");
      try {
        const number = shard === undefined ? undefined : Number(shard);
        context.cluster.accept(number, client.address);
        return simple("OK");
      } catch (refused) {
        if (!(refused instanceof ReplicaError)) throw refused;
        return error(`ERR ${refused.message}`);
      }
    case "help":
      return subcommandHelp("REPLICA", [
        [
          "ACCEPT [<shard>]",
          "Says of a shard, or of all, that the data is right though it is less than half of what it was.",
        ],
      ]);
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try REPLICA HELP.`);
  }
}
