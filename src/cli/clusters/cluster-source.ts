import { existsSync } from "node:fs";
import { clusterDatabase } from "../../cluster/ledger/cluster-schema.ts";
import { usageError } from "../../base/errors.ts";
import { addressesOption } from "./cluster-help.ts";

/** Whether a command's SOURCE is the directory of a cluster. */
export function isClusterDirectory(source: string): boolean {
  return source !== "" && existsSync(clusterDatabase(source));
}

/** Refuses what names a point of one shard's stream. @param command that is used. @throws ReplicaError USAGE. */
export function refuseShardPoint(
  dir: string,
  options: ReadonlyMap<string, string>,
  command: "restore" | "keys" = "restore",
): void {
  const given = ["offset", "generation"].find((name) => options.has(name));
  if (given === undefined) return;
  throw usageError(
    `${dir} holds a whole cluster, which --at ${command === "restore" ? "restores" : "chooses a moment of"}; --${given} is for one shard: replica ${command} ${dir}/shards/${dir.includes("://") ? "NAME" : "0001"}`,
  );
}

/** Refuses --addresses for anything but a cluster. @throws ReplicaError USAGE. */
export function refuseAddresses(source: string, options: ReadonlyMap<string, string>): void {
  if (!options.has(addressesOption.name)) return;
  throw usageError(
    `--${addressesOption.name} is for the directory of a cluster, and ${JSON.stringify(source.slice(0, 100))} is none: it has no cluster.db`,
  );
}
