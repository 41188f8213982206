import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { diskError, writeWhole } from "../../store/disk/disk.ts";
import { filesOf } from "../../store/generation/layout.ts";
import { restore, type Restored, type RestoreOptions } from "../../store/restore/restore.ts";
import {
  beginTarget,
  findWholeTarget,
  publishTarget,
  type Readers,
  type RestoreTarget,
} from "../../store/restore/restore-target.ts";
import { BUS_OFFSET, type ConfiguredNode, nodesConf, type NodeSlots } from "../slots/nodes-conf.ts";
import type { NodeAddress } from "./addresses.ts";
import type { ClusterPlan, ShardPlan } from "./plan.ts";
import { shardName } from "./shard-window.ts";

/** A server reads it in its folder by default (`cluster-config-file`). */
const NODES_CONF = "nodes.conf";
const ID_BYTES = 20;

/** What was restored of one shard. */
export interface RestoredNode extends NodeSlots {
  readonly number: number;
  readonly address: NodeAddress;
  readonly restored: Restored;
  /** Keys that a migration had taken to another shard, and that are here again. */
  readonly broughtBack: number;
}

/** What is needed beside the plan. */
export interface ClusterRestoreOptions extends Omit<RestoreOptions, "appendix"> {
  /** One for each shard of the plan. */
  readonly addresses: readonly NodeAddress[];
}

/**
 * Writes a folder for each shard into `target`, each as `restore` writes it and with a `nodes.conf`, so that servers
 * started on them are a cluster. All is written beside the target, checked, synced, and renamed as one: a restore that
 * fails leaves nothing.
 * @param dir the cluster's directory, which the target must not lie in; undefined where it comes from no folder.
 * @throws ReplicaError as `restore`.
 */
export async function restoreCluster(
  plan: ClusterPlan,
  dir: string | undefined,
  target: string,
  options: ClusterRestoreOptions,
): Promise<RestoredNode[]> {
  const place = findWholeTarget(target, dir);
  const { addresses, ...how } = options;
  try {
    beginTarget(place);
    const nodes = nodesOf(plan, addresses);
    const written: RestoredNode[] = [];
    for (const [index, shard] of plan.shards.entries()) {
      const restored = await writeShard(shard, place, nodesConf(nodes, index), how);
      const { number, told } = shard;
      const slots = slotsOf(plan, number);
      const address = addresses[index]!;
      written.push({ number, ...slots, address, restored, broughtBack: told.keys });
    }
    await how.disk.syncDir(place.temporary);
    await publishTarget(how.disk, place, "", readersOf(plan.shards, options.mode));
    return written;
  } catch (cause) {
    fs.rmSync(place.temporary, { recursive: true, force: true });
    options.signal.throwIfAborted();
    throw diskError("restoring to", place.path, cause);
  }
}

async function writeShard(
  { number, catalogue, point, appendix }: ShardPlan,
  { path, temporary }: RestoreTarget,
  conf: string,
  options: Omit<RestoreOptions, "appendix">,
): Promise<Restored> {
  const name = shardName(number);
  const folder = join(temporary, name);
  const restored = await restore(catalogue, point, folder, { ...options, appendix });
  await writeWhole(options.disk, join(folder, NODES_CONF), new TextEncoder().encode(conf));
  return { ...restored, dir: join(path, name) };
}

/** With new ids: a node with an old one could join the living cluster. */
function nodesOf(plan: ClusterPlan, addresses: readonly NodeAddress[]): ConfiguredNode[] {
  return plan.shards.map(({ number }, index) => {
    const { host, port } = addresses[index]!;
    const id = randomBytes(ID_BYTES).toString("hex");
    return { id, host, port, busPort: port + BUS_OFFSET, ...slotsOf(plan, number) };
  });
}

function slotsOf({ shards, open }: ClusterPlan, number: number): NodeSlots {
  const placeOf = (other: number) => shards.findIndex((shard) => shard.number === other);
  return {
    slots: shards[placeOf(number)]?.slots ?? [],
    migrating: open
      .filter(({ source }) => source === number)
      .map(({ slot, target }) => ({ slot, peer: placeOf(target) })),
    importing: open
      .filter(({ target }) => target === number)
      .map(({ slot, source }) => ({ slot, peer: placeOf(source) })),
  };
}

/** Nobody may read the whole who couldn't read each shard. */
function readersOf(shards: readonly ShardPlan[], mode: number | undefined): Readers {
  if (mode !== undefined) return { mode };
  const generations = shards.map(({ point }) => point.generation);
  return {
    source: {
      folders: [
        ...shards.map(({ catalogue }) => catalogue.path),
        ...generations.flatMap(({ dir }) => [dirname(dir), dir]),
      ],
      files: generations.flatMap((generation) => {
        const { base, log } = filesOf(generation);
        return [base, log];
      }),
    },
  };
}
