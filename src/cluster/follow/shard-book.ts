import { describeAddress } from "../../base/address.ts";
import { limits } from "../../config/limits.ts";
import type { ClusterLedger, SeenOpenSlot } from "../ledger/cluster-ledger.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { SLOTS, type SlotRange } from "../slots/slot-ranges.ts";
import type { Believed, KnownCluster } from "../topology/believe.ts";
import { isAlive, type KnownShard } from "../topology/identify.ts";
import type { ClusterNode, ShardView } from "../topology/topology.ts";

/**
 * A primary without slots becomes a shard once it was one for so long: a new node may be meant for a replica. The same for
 * one that may be a shard which is kept, and can't be asked.
 */
const SLOTLESS_MS = 10_000;
/** The same for one with slots, where there are shards already: amid a failover a node may show two for one. */
const UNKNOWN_MS = 500;

/** In so many looks in a row, and for so long, the nodes of a shard must belong to others before it counts as ended. */
const MISSING_LOOKS = 2;
const MISSING_MS = 1_000;
/** The same for nodes that nobody knows: one that is reset or replaced may come back. */
const FORGOTTEN_MS = 60_000;

/** What changed with a look. */
export interface BookChanges {
  /** New shards, not recorded yet. */
  readonly appeared: readonly ShardView[];
  readonly ended: readonly { readonly number: number; readonly why: string }[];
}

/** Where a book is kept. */
export type BookLedger = Pick<
  ClusterLedger,
  | "shards"
  | "members"
  | "highestEpoch"
  | "addShard"
  | "nameShard"
  | "endShard"
  | "sawMembers"
  | "forgetMembers"
>;

interface Entry {
  record: ShardRecord;
  nodeIds: Set<string>;
  primaryId: string | undefined;
  view: ShardView | undefined;
  missing: Missing | undefined;
}

/** A shard that looks don't show. */
interface Missing {
  readonly sinceMs: number;
  looks: number;
  /** The nodes that it had, its primary first. */
  readonly nodeIds: readonly string[];
  /** Since when the cluster knows none of them. */
  forgottenSinceMs: number | undefined;
}

/**
 * Knows which shard of the cluster is which that is kept, and records what looks find. A shard that has ended is
 * forgotten here: its number never comes back.
 */
export class ShardBook {
  readonly #ledger: BookLedger;
  readonly #entries = new Map<number, Entry>();
  readonly #nodeIds = new Set<string>();
  readonly #shardIds = new Set<string>();
  /** Where and when each node was seen last, as it was recorded; who was seen last comes last. */
  readonly #recorded = new Map<string, { readonly place: string; readonly atMs: number }>();
  readonly #unknownSince = new Map<string, number>();

  constructor(ledger: BookLedger) {
    this.#ledger = ledger;
    for (const record of ledger.shards()) {
      if (record.shardId !== undefined) this.#shardIds.add(record.shardId);
      if (record.endedMs === undefined) this.#enter(record);
    }
    const members = ledger.members().toSorted((one, other) => one.lastMs - other.lastMs);
    for (const { nodeId, shard, host, port, lastMs } of members) {
      this.#moveNode(nodeId, shard);
      this.#remember(nodeId, `${shard} ${describeAddress({ host, port })}`, lastMs);
    }
  }

  /** The shards that are followed, by their numbers. */
  get shards(): readonly ShardRecord[] {
    return [...this.#entries.values()].map(({ record }) => record);
  }

  /** What tells this cluster from another. */
  get known(): KnownCluster {
    const highestEpoch = this.#ledger.highestEpoch();
    return { highestEpoch, nodeIds: this.#nodeIds, shardIds: this.#shardIds };
  }

  /** How the last look saw a shard; undefined where it didn't. */
  view(number: number): ShardView | undefined {
    return this.#entries.get(number)?.view;
  }

  /** The shards that are followed, as `matchShards` takes them. */
  get knownShards(): KnownShard[] {
    return [...this.#entries.values()].map(({ record, nodeIds, primaryId }): KnownShard => ({
      number: record.number,
      shardId: record.shardId,
      nodeIds,
      primaryId,
    }));
  }

