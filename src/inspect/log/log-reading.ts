import { setTimeout as pause } from "node:timers/promises";
import { ReplicaError, usageError } from "../../base/errors.ts";
import {
  historyAfter,
  intervalOf,
  type Offset,
  type ReplicationIdFrom,
} from "../../base/history.ts";
import { FrameError } from "../../resp/frame-scanner.ts";
import { findBeginning, findEnd, type LogBound, type LogPlace } from "./log-bounds.ts";
import type { LogEntry } from "./log-entry.ts";
import { LogChooser, type LogFilter } from "./log-filter.ts";
import { copyOf, LogWalker, type WalkedCommand } from "./log-walker.ts";
import { goesOn, type KeptLog, type LogSource } from "./kept-log.ts";
import { MarkTimes } from "./mark-times.ts";

export interface LogReadingOptions extends LogFilter {
  /** Default: from the beginning of what is kept. */
  readonly from?: LogBound | undefined;
  /** Default: to the end of what is durable. */
  readonly to?: LogBound | undefined;
  /** Whether to wait for more at the end, until the signal aborts. */
  readonly isFollowing?: boolean;
  /** Called where something isn't kept, with a sentence. */
  readonly onGap?: (message: string) => void;
  /** Called where a log was removed while it was read: where another one goes on with it, nothing is missing. */
  readonly onRemoved?: (message: string) => void;
  /** Called while a source that is followed can't be read. */
  readonly onTrouble?: (message: string) => void;
  readonly signal: AbortSignal;
}

/** A log that doesn't grow for so long may have been given up while another one goes on. */
const STALE_MS = 30_000;

/** The log that is being read. */
interface Current {
  readonly log: KeptLog;
  /** Up to there, everything was passed on, or is not wanted. */
  readonly offset: Offset;
  readonly walker: LogWalker | undefined;
  readonly times: MarkTimes;
  /** Whether it was removed while it was read. */
  readonly isGone: boolean;
  /** When it had something new for the last time. */
  readonly grownMs: number;
}

/**
 * Reads the logs of a source in order, what two of them hold only once. It holds one block, one command, and at most one
 * transaction, within a limit.
 */
export class LogReading {
  readonly #source: LogSource;
  readonly #options: LogReadingOptions;
  readonly #chooser: LogChooser;
  readonly #visited = new Set<string>();
  #current: Current | undefined;
  #until: LogPlace | undefined;
  /** What of the source fails at present, and was told. */
  #trouble: "look" | "read" | undefined;

  constructor(source: LogSource, options: LogReadingOptions) {
    this.#source = source;
    this.#options = options;
    this.#chooser = new LogChooser(options);
  }

