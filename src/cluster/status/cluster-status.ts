import type { ReplicaStatus } from "../../replica/status.ts";
import { countSlots, SLOTS, type SlotRange } from "../slots/slot-ranges.ts";

/** One shard of the cluster that is followed. */
export interface ShardStatus {
  readonly number: number;
  /** The number as its directory, logs and metrics show it: `0001`. */
  readonly label: string;
  /**
   * `waiting`: it has not begun yet; `following`: a replica runs; `ended`: its node went to another shard, what is kept
   * stays; `failed`: it can't go on, the others do.
   */
  readonly state: "waiting" | "following" | "ended" | "failed";
  /** What it owns now, as the topology says. */
  readonly slots: readonly SlotRange[];
  /** Why it ended or failed; undefined while it goes on. */
  readonly why: string | undefined;
  /** Undefined where no replica runs. */
  readonly replica: ReplicaStatus | undefined;
  /** Where other replicas attach to it; undefined without --relay-ports. */
  readonly relayPort: number | undefined;
}

/** What the nodes say of the cluster. */
export interface TopologyStatus {
  /** `cluster_state` of the node that was believed last; undefined before one was. */
  readonly state: string | undefined;
  readonly epoch: number;
  readonly knownNodes: number;
  /** How many slots belong to some node. */
  readonly assignedSlots: number;
  /** How long ago a node was believed last; undefined before. */
  readonly ageSeconds: number | undefined;
  /** Why nobody is believed now; undefined where somebody is. */
  readonly trouble: string | undefined;
}

/** How far the layouts of a cluster are in its archive. */
export interface LayoutsArchiveStatus {
  /** Up to when it has them, in milliseconds since 1970; undefined where it has none yet, or wasn't asked. */
  readonly archivedMs: number | undefined;
  /** Why nothing gets through at present; undefined while all is well. */
  readonly error: string | undefined;
}

/** Where the status of a cluster comes from. */
export interface ClusterSource {
  /** As a URL without its password. */
  readonly name: string;
  readonly directoryPath: string;
  readonly runId: string;
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly uptimeSeconds: number;
  readonly topology: TopologyStatus;
  /** Whether only some of the shards are followed here (--shards). */
  readonly isPart: boolean;
  /** In the order of their numbers, ended ones too. */
  readonly shards: readonly ShardStatus[];
  /** How many of them wait for their turn to take a snapshot (--cluster-snapshots). */
  readonly waitingSnapshots: number;
  /** Undefined where nothing is archived. */
  readonly layoutsArchive: LayoutsArchiveStatus | undefined;
}

/** How old the topology may be while the cluster counts as ready; as long as a failover takes. */
const STALE_TOPOLOGY_SECONDS = 60;

/** How many shards that have ended are shown one by one: a cluster that lives for years has more than anyone reads. */
const SHOWN_ENDED = 100;

/** The one source of everything that is reported of a cluster. Read-only; each property is looked up when it is read. */
export class ClusterStatus {
  readonly #source: ClusterSource;

  constructor(source: ClusterSource) {
    this.#source = source;
  }

  get name(): string {
    return this.#source.name;
  }

  get directoryPath(): string {
    return this.#source.directoryPath;
  }

  get runId(): string {
    return this.#source.runId;
  }

  get startedAtMs(): number {
    return this.#source.startedAtMs;
  }

  get uptimeSeconds(): number {
    return this.#source.uptimeSeconds;
  }

  get topology(): TopologyStatus {
    return this.#source.topology;
  }

  get layoutsArchive(): LayoutsArchiveStatus | undefined {
    return this.#source.layoutsArchive;
  }

  get shards(): readonly ShardStatus[] {
    return this.#source.shards;
  }

  get waitingSnapshots(): number {
    return this.#source.waitingSnapshots;
  }

  /** Those that are to be followed: all but the ended ones. */
  get live(): readonly ShardStatus[] {
    return this.shards.filter(({ state }) => state !== "ended");
  }

  /** Those that are shown one by one: of the ended ones the last. */
  get shown(): readonly ShardStatus[] {
    const ended = this.shards.filter(({ state }) => state === "ended").slice(-SHOWN_ENDED);
    return this.shards.filter((shard) => shard.state !== "ended" || ended.includes(shard));
  }

  /** How many of the slots are owned by a shard whose replica runs here. */
  get coveredSlots(): number {
    return slotsOf(this.live.filter(({ replica }) => replica !== undefined));
  }

  /**
   * How many slots are followed by nobody that is known here: they have no owner, or none whose replica runs. With --shards
   * other processes follow what isn't ours.
   */
  get uncoveredSlots(): number {
    const { isPart, topology } = this.#source;
    if (!isPart) return SLOTS - this.coveredSlots;
    const idle = this.live.filter(({ replica }) => replica === undefined);
    return SLOTS - topology.assignedSlots + slotsOf(idle);
  }

  /** The newest moment as of which all shards can be restored: milliseconds since 1970; undefined where one has none. */
  get newestRestorableMs(): number | undefined {
    return oldest(this.#owners.map(({ replica }) => replica?.newestRestorableMs));
  }

  /** How long ago that is. */
  get staleSeconds(): number | undefined {
    const ages = this.#owners.map(({ replica }) => replica?.staleSeconds);
    const known = ages.filter((age) => age !== undefined);
    return known.length < ages.length || known.length === 0 ? undefined : Math.max(...known);
  }

  get #owners(): readonly ShardStatus[] {
    return this.live.filter(({ slots }) => slots.length > 0);
  }

  /**
   * Why the cluster counts as not ready: the topology is not known, slots are followed by nobody, or a shard is not ready.
   * Undefined where it is.
   * @param readyLagMs how long a received byte may stay unsynced; milliseconds.
   */
  whyNotReady(readyLagMs: number): string | undefined {
    const { topology, live } = this;
    const { ageSeconds, trouble } = topology;
    if (ageSeconds === undefined || live.length === 0) {
      return `the cluster's topology is not known yet${trouble === undefined ? "" : `: ${trouble}`}`;
    }
    const troubles = live.flatMap((shard) => {
      const why = whyShardNotReady(shard, readyLagMs);
      return why === undefined ? [] : [`shard ${shard.label}: ${why}`];
    });
    if (troubles.length > 0) {
      return `${troubles.length} of ${live.length} shards are not ready: ${troubles.join("; ")}`;
    }
    const { uncoveredSlots } = this;
    if (uncoveredSlots > 0) return `${uncoveredSlots} of ${SLOTS} slots are owned by no shard`;
    if (ageSeconds <= STALE_TOPOLOGY_SECONDS || trouble === undefined) return undefined;
    return `no node has told the topology for ${Math.floor(ageSeconds)} s: ${trouble}`;
  }
}

function slotsOf(shards: readonly ShardStatus[]): number {
  return shards.reduce((sum, { slots }) => sum + countSlots(slots), 0);
}

/** Why one shard counts as not ready; undefined where it is. */
export function whyShardNotReady(shard: ShardStatus, readyLagMs: number): string | undefined {
  if (shard.replica === undefined) return shard.why ?? "it has not begun yet";
  return shard.replica.whyNotReady(readyLagMs);
}

/** The smallest of them; undefined where one of them is, or there is none. */
function oldest(moments: readonly (number | undefined)[]): number | undefined {
  const known = moments.filter((moment) => moment !== undefined);
  return known.length < moments.length || known.length === 0 ? undefined : Math.min(...known);
}
