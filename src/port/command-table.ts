import type { ClusterParts, Command, ReplicaParts } from "./call.ts";
import { clientCommands } from "./client-commands.ts";
import { clusterCommands } from "./cluster-commands.ts";
import { configCommands } from "./config-commands.ts";
import { connectionCommands } from "./connection-commands.ts";
import { programCommands } from "./program-commands.ts";
import { pubsubCommands } from "./pubsub-commands.ts";
import { replicationCommands } from "./replication-commands.ts";
import { serverCommands } from "./server-commands.ts";
import { transactionCommands } from "./transaction-commands.ts";

/** What every port answers. */
const COMMON: readonly Command[] = [
  ...connectionCommands,
  ...programCommands,
  ...clientCommands,
  ...transactionCommands,
  ...pubsubCommands,
];

/**
 * Every command of a port that answers for one replica, by its name in lower case. To add one, add a row to the file of
 * its kind.
 */
export const COMMANDS = byName([
  ...COMMON,
  ...serverCommands,
  ...replicationCommands,
  ...configCommands,
]);

/** The same for a port that answers for all shards of a cluster. */
const CLUSTER_COMMANDS = byName([...COMMON, ...clusterCommands]);

/** What a port serves: the commands, and what they use. */
export interface Serving {
  readonly parts: ReplicaParts | ClusterParts;
  readonly commands: ReadonlyMap<string, Command>;
  /** Whether the primary has a password: then clients without a login may only look. */
  readonly hasPassword: boolean;
}

/** Serves one replica. */
export function forReplica(parts: ReplicaParts): Serving {
  return { parts, commands: COMMANDS, hasPassword: parts.replica.primary.login.isGiven };
}

/** Serves all shards of a cluster. */
export function forCluster(parts: ClusterParts): Serving {
  return { parts, commands: CLUSTER_COMMANDS, hasPassword: parts.cluster.hasPassword };
}

function byName(commands: readonly Command[]): ReadonlyMap<string, Command> {
  return new Map(commands.map((command) => [command.name, command]));
}
