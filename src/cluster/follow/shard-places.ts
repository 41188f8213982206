import type { NumberRange } from "../../config/schema/setting-values.ts";
import type { OtherShards } from "../ledger/other-shards.ts";
import type { Believed } from "../topology/believe.ts";
import type { KnownShard } from "../topology/identify.ts";
import type { ShardView, Topology } from "../topology/topology.ts";
import { ShardBook } from "./shard-book.ts";

/**
 * Decides which shards this process follows, of those that `--shards` shares among several. Each shard has a place that
 * stays: at the first look, those that own slots get places in the order of their slots; later ones get the next places,
 * in the order in which they appear. Those that are others' are remembered, so that none is taken for a new one when the
 * order of slots changes.
 */
export class ShardPlaces {
  readonly #range: NumberRange | undefined;
  readonly #ledger: OtherShards;
  readonly #others: ShardBook;
  #hasPlaces = false;

  /** @param range the places that are ours; undefined: all, and nothing is remembered. */
  constructor(ledger: OtherShards, range: NumberRange | undefined) {
    this.#range = range;
    this.#ledger = ledger;
    this.#others = new ShardBook({ ...bound(ledger), highestEpoch: () => 0 });
  }

  /** The shards of others, to be told from ours; their numbers are negative. */
  get known(): readonly KnownShard[] {
    if (this.#range === undefined) return [];
    return this.#others.knownShards.map((one) => ({ ...one, number: -one.number }));
  }

  /** See `ShardBook.forgetPrimaries`. */
  forgetPrimaries(): void {
    this.#others.forgetPrimaries();
  }

  /**
   * Records what a look found.
   * @param found the shards of the view: ours by their numbers, others' by those of `known`.
   * @param appeared the new ones.
   * @returns those that are to be ours, not recorded yet; and whether something ought to be synced.
   * @throws ReplicaError of the database.
   */
  take(
    view: Believed,
    found: ReadonlyMap<ShardView, number>,
    appeared: readonly ShardView[],
    nowMs: number,
  ): { readonly wanted: readonly ShardView[]; readonly isNews: boolean } {
    if (this.#range === undefined) return { wanted: appeared, isNews: false };
    const theirs = new Map([...found].map(([one, number]) => [one, -number]));
    const { ended } = this.#others.take(view, theirs, nowMs);
    for (const { number, why } of ended) this.#others.end(number, why, nowMs);
    const claimed = this.#claimed(theirs, nowMs);
    const wanted: ShardView[] = [];
    for (const [one, place] of this.#placesFor(view.topology, appeared)) {
      if (this.#isOurs(place)) wanted.push(one);
      else this.#ledger.putAt(this.#others.add(one, nowMs, 1).number, place);
    }
    const isNews = ended.length + claimed.length + (appeared.length - wanted.length) > 0;
    return { wanted: [...claimed, ...wanted], isNews };
  }

  /** Those that were others' until `--shards` was changed. */
  #claimed(theirs: ReadonlyMap<ShardView, number>, nowMs: number): ShardView[] {
    const claimed: ShardView[] = [];
    for (const [view, number] of theirs) {
      const place = number > 0 ? this.#ledger.placeOf(number) : undefined;
      if (place === undefined || !this.#isOurs(place)) continue;
      this.#others.end(number, "it is ours", nowMs);
      claimed.push(view);
    }
    return claimed;
  }

  #placesFor(
    { shards }: Topology,
    appeared: readonly ShardView[],
  ): readonly (readonly [ShardView, number])[] {
    if (appeared.length === 0 && this.#hasPlaces) return [];
    const places = this.#ledger.places();
    const first = places.size === 0 ? shards.filter(({ slots }) => slots.length > 0) : [];
    const ids = [...first, ...appeared].map(({ primary }) => primary.id);
    // One that has a place was new before: then a crash came, or a failure of the database.
    const next = 1 + Math.max(-1, ...places.values());
    const without = [...new Set(ids)].filter((id) => !places.has(id));
    const given = new Map(without.map((id, index) => [id, next + index] as const));
    this.#ledger.givePlaces(given);
    this.#hasPlaces = true;
    return appeared.map((one) => {
      const { id } = one.primary;
      return [one, given.get(id) ?? places.get(id)!] as const;
    });
  }

  #isOurs(place: number): boolean {
    const { first, last } = this.#range!;
    return first <= place && place <= last;
  }
}

/** Its methods as functions. */
function bound(ledger: OtherShards) {
  return {
    shards: () => ledger.shards(),
    members: () => ledger.members(),
    addShard: ledger.addShard.bind(ledger),
    nameShard: ledger.nameShard.bind(ledger),
    endShard: ledger.endShard.bind(ledger),
    sawMembers: ledger.sawMembers.bind(ledger),
    forgetMembers: ledger.forgetMembers.bind(ledger),
  };
}
