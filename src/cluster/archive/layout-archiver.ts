import {
  encodeDocument,
  ARCHIVE_FORMAT,
  CLUSTER_DOCUMENT,
} from "../../archive/format/documents.ts";
import { CLUSTER_KEY } from "../../archive/format/names.ts";
import type { ObjectStore } from "../../archive/store/object-store.ts";
import { refuseOtherArchive } from "../../archive/writer/describe-archive.ts";
import { Outage } from "../../archive/writer/outage.ts";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { CLOCK_SET_BACK_MS } from "../../store/generation/mark-clock.ts";
import { ClusterHistory } from "../ledger/cluster-history.ts";
import type { Layout } from "../ledger/layouts.ts";
import { formatRanges } from "../slots/slot-ranges.ts";
import { LAYOUTS, layoutsKey, type LayoutsName, parseLayoutsName } from "./layout-names.ts";

/** The most layouts of one document: some hundred bytes for each shard of each. */
const LAYOUTS_AT_ONCE = 300;
/** A layout that nothing changes is said to hold once an hour: who reads it knows then that somebody looked. */
const CONFIRM_MS = 3_600_000;
const REMOVE_EVERY_MS = 24 * 3_600_000;
/** What is restorable began a little before the retention says. */
const KEPT_LONGER_MS = 7 * 24 * 3_600_000;

export interface LayoutArchiverOptions {
  readonly store: ObjectStore;
  /** The cluster's directory. */
  readonly dir: string;
  readonly clock: Clock;
  /** --archive-every; milliseconds. */
  readonly everyMs: number;
  /** --archive-keep-for; milliseconds; undefined: for ever. */
  readonly keepForMs: number | undefined;
}

/** Carries what the looks at a cluster found to its archive, as documents that never change. */
export class LayoutArchiver {
  readonly #options: LayoutArchiverOptions;
  readonly #outage: Outage;
  /** Up to when the archive has the layouts; undefined until it was asked. */
  #toMs: number | undefined;
  /** How far that is ahead of what the looks had found: while they wait for the clock, each document has a later name. */
  #aheadMs = 0;
  /** What was sent last, to tell a change by. */
  #sent = "";
  #hasDocument = false;
  #removedMs = -Infinity;

  constructor(options: LayoutArchiverOptions) {
    this.#options = options;
    this.#outage = new Outage(options.store.url, options.clock);
  }

  /** Up to when the archive has the layouts, in milliseconds since 1970; undefined where it has none yet. */
  get archivedMs(): number | undefined {
    return this.#toMs;
  }

  /** Why nothing gets through at present. */
  get error(): ReplicaError | undefined {
    return this.#outage.error;
  }

