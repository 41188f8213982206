import { ReplicaError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import { type DeliveredEntry, freeLarge } from "./entry.ts";
import { batchesOf, type Outcome, type Parcel } from "./parcel.ts";
import { restoreWords } from "./pipeline.ts";
import { Rounds, type Step } from "./rounds.ts";
import type { Survey } from "./survey.ts";
import type { Target } from "./target.ts";

export interface DeliverOptions {
  readonly target: Target;
  readonly survey: Survey;
  /** Whether what exists is replaced. */
  readonly replace: boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** How long the target may be away before this gives up; milliseconds. */
  readonly timeoutMs: number;
  /** The longest pause between two attempts; milliseconds. */
  readonly retryMaxMs: number;
  /** How many of the keys that are left at the end are told of. */
  readonly maxLeftTold: number;
  /** Told of every key that isn't restored, or whose value is refused. */
  readonly onKey: (told: Told) => void;
  /** Told how many bytes of the payloads are done with. */
  readonly onProgress: (bytes: number) => void;
  /** Told once for each time that the target goes away. */
  readonly onTrouble: (why: string) => void;
}

/** A key, and what became of it. */
export interface Told {
  readonly entry: DeliveredEntry;
  readonly outcome: Outcome;
  /** Of a value that is refused: why. */
  readonly why: string | undefined;
  /** Of a key that is left: it was sent, and the answer didn't come, so that it may be there. */
  readonly isUncertain: boolean;
}

/** How many keys each outcome has, and why it ended before the last one. */
export interface Delivery {
  readonly counts: Readonly<Record<Outcome, number>>;
  /** How many of those left were sent without an answer: they may be there. */
  readonly uncertain: number;
  /** Of the payloads that were restored. */
  readonly bytes: number;
  /** How many times the link broke, or whoever answered was no primary any more. */
  readonly breaks: number;
  readonly error: ReplicaError | undefined;
}

/**
 * Brings keys into a running server by RESTORE, each exactly once as far as is counted: whether a key is there is asked
 * before anything of its batch is sent, so that after a broken link one that was absent then, and is there now, is known
 * to be ours. Sends nothing for a key that exists, unless it is to be replaced, nor for one whose time is over.
 * @param entries those that `survey` has seen, in the same order.
 * @returns what became of them, also where it ended early: then with the error.
 */
export async function deliver(
  entries: AsyncIterable<DeliveredEntry>,
  options: DeliverOptions,
): Promise<Delivery> {
  return await new Deliverer(options).run(entries);
}

/** How long the keys that are left are read once it is to stop: an exit may take two seconds. */
const STOP_MS = 300;

class Deliverer {
  readonly #options: DeliverOptions;
  readonly #rounds: Rounds;
  readonly #counts: Record<Outcome, number> = {
    restored: 0,
    replaced: 0,
    existed: 0,
    expired: 0,
    failed: 0,
    left: 0,
  };
  #uncertain = 0;
  #leftTold = 0;
  #restoredBytes = 0;
  #doneBytes = 0;

  constructor(options: DeliverOptions) {
    this.#options = options;
    this.#rounds = new Rounds(options);
  }

  async run(entries: AsyncIterable<DeliveredEntry>): Promise<Delivery> {
    const batches = batchesOf(entries);
    let error: ReplicaError | undefined;
    try {
      for await (const batch of batches) {
        if (error === undefined) error = await this.#deliver(batch);
        else if (!this.#tellLeft(batch)) break;
        if (error !== undefined && this.#options.maxLeftTold <= this.#leftTold) break;
      }
    } catch (caught) {
      error ??= this.#asEnd(caught);
    }
    const settled = Object.values(this.#counts).reduce((sum, count) => sum + count, 0);
    this.#counts.left = this.#options.survey.keys - settled;
    return {
      counts: this.#counts,
      uncertain: this.#uncertain,
      bytes: this.#restoredBytes,
      breaks: this.#rounds.breaks,
      error,
    };
  }

  /** @returns why it can't go on, if so. */
  async #deliver(batch: readonly Parcel[]): Promise<ReplicaError | undefined> {
    const before = this.#doneBytes;
    try {
      this.#options.signal.throwIfAborted();
      const nowMs = this.#nowMs();
      const due = batch.filter((parcel) => {
        const { expiresAtMs } = parcel.entry;
        const isOver = expiresAtMs !== undefined && expiresAtMs <= nowMs;
        if (isOver) this.#settle(parcel, "expired");
        return !isOver;
      });
      await this.#rounds.take(due, existsStep);
      for (const parcel of due) {
        if (parcel.existed === true && !this.#options.replace) this.#settle(parcel, "existed");
      }
      await this.#rounds.take(
        due.filter(({ outcome }) => outcome === undefined),
        this.#restoreStep,
      );
      freeLarge(this.#doneBytes - before);
      return undefined;
    } catch (caught) {
      const error = this.#asEnd(caught);
      this.#tellLeft(batch);
      return error;
    }
  }

  get #restoreStep(): Step {
    const { replace, target } = this.#options;
    const server = target.release;
    return {
      command: "restore",
      encode: (parcel, pipeline) =>
        pipeline.add(restoreWords(parcel, { server, replace, nowMs: this.#nowMs() })),
      done: (parcel) => this.#settle(parcel, parcel.existed === true ? "replaced" : "restored"),
      // It wasn't there before it was first sent: what is there now came with that, unless another client made the same
      // key within that moment.
      exists: (parcel) => this.#settle(parcel, parcel.isUncertain ? "restored" : "existed"),
      failed: (parcel, why) => this.#settle(parcel, "failed", why),
      uncertain: (parcel) => {
        parcel.isUncertain = true;
      },
    };
  }

  #nowMs(): number {
    return this.#options.clock.now() + this.#options.target.aheadMs;
  }

  #settle(parcel: Parcel, outcome: Outcome, why?: string): void {
    const { onKey, onProgress } = this.#options;
    parcel.outcome = outcome;
    this.#counts[outcome]++;
    this.#doneBytes += parcel.bytes;
    if (outcome === "restored" || outcome === "replaced") this.#restoredBytes += parcel.bytes;
    else onKey({ entry: parcel.entry, outcome, why, isUncertain: false });
    onProgress(this.#doneBytes);
  }

  /** Tells of what a batch leaves. @returns whether to go on with the next one. */
  #tellLeft(batch: readonly Parcel[]): boolean {
    const { maxLeftTold, onKey, signal } = this.#options;
    for (const { entry, outcome, isUncertain } of batch) {
      if (outcome !== undefined) continue;
      if (isUncertain) this.#uncertain++;
      if (this.#leftTold >= maxLeftTold) continue;
      onKey({ entry, outcome: "left", why: undefined, isUncertain });
      this.#leftTold++;
    }
    if (!signal.aborted) return true;
    this.#stopAtMs ??= this.#options.clock.monotonicMs() + STOP_MS;
    return this.#options.clock.monotonicMs() < this.#stopAtMs;
  }
  #stopAtMs: number | undefined;

  #asEnd(caught: unknown): ReplicaError {
    const { signal } = this.#options;
    if (signal.aborted && signal.reason instanceof ReplicaError) return signal.reason;
    if (caught instanceof ReplicaError) return caught;
    throw caught;
  }
}

const existsStep: Step = {
  command: "exists",
  encode: ({ entry }, pipeline) => pipeline.add(["EXISTS", entry.key]),
  done: (parcel, { text }) => {
    parcel.existed = text !== "0";
  },
  // An answer that EXISTS has not.
  exists: (parcel) => {
    parcel.existed = true;
  },
  failed: (parcel) => {
    parcel.existed = false;
  },
  uncertain: () => undefined,
};

export interface LookOptions extends Omit<
  DeliverOptions,
  "survey" | "replace" | "maxLeftTold" | "onKey"
> {
  /** Told of every key, in their order. */
  readonly onKey: (entry: DeliveredEntry, state: KeyState) => void;
}

/** What a delivery would meet. */
export interface KeyState {
  /** Whether a key of this name is there now. */
  readonly exists: boolean;
  /** Whether its time is over. */
  readonly isExpired: boolean;
}

/**
 * Looks at what a delivery would do, and writes nothing.
 * @throws ReplicaError where the target stays away, or refuses EXISTS.
 */
export async function lookAhead(
  entries: AsyncIterable<DeliveredEntry>,
  options: LookOptions,
): Promise<void> {
  const { signal, clock, target, onKey, onProgress } = options;
  const rounds = new Rounds(options);
  let bytes = 0;
  for await (const batch of batchesOf(entries)) {
    signal.throwIfAborted();
    await rounds.take(batch, existsStep);
    const nowMs = clock.now() + target.aheadMs;
    const before = bytes;
    for (const { entry, existed = false, bytes: payload } of batch) {
      const isExpired = entry.expiresAtMs !== undefined && entry.expiresAtMs <= nowMs;
      onKey(entry, { exists: existed, isExpired });
      bytes += payload;
    }
    onProgress(bytes);
    freeLarge(bytes - before);
  }
}
