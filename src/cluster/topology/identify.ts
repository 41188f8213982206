import type { ShardView } from "./topology.ts";

/** A shard that is followed. */
export interface KnownShard {
  readonly number: number;
  /** As the servers name it; undefined where none has told. */
  readonly shardId: string | undefined;
  /** The nodes that were last seen in it. */
  readonly nodeIds: ReadonlySet<string>;
  /** Its primary at the last look; undefined after a start. */
  readonly primaryId: string | undefined;
}

/** Which followed shards keep the history that a primary says its data has. */
export interface FoundHistory {
  /** That of its stream now; undefined where nobody keeps it. */
  readonly current: number | undefined;
  /** That of its stream before it became a primary. */
  readonly previous: number | undefined;
}

/** The answers of those that were asked for their history. */
export type Histories = ReadonlyMap<ShardView, FoundHistory>;

/** Shards and views that are no pair yet, and the pairs that were found. */
class Matching {
  readonly found = new Map<ShardView, number>();
  /** Whoever owns slots comes first; of the others one that is well, and whoever was a primary before. */
  readonly candidates: readonly ShardView[];
  readonly #known: readonly KnownShard[];
  readonly #taken = new Set<number>();

  constructor(known: readonly KnownShard[], views: readonly ShardView[]) {
    this.#known = known;
    const last = new Set(known.map(({ primaryId }) => primaryId));
    const rankOf = (view: ShardView) => rank(view) + (last.has(view.primary.id) ? 1 : 0);
    this.candidates = views.filter(isAlive).toSorted((one, other) => rankOf(other) - rankOf(one));
  }

  get isOver(): boolean {
    return this.#taken.size === this.#known.length;
  }

  pair(isSame: (view: ShardView, shard: KnownShard) => boolean): void {
    for (const view of this.candidates) {
      if (this.found.has(view)) continue;
      const shard = this.#known.find((one) => !this.#taken.has(one.number) && isSame(view, one));
      if (shard === undefined) continue;
      this.found.set(view, shard.number);
      this.#taken.add(shard.number);
    }
  }

  /** Finds those whose shard nobody needs to be asked for: by the servers' ids, or by the primary that it had before. */
  pairCertain(): void {
    this.pair((view, { shardId }) => shardId !== undefined && view.shardId === shardId);
    const clear = this.clearPairs();
    this.pair((view, shard) => isLed(view, shard) && clear(view, shard));
  }

  /**
   * Finds out where nodes alone tell which shard a view is: all its nodes that are known were seen in that one last, and
   * no other view shows any of that one's nodes. A primary without slots doesn't count against one that has some.
   */
  clearPairs(): (view: ShardView, shard: KnownShard) => boolean {
    const places = new Map(this.#known.flatMap((one) => [...one.nodeIds].map((id) => [id, one])));
    const shardsOf = (view: ShardView) =>
      new Set(idsOf(view).flatMap((id) => places.get(id)?.number ?? []));
    const shown = new Map(this.candidates.map((view) => [view, shardsOf(view)] as const));
    const pure = new Map<number, ShardView[]>();
    for (const [view, [number, ...others]] of shown) {
      if (number === undefined || others.length > 0) continue;
      pure.set(number, [...(pure.get(number) ?? []), view]);
    }
    return (view, shard) => {
      const numbers = shown.get(view)!;
      const isPure = [...numbers].every((number) => number === shard.number);
      const claims = (pure.get(shard.number) ?? []).filter(
        ({ slots }) => slots.length > 0 || view.slots.length === 0,
      );
      const isAlone = claims.every((one) => one === view);
      return isPure && isAlone && !isOther(view, shard);
    };
  }
}

/**
 * Finds out which shards that a cluster shows are which that are followed: by the servers' own shard ids; by the primary
 * that it had at the last look, where no node has moved; by the history of the data; then by the nodes, where they leave
 * no doubt. A node can have moved to another shard and become its primary there while nobody looked: so one node is no
 * proof. Two different shard ids are two shards, unless the history says otherwise.
 * @param histories what those said that `unclearShards` names.
 * @returns the number of each that was recognised; each number once. A failed primary without slots is nobody's shard.
 */
export function matchShards(
  known: readonly KnownShard[],
  views: readonly ShardView[],
  histories: Histories = new Map(),
): Map<ShardView, number> {
  const matching = new Matching(known, views);
  matching.pairCertain();
  if (matching.isOver) return matching.found;
  // Amid a failover the old primary may not know yet that another one has its slots. After a start, a history that goes
  // on tells more than slots: a node that was reset has its old shard's behind it.
  matching.pair(
    (view, { number, primaryId }) =>
      histories.get(view)?.current === number && (view.slots.length > 0 || primaryId === undefined),
  );
  matching.pair((view, { number }) => histories.get(view)?.previous === number);
  matching.pair((view, { number }) => histories.get(view)?.current === number);
  const isDenied = (view: ShardView, { nodeIds, number }: KnownShard) => {
    const history = histories.get(view);
    if (history === undefined) return false;
    const of = history.current ?? history.previous;
    return of === undefined ? !nodeIds.has(view.primary.id) : of !== number;
  };
  const clear = matching.clearPairs();
  const byNodes = (view: ShardView, shard: KnownShard) =>
    clear(view, shard) && idsOf(view).some((id) => shard.nodeIds.has(id));
  const owns = ({ slots }: ShardView) => slots.length > 0;
  for (const isMeant of [owns, () => true]) {
    matching.pair(
      (view, shard) =>
        isMeant(view) &&
        isLed(view, shard) &&
        (owns(view) || !hasOwner(matching, shard)) &&
        !isDenied(view, shard) &&
        !isOther(view, shard),
    );
    matching.pair((view, shard) => isMeant(view) && byNodes(view, shard) && !isDenied(view, shard));
  }
  return matching.found;
}

/** Those whose history is to be asked for, since ids and nodes leave doubt; none where every shard is found. */
export function unclearShards(
  known: readonly KnownShard[],
  views: readonly ShardView[],
): readonly ShardView[] {
  const matching = new Matching(known, views);
  matching.pairCertain();
  if (matching.isOver) return [];
  return matching.candidates.filter((view) => !matching.found.has(view));
}

/** Whether a view is a shard at all: a node that failed and owns nothing was replaced, or left. */
export function isAlive({ primary, slots }: ShardView): boolean {
  return slots.length > 0 || primary.health !== "failed";
}

function rank({ primary, slots }: ShardView): number {
  return (slots.length > 0 ? 4 : 0) + (primary.health === "ok" ? 2 : 0);
}

function idsOf({ primary, replicas }: ShardView): string[] {
  return [primary, ...replicas].map(({ id }) => id);
}

function isLed(view: ShardView, { primaryId }: KnownShard): boolean {
  return primaryId !== undefined && view.primary.id === primaryId;
}

/** Whether somebody who is nobody's shard yet owns slots, and has nodes of a shard. */
function hasOwner({ candidates, found }: Matching, { nodeIds }: KnownShard): boolean {
  return candidates.some(
    (view) =>
      view.slots.length > 0 && !found.has(view) && idsOf(view).some((id) => nodeIds.has(id)),
  );
}

function isOther(view: ShardView, { shardId }: KnownShard): boolean {
  return view.shardId !== undefined && shardId !== undefined && view.shardId !== shardId;
}
