import { limits } from "../../config/limits.ts";
import { MarkClock, type WallClock } from "../../store/generation/mark-clock.ts";
import type { ClusterLedger } from "../ledger/cluster-ledger.ts";
import { countSlots, SLOTS } from "../slots/slot-ranges.ts";
import type { Believed } from "../topology/believe.ts";
import type { ShardBook } from "./shard-book.ts";

/**
 * For how long slots must belong to no shard before that is recorded: amid a failover the old owner may have given them up
 * in a node's eyes, and the new one not have claimed them.
 */
const GAP_MS = 3_000;
/** How often old layouts are thinned out. */
const THIN_MS = 60 * 60_000;

/** Layouts are kept for so long before the earliest moment that a shard can be restored to. */
const SPARE_MS = 24 * 60 * 60_000;

/** Records who owns which slots, and which are being moved, as looks find it. */
export class LayoutRecorder {
  readonly #ledger: ClusterLedger;
  readonly #isPart: boolean;
  /** As the marks of the shards have it: a restore by time asks both. */
  readonly #clock: MarkClock;
  #thinnedMs = -Infinity;
  #forgotMs = 0;
  /** Since when some slots belong to no shard; undefined while all do. */
  #gapSinceMs: number | undefined;

  /** @param isPart whether other processes follow some of the shards. */
  constructor(ledger: ClusterLedger, isPart: boolean, clock: WallClock) {
    this.#ledger = ledger;
    this.#isPart = isPart;
    this.#clock = new MarkClock(clock, (what) => ledger.event("clock", what, clock.now()));
    this.#clock.continueFrom(ledger.lastSeenMs());
  }

  /**
   * Removes what no restore of the whole cluster needs, now and then.
   * @param oldest the earliest moment that each shard can be restored to; undefined for one where that isn't known.
   * @throws ReplicaError of the database.
   */
  forget(oldest: () => readonly (number | undefined)[], nowMs: number): void {
    if (nowMs - this.#forgotMs < THIN_MS) return;
    this.#forgotMs = nowMs;
    const moments = oldest();
    const known = moments.filter((moment) => moment !== undefined);
    if (known.length === 0 || known.length < moments.length) return;
    this.#ledger.forgetBefore(Math.min(...known) - SPARE_MS, limits.clusterOpenSlots);
  }

  /**
   * Records what a look found, whose shards `book` knows.
   * @param seenMs when that was, by the wall clock; milliseconds since 1970.
   * @param passedMs the same by a clock that nobody sets.
   * @returns whether something ought to be synced.
   * @throws ReplicaError of the database.
   */
  record(view: Believed, book: ShardBook, seenMs: number, passedMs: number): boolean {
    const atMs = this.#clock.at(seenMs);
    const { epoch, slotsAssigned } = view.topology;
    const slots = book.slots();
    const followed = [...slots.values()].reduce((sum, those) => sum + countSlots(those), 0);
    const isWhole = (this.#isPart ? slotsAssigned : followed) === SLOTS;
    this.#gapSinceMs = isWhole ? undefined : (this.#gapSinceMs ?? passedMs);
    const isSure = passedMs - (this.#gapSinceMs ?? -Infinity) >= GAP_MS;
    const isLayout = isSure && this.#ledger.sawLayout({ atMs, epoch, slots });
    const { open, isKnown } = book.openSlots(view);
    const isOpen = this.#ledger.sawOpenSlots(atMs, open, isKnown);
    if (passedMs - this.#thinnedMs > THIN_MS && !this.#ledger.thin(atMs)) {
      this.#thinnedMs = passedMs;
    }
    return isLayout || isOpen;
  }
}