  /** Forgets who the primaries were: nobody looked for so long that they may lead other shards by now. */
  forgetPrimaries(): void {
    for (const entry of this.#entries.values()) entry.primaryId = undefined;
  }

  /**
   * Takes a believed view whose shards were found: records nodes and ids.
   * @param found by their numbers; shards that others follow have negative ones.
   * @param isDoubtful whether a shard that wasn't found may be one that is kept: nobody could ask it yet.
   * @returns which shards are new, and which have ended.
   */
  take(
    view: Believed,
    found: ReadonlyMap<ShardView, number>,
    nowMs: number,
    isDoubtful: (view: ShardView) => boolean = () => false,
  ): BookChanges {
    const seen = new Map([...found].map(([one, number]) => [number, one]));
    const ended: { number: number; why: string }[] = [];
    const isWhole = view.topology.slotsAssigned === SLOTS;
    // Before anything is written: where that fails, whom to follow is known all the same.
    for (const [number, entry] of this.#entries) entry.view = seen.get(number);
    for (const entry of this.#entries.values()) miss(entry, view, nowMs);
    for (const entry of this.#entries.values()) {
      if (entry.view !== undefined) this.#see(entry, entry.view, nowMs);
    }
    for (const [number, { missing }] of this.#entries) {
      const why = missing && isWhole && whyEnded(missing, view, found, nowMs);
      if (typeof why === "string") ended.push({ number, why });
    }
    this.#forget(view, nowMs);
    return { appeared: this.#appeared(view, found, nowMs, isDoubtful), ended };
  }

  /** Records a new shard. */
  add(view: ShardView, nowMs: number, leastNumber: number): ShardRecord {
    const record = this.#ledger.addShard(view.shardId, nowMs, leastNumber);
    const entry = this.#enter(record);
    entry.view = view;
    this.#see(entry, view, nowMs);
    this.#unknownSince.delete(view.primary.id);
    return record;
  }

  /** Records that a shard has ended; returns what is kept of it. */
  end(number: number, why: string, nowMs: number): ShardRecord {
    const { record } = this.#entries.get(number)!;
    this.#ledger.endShard(number, nowMs, why);
    this.#entries.delete(number);
    return { ...record, endedMs: nowMs, endedWhy: why };
  }

  /** Which shard owns which slots now. */
  slots(): Map<number, readonly SlotRange[]> {
    const views = [...this.#entries].map(([number, { view }]) => [number, view?.slots] as const);
    return new Map(
      views.flatMap(([number, slots]) => (slots === undefined ? [] : [[number, slots]])),
    );
  }

  /** The slots that are being migrated, as their own nodes say; and of which shards that is known. */
  openSlots({ open }: Believed): {
    readonly open: readonly SeenOpenSlot[];
    readonly isKnown: (source: number) => boolean;
  } {
    const shardOf = new Map<string, number>();
    for (const [number, { nodeIds, view }] of this.#entries) {
      for (const id of nodeIds) shardOf.set(id, number);
      if (view !== undefined) shardOf.set(view.primary.id, number);
    }
    const found = new Map<string, SeenOpenSlot>();
    for (const [nodeId, marks] of open) {
      for (const { slot, way, nodeId: otherId } of marks) {
        const [me, other] = [shardOf.get(nodeId), shardOf.get(otherId)];
        if (me === undefined || other === undefined || me === other) continue;
        const [source, target] = way === "to" ? [me, other] : [other, me];
        found.set(`${slot} ${source} ${target}`, { slot, source, target });
      }
    }
    const isKnown = (source: number) => {
      const primary = this.#entries.get(source)?.view?.primary;
      return primary === undefined || open.has(primary.id);
    };
    return { open: [...found.values()], isKnown };
  }

  #enter(record: ShardRecord): Entry {
    const entry: Entry = {
      record,
      nodeIds: new Set(),
      primaryId: undefined,
      view: undefined,
      missing: undefined,
    };
    this.#entries.set(record.number, entry);
    return entry;
  }

  #remember(nodeId: string, place: string, atMs: number): void {
    this.#recorded.delete(nodeId);
    this.#recorded.set(nodeId, { place, atMs });
  }

  /** Forgets nodes that weren't seen for long, and the oldest of too many. */
  #forget({ topology }: Believed, nowMs: number): void {
    let surplus = this.#recorded.size - limits.clusterMembers;
    const forgotten: string[] = [];
    for (const [id, { atMs }] of this.#recorded) {
      const isOld = nowMs - atMs > limits.clusterMemberMs;
      if (!isOld && surplus <= 0) break;
      if (topology.nodes.has(id)) continue;
      forgotten.push(id);
      surplus--;
    }
    if (forgotten.length === 0) return;
    this.#ledger.forgetMembers(forgotten);
    for (const id of forgotten) {
      this.#recorded.delete(id);
      this.#nodeIds.delete(id);
      for (const { nodeIds } of this.#entries.values()) nodeIds.delete(id);
    }
  }

  #moveNode(nodeId: string, shard: number): void {
    this.#nodeIds.add(nodeId);
    for (const { nodeIds } of this.#entries.values()) nodeIds.delete(nodeId);
    this.#entries.get(shard)?.nodeIds.add(nodeId);
  }

  #see(entry: Entry, view: ShardView, nowMs: number): void {
    const { number, shardId } = entry.record;
    entry.primaryId = view.primary.id;
    if (view.shardId !== undefined) {
      this.#shardIds.add(view.shardId);
      if (view.shardId !== shardId) {
        if (shardId !== undefined) this.#shardIds.delete(shardId);
        this.#ledger.nameShard(number, view.shardId);
        entry.record = { ...entry.record, shardId: view.shardId };
      }
    }
    const nodes = [view.primary, ...view.replicas];
    const moved = nodes.filter(
      (node) => this.#recorded.get(node.id)?.place !== placeOf(number, node),
    );
    for (const { id } of nodes) {
      const place = this.#recorded.get(id)?.place;
      if (place !== undefined) this.#remember(id, place, nowMs);
    }
    if (moved.length === 0) return;
    const rows = moved.map(({ id, address }) => ({ nodeId: id, host: "", port: 0, ...address }));
    this.#ledger.sawMembers(number, nowMs, rows);
    for (const node of moved) {
      this.#moveNode(node.id, number);
      this.#remember(node.id, placeOf(number, node), nowMs);
    }
  }

  #appeared(
    { topology, open }: Believed,
    found: ReadonlyMap<ShardView, number>,
    nowMs: number,
    isDoubtful: (view: ShardView) => boolean,
  ): ShardView[] {
    const unknown = topology.shards.filter((view) => !found.has(view) && isAlive(view));
    const ids = new Set(unknown.map(({ primary }) => primary.id));
    for (const id of this.#unknownSince.keys()) if (!ids.has(id)) this.#unknownSince.delete(id);
    const imported = new Set(
      [...open.values()].flat().flatMap(({ way, nodeId }) => (way === "to" ? [nodeId] : [])),
    );
    const shownMs = this.#entries.size === 0 ? 0 : UNKNOWN_MS;
    return unknown.filter((view) => {
      const { primary, slots } = view;
      const sinceMs = this.#unknownSince.get(primary.id) ?? nowMs;
      this.#unknownSince.set(primary.id, sinceMs);
      const isImporting = (open.get(primary.id) ?? []).some(({ way }) => way === "from");
      const isOfUse = slots.length > 0 || isImporting || imported.has(primary.id);
      const isUrgent = isOfUse && !isDoubtful(view);
      return nowMs - sinceMs >= (isUrgent ? shownMs : SLOTLESS_MS);
    });
  }
}

/** Takes whether a look shows a shard. */
function miss(entry: Entry, { topology }: Believed, nowMs: number): void {
  if (entry.view !== undefined) {
    entry.missing = undefined;
    return;
  }
  const ids = [entry.primaryId, ...entry.nodeIds].filter((id) => id !== undefined);
  const missing = (entry.missing ??= {
    sinceMs: nowMs,
    looks: 0,
    nodeIds: [...new Set(ids)],
    forgottenSinceMs: undefined,
  });
  missing.looks++;
  const isKnown = missing.nodeIds.some((id) => topology.nodes.has(id));
  missing.forgottenSinceMs = isKnown ? undefined : (missing.forgottenSinceMs ?? nowMs);
}

/**
 * Why a shard has ended; undefined where it may come back: a primary that failed without slots is the same shard once it
 * runs again.
 */
function whyEnded(
  { sinceMs, looks, nodeIds, forgottenSinceMs = Infinity }: Missing,
  { topology }: Believed,
  found: ReadonlyMap<ShardView, number>,
  nowMs: number,
): string | undefined {
  if (nowMs - forgottenSinceMs >= FORGOTTEN_MS) return "its nodes have left the cluster";
  if (looks < MISSING_LOOKS || nowMs - sinceMs < MISSING_MS) return undefined;
  const present = nodeIds.filter((id) => topology.nodes.has(id));
  const places = present.flatMap((id) => {
    const isIn = ({ primary, replicas }: ShardView) =>
      primary.id === id || replicas.some((one) => one.id === id);
    return [...found]
      .filter(([view]) => isIn(view))
      .map(([view, number]) => ({ id, view, number }));
  });
  const [first] = places;
  if (first === undefined || places.length < present.length) return undefined;
  const { id, view, number } = first;
  if (number < 0) return `its node ${id} belongs to a shard that another process follows`;
  return view.primary.id === id
    ? `its node ${id} is the primary of shard ${number}`
    : `its node ${id} became a replica of shard ${number}`;
}

function placeOf(shard: number, { address = { host: "", port: 0 } }: ClusterNode): string {
  return `${shard} ${describeAddress(address)}`;
}