  /** Archives until the signal aborts, and what has changed by then once more where the store answers at once. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, everyMs } = this.#options;
    while (!signal.aborted) {
      let pauseMs = everyMs;
      try {
        // More than one document may be due after an outage.
        while ((await this.#send(signal)) && !signal.aborted);
        await this.#removeOld(signal);
        this.#outage.succeeded();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ReplicaError)) throw error;
        pauseMs = this.#outage.failed(error);
      }
      await clock.sleep(pauseMs, signal);
    }
  }

  /** Sends one document, if one is due; whether it did. */
  async #send(signal: AbortSignal): Promise<boolean> {
    const { store, dir, clock } = this.#options;
    using history = new ClusterHistory(dir);
    const [first] = history.shards;
    if (first === undefined) return false;
    if (!this.#hasDocument) {
      await refuseOtherArchive(store, "cluster", signal);
      await store.put(CLUSTER_KEY, encodeDocument("cluster", CLUSTER_DOCUMENT), signal);
      this.#hasDocument = true;
    }
    this.#toMs ??= await this.#archivedUntil(first.name, signal);
    const nowMs = clock.now();
    const untilMs = Math.max(nowMs, history.lastSeenMs());
    // What the looks find goes back with such a clock; else it has the last time until the clock has caught up.
    const isFar = this.#toMs > untilMs + CLOCK_SET_BACK_MS;
    const isWaiting = !isFar && nowMs < this.#toMs;
    const toldMs = this.#toMs - this.#aheadMs;
    const fromMs = isFar ? beforeNewest(history, untilMs) : Math.min(toldMs, untilMs);
    const found = history.layouts(fromMs, untilMs);
    const layouts = found.slice(0, LAYOUTS_AT_ONCE);
    const last = layouts.at(-1);
    if (last === undefined) return false;
    const isAll = layouts.length === found.length;
    // What was seen in the same millisecond may be told twice, never left out.
    const seenMs = isAll ? Math.max(last.confirmedMs, last.atMs) : last.atMs;
    if (seenMs <= fromMs && !isWaiting) return false;
    const openSlots = history.openSlots(fromMs, seenMs);
    const state = JSON.stringify([last.atMs, last.epoch, history.shards, openSlots]);
    if (state === this.#sent && seenMs - fromMs < CONFIRM_MS) return false;
    const toMs = isFar ? seenMs : Math.max(seenMs, this.#toMs + 1);
    const name: LayoutsName = { fromMs, toMs };
    const document = encodeDocument("layouts", {
      format: ARCHIVE_FORMAT,
      ...name,
      shards: history.shards.map(withoutUndefined),
      layouts: layouts.map(layoutToJson),
      openSlots: openSlots.map(withoutUndefined),
    });
    await store.put(layoutsKey(first.name, name), document, signal);
    [this.#toMs, this.#aheadMs, this.#sent] = [toMs, toMs - seenMs, state];
    return !isAll;
  }

  async #archivedUntil(directory: string, signal: AbortSignal): Promise<number> {
    let toMs = 0;
    for await (const { objects } of this.#options.store.list(`${LAYOUTS}/${directory}`, signal)) {
      for (const { name } of objects) toMs = Math.max(toMs, parseLayoutsName(name)?.toMs ?? 0);
    }
    return toMs;
  }

  /** Removes what is older than the retention by the store's own clock. The newest document stays. */
  async #removeOld(signal: AbortSignal): Promise<void> {
    const { store, dir, clock, keepForMs } = this.#options;
    if (keepForMs === undefined) return;
    if (clock.monotonicMs() - this.#removedMs < REMOVE_EVERY_MS) return;
    const nowMs = await store.now(signal);
    using history = new ClusterHistory(dir);
    const [first] = history.shards;
    if (nowMs === undefined || first === undefined) return;
    const folder = `${LAYOUTS}/${first.name}`;
    const listed = await Array.fromAsync(store.list(folder, signal));
    const documents = listed
      .flatMap(({ objects }) => objects)
      .filter(({ name }) => parseLayoutsName(name) !== undefined)
      .toSorted((one, other) => (one.name < other.name ? -1 : 1));
    for (const { name, modifiedMs } of documents.slice(0, -1)) {
      if (nowMs - modifiedMs <= keepForMs + KEPT_LONGER_MS) break;
      await store.delete(`${folder}/${name}`, signal);
    }
    this.#removedMs = clock.monotonicMs();
  }
}

/** A clock that ran far ahead and was set back must not silence it: what is told twice does no harm. */
function beforeNewest(history: ClusterHistory, untilMs: number): number {
  return Math.max(0, (history.layoutAt(untilMs)?.atMs ?? untilMs) - 1);
}

function layoutToJson({ atMs, confirmedMs, epoch, slots }: Layout) {
  const texts = [...slots].map(([shard, ranges]) => [String(shard), formatRanges(ranges)]);
  return { atMs, confirmedMs, epoch, slots: Object.fromEntries(texts) as Record<string, string> };
}

/** JSON has no undefined; zod takes a field that is left out. */
function withoutUndefined<T extends object>(row: T): T {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined)) as T;
}