  /**
   * Passes on the wanted commands, a block at a time. Each batch is to be taken wholly before the next one is asked for, and
   * its bytes are gone then.
   * @throws ReplicaError USAGE for bounds that aren't kept; DIRECTORY_DAMAGED, ARCHIVE_DAMAGED (batches too); of the disk
   * and the store; the signal's reason.
   */
  async *batches(): AsyncGenerator<Iterable<LogEntry>, void> {
    const { to, isFollowing } = this.#options;
    await this.#begin();
    if (to !== undefined) await this.#setEnd(to);
    for (;;) {
      yield* this.#readCurrent();
      if (await this.#isDone()) return;
      if (await this.#takeNext()) continue;
      if (isFollowing !== true) return;
      await this.#look();
    }
  }

  async #begin(): Promise<void> {
    const { from, isFollowing, signal } = this.#options;
    for (;;) {
      const place = await findBeginning(this.#source, from, signal);
      if (place !== undefined) {
        // What began before isn't wanted.
        const { logs } = this.#source;
        for (const { id } of logs.slice(0, logs.indexOf(place.log))) this.#visited.add(id);
        this.#take(place.log, place.offset);
        return;
      }
      if (isFollowing !== true) throw usageError(`${this.#source.name} keeps no snapshot yet`);
      await this.#pause();
      await this.#source.look(undefined, signal);
    }
  }

  async #setEnd(to: LogBound): Promise<void> {
    const { log } = this.#current!;
    this.#until = await findEnd(this.#source, to, this.#options.signal);
    const isHere = await this.#holdsEnd(log);
    const { offset } = this.#current!;
    if (isHere ? this.#until.offset >= offset : !(await this.#isBehindEnd(log))) return;
    throw usageError(
      "what is wanted ends before it begins: give a later end, or an earlier beginning",
    );
  }

  #take(log: KeptLog, offset: Offset): void {
    this.#visited.add(log.id);
    const grownMs = performance.now();
    const times = new MarkTimes();
    this.#current = { log, offset, walker: undefined, times, isGone: false, grownMs };
  }

  async #look(): Promise<void> {
    const { signal } = this.#options;
    await this.#pause();
    const current = this.#current!;
    try {
      await this.#source.look(current.log.id, signal);
      if (this.#trouble === "look") this.#trouble = undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (!isPassing(error)) throw error;
      this.#tellTrouble("look", error);
      return;
    }
    const log = this.#source.logs.find(({ id }) => id === current.log.id);
    // One that is gone has nothing more than what was read of it.
    if (log === undefined) return;
    const hasGrown = log.endOffset !== current.log.endOffset;
    const grownMs = hasGrown ? performance.now() : current.grownMs;
    this.#current = { ...current, log, grownMs };
  }

  /** A store or a disk may fail for a while: that ends nobody who waits for more. It is told once. */
  #tellTrouble(trouble: "look" | "read", error: ReplicaError): void {
    if (this.#trouble === undefined) this.#options.onTrouble?.(`${error.message}; trying again`);
    this.#trouble ??= trouble;
  }

  async #pause(): Promise<void> {
    const { signal } = this.#options;
    await pause(this.#source.lookEveryMs, undefined, { signal }).catch(() => undefined);
    signal.throwIfAborted();
  }

  /** Whether a log holds the end of what is wanted. */
  async #holdsEnd(log: KeptLog): Promise<boolean> {
    const until = this.#until;
    if (until === undefined) return false;
    if (log.id === until.log.id) return true;
    return await goesOn(until.log, log, until.offset, this.#options.signal);
  }

  async #isDone(): Promise<boolean> {
    return await this.#holdsEnd(this.#current!.log);
  }

