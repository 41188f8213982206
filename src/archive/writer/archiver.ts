/*
 * Invariant: archived ≤ settled ≤ durable. Only what survives a power cut here is sent, and only with marks that stay as
 * they are: a moment is the same in the archive and in the data directory.
 */
import type { Clock } from "../../base/clock.ts";
import { invariant, ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { checksInvariants } from "../../base/invariants.ts";
import { logger } from "../../base/logger.ts";
import type { Disk } from "../../store/disk/disk.ts";
import type { ObjectWriter } from "../format/objects.ts";
import { recycle } from "../store/object-buffers.ts";
import { LostPlace, type ObjectStore, orAborted } from "../store/object-store.ts";
import type { ArchiveSource, LocalGeneration } from "./archive-source.ts";
import {
  type ArchiveLag,
  type ArchiverFacts,
  type ArchiverStatus,
  LackedAge,
  lagOf,
  Sent,
} from "./archiver-status.ts";
import { describeArchive } from "./describe-archive.ts";
import { EarlyBase } from "./early-base.ts";
import {
  AT_ONCE_BYTES,
  GenerationWriter,
  type GenerationWriterParts,
  type LackedObject,
} from "./generation-writer.ts";
import { LastKnown } from "./last-known.ts";
import { LocalFiles } from "./local-files.ts";
import { Outage } from "./outage.ts";
import { Pace } from "./pace.ts";
import { Rest, type Waiting } from "./rest.ts";

export interface ArchiverOptions {
  readonly store: ObjectStore;
  /** Which archive this is: its URL, and the endpoint where one is named. */
  readonly archive: string;
  readonly source: ArchiveSource;
  /** The disk of the data directory. */
  readonly disk: Disk;
  readonly clock: Clock;
  readonly writer: ObjectWriter;
  /** How long a durable byte waits at most before it is sent, in milliseconds. */
  readonly everyMs: number;
  /** Bytes a second at most; undefined: as fast as it goes. */
  readonly bytesPerSecond?: number | undefined;
  /** This program and its version: `replica 0.1.0`. */
  readonly program: string;
  /** Called after the archive has got an object, and after a generation was given up. */
  readonly onMoved?: () => void;
  /** Called with what people should know later: once when archiving begins to fail, is well again, gives a generation up. */
  readonly onNews?: (what: string) => void;
}

/** An object that was made, and who made it. */
interface Pending {
  readonly object: LackedObject;
  readonly writer: GenerationWriter;
}

/** How often to look how much has come of a base. */
const LOOK_MS = 500;

/**
 * Carries the generations of a data directory to an object store while they grow, one object after the other, oldest
 * generation first. It asks again and again for the next object that the archive lacks. At most one object is in memory,
 * so whatever the store does costs no more than that; and nobody waits for it.
 */
export class Archiver {
  readonly #options: ArchiverOptions;
  #parts: GenerationWriterParts;
  readonly #pace: Pace;
  readonly #outage: Outage;
  readonly #stopped = new Map<number, ReplicaError>();
  /** The last generation that was given up, as far as the archive has it. */
  #lastStopped: GenerationWriter | undefined;
  readonly #complete = new Set<number>();
  readonly #sent = new Sent();
  readonly #age = new LackedAge();
  /** When the last generation that the archive has all of ended, in milliseconds since 1970. */
  #coveredMs = 0;
  #hasArchive = false;
  #current: GenerationWriter | undefined;
  readonly #early: EarlyBase;
  /** Not yet known to be stored: the same bytes at each try, since a try may have got through. */
  #pending: Pending | undefined;
  /** The generation that a failure is about; undefined where it is about none. */
  #atWork: number | undefined;
  readonly #known: LastKnown;
  /** From when on a segment is sent however short it is; monotonic milliseconds. */
  #dueAtMs = 0;
  /** Up to where somebody waits for the archive. */
  #wantedOffset: Offset = 0;
  /** The settled offset of the current generation, as far as it is known. */
  #settledOffset: Offset = 0;
  readonly #rest: Rest;

  constructor(options: ArchiverOptions) {
    const { store, archive, source, disk, clock, writer, program } = options;
    this.#options = options;
    const files = new LocalFiles(disk, source);
    const random = () => clock.random();
    this.#parts = { store, archive, source, disk, files, writer, program, random };
    this.#early = new EarlyBase(this.#parts);
    this.#known = new LastKnown(clock);
    this.#rest = new Rest(clock);
    this.#pace = new Pace(options.bytesPerSecond, clock);
    this.#outage = new Outage(store.url, clock, options.onNews);
  }

  /** More of the current generation's log is durable, and its marks settled. Cheap; call it whenever that may be. */
  moved(settledOffset: Offset): void {
    this.#settledOffset = settledOffset;
    this.#rest.moved(settledOffset);
  }

  /** A generation became current, was sealed or removed. */
  changed(): void {
    this.#rest.changed();
  }

  /** Up to `offset`, the current generation's log is wanted in the archive as soon as it is durable. Cheap. */
  want(offset: Offset): void {
    if (offset <= this.#wantedOffset) return;
    this.#wantedOffset = offset;
    this.#rest.changed();
  }

  /** What somebody waits for, where the log is being archived that far; undefined where the archive has it. */
  get #lackedWish(): Offset | undefined {
    const archived = this.#current?.archivedOffset ?? Infinity;
    return archived < this.#wantedOffset ? this.#wantedOffset : undefined;
  }

  /** Up to where a generation that isn't all there yet can be restored from the archive; undefined while it can't. */
  archivedOffset(id: number): Offset | undefined {
    return this.#current?.id === id ? this.#current.archivedOffset : undefined;
  }

  /** Whether the archive has all of a sealed generation, as far as this process knows. */
  has(id: number): boolean {
    return this.#complete.has(id);
  }

  /** What is known without asking anybody. */
  get facts(): ArchiverFacts {
    const writer = this.#current;
    const { failures, error, sinceMs, lastFailure } = this.#outage;
    return {
      url: this.#options.store.url,
      everyMs: this.#options.everyMs,
      generation: writer?.id,
      archivedOffset: writer?.archivedOffset,
      sent: structuredClone(this.#sent.counts),
      lastSuccessMs: this.#sent.lastMs,
      failures: new Map(failures),
      error,
      failingSinceMs: sinceMs,
      lastFailure,
      stopped: new Map(this.#stopped),
    };
  }

  /** How far the archive is behind. It asks the ledger: some queries for each generation that the archive lacks. @throws ReplicaError of the ledger. */
  lag(): ArchiveLag {
    const { source, clock } = this.#options;
    const lacked = source.generations((id) => this.#complete.has(id));
    const reached = {
      writerOf: (id: number) =>
        [this.#current, this.#lastStopped].find((writer) => writer?.id === id),
      isStopped: (id: number) => this.#stopped.has(id),
      coveredMs: this.#coveredMs,
    };
    return lagOf(lacked, reached, source, (oldest) =>
      this.#age.of(oldest, clock.now(), clock.monotonicMs()),
    );
  }

  /** @throws ReplicaError of the ledger. */
  status(): ArchiverStatus {
    return { ...this.facts, ...this.lag() };
  }

  /** The oldest generation that the archive lacks something of, and is not given up. */
  #oldestLacked(): LocalGeneration | undefined {
    const isDone = (id: number) => this.#complete.has(id) || this.#stopped.has(id);
    const [oldest] = this.#options.source.generations(isDone, 1);
    return oldest;
  }

  /** Archives until `signal` aborts; what is in flight is given up then. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const waiting = await orAborted(this.#step(signal), signal);
        // Whatever failed, it was done now.
        this.#outage.succeeded();
        if (waiting === undefined) continue;
        await this.#rest.until(waiting, this.#settledOffset, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ReplicaError)) throw error;
        await this.#failed(error, signal);
      }
    }
  }

  /** Sends the next object that the archive lacks, or says what to wait for. */
  async #step(signal: AbortSignal): Promise<Waiting | undefined> {
    const { changes } = this.#rest;
    if (this.#pending === undefined) {
      this.#atWork = undefined;
      await this.#describe(signal);
      // One at a time, so that each object costs the ledger one row more at most.
      const wish = this.#lackedWish;
      if (wish !== undefined) this.#options.source.settle(this.#current!.id, wish);
      // That a generation is sealed, or there at all, can't be taken back in the archive.
      while (!this.#options.source.isCertain) await this.#options.source.ascertain();
      const generation = this.#oldestLacked();
      if (generation !== undefined) await this.#prepare(generation, signal);
      if (generation !== undefined && this.#current === undefined) return undefined;
      if (this.#pending === undefined) await this.#prepareEarly(signal);
      if (this.#pending === undefined) return { ...this.#waitFor(generation), changes };
    }
    if (this.#known.isLongAgo) return this.#forget();
    await this.#send(this.#pending, signal);
    return undefined;
  }

  /** What the archive holds must be learned anew. */
  #forget(): undefined {
    this.#hasArchive = false;
    this.#current = undefined;
    this.#early.forget();
    this.#pending = undefined;
  }

  /** What was stored lately may lie elsewhere, also of the generations that were complete by that. */
  #lostPlace(): void {
    this.#forget();
    this.#complete.clear();
    this.#parts = { ...this.#parts, isMoved: true };
  }

  /** Makes the next object of a generation; without one that should be sent now, there is none. */
  async #prepare(generation: LocalGeneration, signal: AbortSignal): Promise<void> {
    this.#settledOffset = generation.settledOffset;
    this.#atWork = generation.id;
    const writer = await this.#beginWith(generation, signal);
    if (checksInvariants) this.#checkInvariant(generation);
    if (writer.isComplete) return this.#ended(generation);
    const object = await this.#next(writer, generation, signal);
    this.#pending = object && { object, writer };
  }

  /** The same for a base that is coming in, once the generations before it lack nothing that should be sent now. */
  async #prepareEarly(signal: AbortSignal): Promise<void> {
    this.#atWork = undefined;
    const before = this.#early.writer;
    const object = await this.#early.next(signal);
    const { writer } = this.#early;
    if (writer !== before) this.#known.isNow();
    if (object === undefined || writer === undefined) return;
    this.#atWork = writer.id;
    this.#pending = { object, writer };
  }

  #checkInvariant({ id, settledOffset: settled, durableOffset: durable }: LocalGeneration): void {
    const archived = this.#current?.archivedOffset ?? 0;
    invariant(
      archived <= settled && settled <= durable,
      `generation ${id}: archived ${archived} ≤ settled ${settled} ≤ durable ${durable}`,
    );
  }

  async #beginWith(generation: LocalGeneration, signal: AbortSignal): Promise<GenerationWriter> {
    const before = this.#current;
    if (before?.id === generation.id) return before;
    this.#current = undefined;
    if (before !== undefined) {
      logger.warn(
        `generation ${before.id} was removed before ${this.#options.store.url} had it all`,
      );
    }
    const begun = this.#early.take(generation.id);
    const writer = begun ?? (await GenerationWriter.begin(this.#parts, generation, signal));
    this.#current = writer;
    if (begun === undefined) this.#known.isNow();
    // What waits from before has waited long enough.
    this.#dueAtMs = 0;
    // What was wanted was of another history, perhaps; and all of this one goes at once.
    this.#wantedOffset = generation.durableOffset;
    return writer;
  }

  /** Says once what the archive is. @throws ReplicaError; see `describeArchive`. */
  async #describe(signal: AbortSignal): Promise<void> {
    if (this.#hasArchive) return;
    const described = await describeArchive(this.#options.store, signal);
    const nowMs = this.#options.clock.now();
    if (described !== undefined) this.#sent.took("document", described, nowMs);
    this.#hasArchive = true;
  }

  async #next(
    writer: GenerationWriter,
    generation: LocalGeneration,
    signal: AbortSignal,
  ): Promise<LackedObject | undefined> {
    const { clock, everyMs } = this.#options;
    const nowMs = clock.monotonicMs();
    const { settledOffset } = generation;
    const isDue = nowMs >= this.#dueAtMs || (this.#lackedWish ?? Infinity) <= settledOffset;
    const next = await writer.next(generation, isDue, signal);
    const end = next?.after.at === "log" ? next.after.end.offset : undefined;
    // What is settled from now on waits at most for that long; what a segment left over has waited already.
    if (next?.kind === "segment" && end === settledOffset) this.#dueAtMs = nowMs + everyMs;
    return next;
  }

  #waitFor(generation: LocalGeneration | undefined): Omit<Waiting, "changes"> {
    const lookMs = this.#early.isArriving ? this.#options.clock.monotonicMs() + LOOK_MS : Infinity;
    const until = (dueMs: number) => {
      const first = Math.min(dueMs, lookMs);
      return first === Infinity ? undefined : first;
    };
    if (generation === undefined) return { untilMs: until(Infinity), offset: Infinity };
    const { settledOffset } = generation;
    const archived = this.#current?.archivedOffset ?? generation.baseOffset;
    // Where all that is settled is there, nothing becomes due by time alone.
    const isWaiting = settledOffset > archived;
    const enough = isWaiting ? archived + AT_ONCE_BYTES : settledOffset + 1;
    return {
      untilMs: until(isWaiting ? this.#dueAtMs : Infinity),
      offset: Math.min(enough, this.#lackedWish ?? Infinity),
    };
  }

  async #send({ object, writer }: Pending, signal: AbortSignal): Promise<void> {
    const { store, onMoved } = this.#options;
    const { kind, key, body, sha256 } = object;
    await this.#pace.admit(body.length, signal);
    signal.throwIfAborted();
    await store.put(key, body, signal, sha256);
    this.#pending = undefined;
    this.#known.isNow();
    this.#sent.took(kind, body, this.#options.clock.now());
    // Documents are remembered.
    if (kind !== "document") recycle(body);
    await writer.stored(object);
    onMoved?.();
  }

  #ended({ id, sealed }: LocalGeneration): void {
    this.#complete.add(id);
    this.#coveredMs = sealed?.atMs ?? this.#coveredMs;
    this.#current = undefined;
    this.#options.onMoved?.();
  }

  async #failed(error: ReplicaError, signal: AbortSignal): Promise<void> {
    const { clock, store, onMoved, onNews } = this.#options;
    const id = this.#atWork;
    const isItsOwn = error.code === "ARCHIVE_CONFLICT" || error.code === "DIRECTORY_DAMAGED";
    if (error instanceof LostPlace) this.#lostPlace();
    if (id === undefined || !isItsOwn) {
      await clock.sleep(this.#outage.failed(error), signal);
      return;
    }
    this.#outage.count(error);
    if (this.#early.writer?.id === id) {
      this.#early.skip(id);
      this.#pending = undefined;
      return;
    }
    this.#stopped.set(id, error);
    const writer = this.#current;
    this.#lastStopped = writer;
    this.#current = undefined;
    this.#pending = undefined;
    const news = `generation ${id} is archived no further in ${store.url}: ${error.message}`;
    logger.error(news);
    onNews?.(news);
    try {
      // A start would only see that something lies there.
      if (error.code === "ARCHIVE_CONFLICT") await writer?.refuse(error.message);
    } catch (failure) {
      logger.warn(failure instanceof Error ? failure.message : String(failure));
    }
    onMoved?.();
  }
}