  async *#readCurrent(): AsyncGenerator<Iterable<LogEntry>, void> {
    const { signal } = this.#options;
    const { log, offset, times, isGone } = this.#current!;
    let { walker } = this.#current!;
    const end = (await this.#holdsEnd(log))
      ? Math.min(log.endOffset, this.#until!.offset)
      : log.endOffset;
    if (isGone || (walker?.offset ?? log.baseOffset) >= end) return;
    const histories = await log.histories(end, signal);
    try {
      for await (const { bytes, before } of log.blocks(
        walker?.offset ?? "beginning",
        end,
        signal,
      )) {
        const { baseOffset } = log;
        walker ??= new LogWalker(
          this.#chooser,
          { baseOffset, headerBytes: baseOffset - before },
          offset,
        );
        const blockEnd = before + bytes.length;
        if (blockEnd > offset) await times.reach(log, Math.max(offset, before), blockEnd, signal);
        yield entriesOf(log, walker.push(bytes), times, histories);
        this.#trouble = undefined;
      }
    } catch (error) {
      await this.#refuse(log, error);
    }
    const reached = Math.max(offset, walker?.safeOffset ?? offset);
    this.#current = { ...this.#current!, walker, offset: reached };
  }

  /**
   * A log may be removed while it is read: then reading goes on with the next one.
   * @throws the error, unless it is that, or one that may pass while the source is followed.
   */
  async #refuse(log: KeptLog, error: unknown): Promise<void> {
    const { isFollowing, signal, onRemoved } = this.#options;
    signal.throwIfAborted();
    await this.#source.look(undefined, signal).catch((failure: unknown) => {
      if (!isPassing(failure)) throw failure;
    });
    if (!this.#source.logs.some(({ id }) => id === log.id)) {
      onRemoved?.(`generation ${log.id} was removed while it was read`);
      this.#current = { ...this.#current!, isGone: true };
    } else if (isFollowing === true && isPassing(error)) this.#tellTrouble("read", error);
    else throw error;
  }

  /** Goes on with another log where the current one has ended; false where none is there. */
  async #takeNext(): Promise<boolean> {
    const { isFollowing, signal } = this.#options;
    const { log, offset, grownMs } = this.#current!;
    const { logs } = this.#source;
    const at = logs.findIndex(({ id }) => id === log.id);
    const isOver =
      isFollowing !== true || log.isSealed || at === -1 || performance.now() - grownMs > STALE_MS;
    if (!isOver) return false;
    const others = logs.filter(({ id, endOffset }) => id !== log.id && endOffset > offset);
    // The one that begins last has the least to be read again.
    for (const other of others.toSorted((a, b) => b.baseOffset - a.baseOffset)) {
      if (!(await goesOn(log, other, offset, signal))) continue;
      this.#take(other, offset);
      return true;
    }
    const next = await this.#nextHistory(logs.slice(at + 1), log);
    if (next === undefined || (await this.#isBehindEnd(next))) return false;
    await this.#tellGap(log, next, offset);
    this.#take(next, next.baseOffset);
    return true;
  }

  /** The first of the logs behind the current one that has something which that one hasn't. */
  async #nextHistory(behind: readonly KeptLog[], log: KeptLog): Promise<KeptLog | undefined> {
    for (const other of behind) {
      if (this.#visited.has(other.id)) continue;
      const isCovered = await goesOn(other, log, other.endOffset, this.#options.signal);
      if (!isCovered) return other;
    }
    return undefined;
  }

  async #isBehindEnd(next: KeptLog): Promise<boolean> {
    const until = this.#until;
    if (until === undefined || (await this.#holdsEnd(next))) return false;
    const { logs } = this.#source;
    return logs.indexOf(next) > logs.findIndex(({ id }) => id === until.log.id);
  }

  async #tellGap(log: KeptLog, next: KeptLog, offset: Offset): Promise<void> {
    const { signal, onGap } = this.#options;
    const [began] = await next.histories(next.baseOffset, signal);
    const isSame =
      began !== undefined &&
      next.baseOffset > offset &&
      intervalOf(await log.histories(offset, signal), began.replid) !== undefined;
    onGap?.(
      isSame
        ? `offsets ${offset + 1} to ${next.baseOffset} are not kept: generation ${next.id} begins behind them`
        : `generation ${next.id} begins another history, at offset ${next.baseOffset}: what was written since offset ${offset} of generation ${log.id} is not kept`,
    );
  }
}

function isPassing(error: unknown): error is ReplicaError {
  return error instanceof ReplicaError && error.retry === "backoff";
}

function* entriesOf(
  log: KeptLog,
  commands: Generator<WalkedCommand>,
  times: MarkTimes,
  histories: readonly ReplicationIdFrom[],
): Generator<LogEntry> {
  try {
    for (const command of commands) {
      command.atMs = times.at(command.effectEnd);
      command.replid = historyAfter(histories, command.offset);
      yield command;
    }
  } catch (error) {
    throw error instanceof FrameError ? log.damageError(error.byte, error.message) : error;
  }
}

/**
 * Reads what was written, in order. After a restart `from: { offset }` of the last entry's `end` goes on behind it, and each
 * command comes at least once: a transaction comes whole again where that offset lies inside.
 * @returns entries with bytes of their own.
 * @throws ReplicaError as `LogReading.batches`.
 */
export async function* readLog(
  source: LogSource,
  options: LogReadingOptions,
): AsyncGenerator<LogEntry, void> {
  for await (const batch of new LogReading(source, options).batches()) {
    for (const entry of batch) yield { ...copyOf(entry), transaction: entry.transaction };
  }
}
