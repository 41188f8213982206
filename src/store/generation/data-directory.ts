import { join, resolve } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import {
  historiesFrom,
  type Offset,
  type Position,
  type ReplicationId,
  type ReplicationIdFrom,
} from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import { type Disk, diskError, freeBytesAt } from "../disk/disk.ts";
import { Keeping } from "../keep/keeping.ts";
import { type Machine, thisMachine } from "../keep/lived-clock.ts";
import { Removal } from "../keep/removal.ts";
import { Reserve } from "../keep/reserve.ts";
import { type Continuation, type Generation, type KeptSnapshot, Ledger } from "../ledger/ledger.ts";
import { MAX_HISTORIES } from "../ledger/replication-ids.ts";
import { refuseDamagedFiles, refuseLostRows } from "./consistency.ts";
import { CurrentLink } from "./current-link.ts";
import {
  DATABASE,
  filesOf,
  GENERATIONS,
  generationIds,
  generationPath,
  type StreamEnd,
} from "./layout.ts";
import { type Lineage, readLineage } from "./lineage.ts";
import { type DirectoryLock, lockDirectory } from "./lock.ts";
import { Holdings } from "./holdings.ts";
import { type LogCallbacks, LogFiles } from "./log-files.ts";
import { MarkClock, type WallClock } from "./mark-clock.ts";
import { type Beside, type Promoted, Promoter } from "./promotion.ts";
import { Recovery } from "./recovery.ts";
import { readFirstDatabase } from "./snapshot-keys.ts";
import type { StreamLog } from "./stream-log.ts";
import { Thinning } from "./thinning.ts";

/** A data directory, owned by this process: its lock, its database, and its generations. */
export class DataDirectory {
  readonly path: string;
  readonly holdings: Holdings;
  readonly thinning: Thinning;
  /** What is kept of the sealed generations, for how long, and what goes where room is needed. */
  readonly keeping: Keeping;
  /** Called with each event once it is recorded. */
  onEvent: (kind: string, detail: string) => void = () => undefined;
  readonly #disk: Disk;
  readonly #clock: WallClock;
  readonly #lock: DirectoryLock;
  readonly #ledger: Ledger;
  readonly #recovery: Recovery;
  readonly #logs: LogFiles;
  readonly #removal: Removal;
  readonly #promoter: Promoter;
  readonly #markClock: MarkClock;
  #current: Generation | undefined;
  #replicationIds: readonly ReplicationIdFrom[] = [];
  /** The highest id that this process has given out. */
  #lastId = 0;

  /**
   * Opens or creates the directory, takes its lock, removes generations that never became whole, and checks the current
   * one's files against the ledger.
   * @throws ReplicaError DIRECTORY_IN_USE, DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
   */
  constructor(dir: string, disk: Disk, clock: WallClock, machine: Machine = thisMachine) {
    this.path = resolve(dir);
    this.#disk = disk;
    this.#clock = clock;
    this.#markClock = new MarkClock(clock, (what) => this.event("clock", what));
    try {
      disk.makeDir(join(this.path, GENERATIONS));
    } catch (cause) {
      throw diskError("making the data directory", this.path, cause);
    }
    this.#lock = lockDirectory(this.path);
    try {
      const isNew = generationIds(this.path).length === 0;
      // Who can't start can't make room either.
      const open = () => new Ledger(join(this.path, DATABASE), disk, isNew);
      this.#ledger = new Reserve(disk, this.path).spendAtOnce(open);
    } catch (error) {
      this.#lock.release();
      throw error;
    }
    this.holdings = new Holdings(this.#ledger);
    const parts = {
      disk,
      ledger: this.#ledger,
      clock,
      markClock: this.#markClock,
      dir: this.path,
      machine,
      generationDir: (id: number) => this.generationDir(id),
      keysInFile: (id: number) => readFirstDatabase(this.basePath(id)),
      logPath: (id: number) => this.logPath(id),
      refuseLost: () => this.refuseLost(),
      note: (kind: string, what: string) => this.note(kind, what),
      onCutBack: (what: string) => this.event("cut-back", what),
      holdings: this.holdings,
      onPromoted: (promoted: Promoted) => this.#onPromoted(promoted),
    };
    const removal = (this.#removal = new Removal(parts));
    const logs = (this.#logs = new LogFiles(parts));
    try {
      const link = new CurrentLink(disk, this.path);
      const recovery = (this.#recovery = new Recovery(parts));
      const keeping = (this.keeping = new Keeping({ ...parts, removal }));
      this.thinning = new Thinning(this.#ledger, clock, keeping.borneOutMs);
      this.#promoter = new Promoter({ ...parts, link, logs, recovery, removal, keeping });
      this.#load(link);
    } catch (cause) {
      this.close();
      throw diskError("opening", this.path, cause);
    }
  }

  #load(link: CurrentLink): void {
    this.#current = this.#ledger.current();
    this.#clearUnfinished();
    if (this.#current === undefined) {
      // A kill may have left the link to a first generation that never became current.
      link.pointAt(undefined);
      return;
    }
    const { id } = this.#current;
    const durableOffset = this.#recovery.durableOffset(this.#current);
    refuseDamagedFiles(this.#disk, this.path, this.#current, durableOffset);
    this.#replicationIds = this.#ledger.replicationIds(id);
    const { atMs = 0 } = this.#ledger.lastMark(id) ?? {};
    this.holdings.begin(id, { atMs, durableOffset });
    this.#markClock.continueFrom(atMs);
    link.pointAt(id);
  }

  /**
   * Removes the generations that never became whole; those that were being removed go with the next `Keeping.retain`.
   * @throws ReplicaError DIRECTORY_DAMAGED where the files show that one of them was followed: then the
   * database has lost records, and nothing is touched.
   */
  #clearUnfinished(): void {
    refuseLostRows(this.path, this.#ledger, this.#current);
    for (const { id, sealedAtMs } of this.#ledger.unfinished()) {
      if (sealedAtMs === null) this.discard(id);
      else this.#removal.resume(id);
    }
  }

  /** The generation that is followed: whole and durable. Undefined where nothing is kept yet. */
  get current(): Generation | undefined {
    return this.#current;
  }

  /**
   * @throws ReplicaError DIRECTORY_LOST once the folder, or the log that is followed, was moved or removed:
   * another process may own that path now.
   */
  refuseLost(): void {
    this.#lock.refuseLost();
    const id = this.#current?.id;
    if (id === undefined || !this.#logs.isMoved(id)) return;
    throw new ReplicaError("DIRECTORY_LOST", {
      retry: "never",
      message: `${this.logPath(id)} was moved or removed while it was in use: what was written since is lost; restore ${this.path} from a copy, or start with a new --dir`,
    });
  }

  /** The last durable offset of the current generation's log; undefined where nothing is kept yet. */
  get durableOffset(): Offset | undefined {
    return this.holdings.durableOffset;
  }

  /** Free bytes on the directory's file system. @throws ReplicaError DISK_FAILED. */
  get freeBytes(): number {
    return freeBytesAt(this.#disk, this.path);
  }

  generationDir(id: number): string {
    return join(this.path, generationPath(id));
  }

  /** The path of a generation's snapshot. */
  basePath(id: number): string {
    return filesOf({ id, dir: this.generationDir(id) }).base;
  }

  /** The path of a generation's log. */
  logPath(id: number): string {
    return filesOf({ id, dir: this.generationDir(id) }).log;
  }

  /** The history that the current generation's stream is in; undefined where the primary named none. */
  get replid(): ReplicationId | undefined {
    return this.#replicationIds.at(-1)?.replid;
  }

  /** The histories that the current generation's stream has been in, the present one last. */
  get replicationIds(): readonly ReplicationIdFrom[] {
    return this.#replicationIds;
  }

  /** The histories of the current stream from `position` on; undefined where it does not contain that. */
  historiesFrom(position: Position): readonly ReplicationIdFrom[] | undefined {
    if (this.#current === undefined || position.offset < this.#current.baseOffset) return undefined;
    return historiesFrom(this.#replicationIds, position);
  }

  /**
   * The current generation, and the sealed ones before it whose logs lead up to its own without a gap.
   * @param newest the id of an older generation to end with. A younger one may be about to become current.
   * @param ended where the stream ends, and the history that it goes on in there.
   * @throws ReplicaError of the ledger.
   */
  lineage(newest = this.#current?.id ?? 0, ended?: ReplicationIdFrom): Lineage {
    const sizeOf = (id: number) => this.#disk.sizeOf(this.logPath(id));
    return readLineage(this.#ledger, sizeOf, newest, ended);
  }

  /** Keeps a generation, and those after it, from removal. Returns a release function; call it exactly once. */
  pin(id: number): () => void {
    return this.#removal.pin(id);
  }

  /** How many generations each state has. @throws ReplicaError of the ledger. */
  countByState(): [state: string, count: number][] {
    return this.#ledger.countByState();
  }

  /**
   * The primary to follow in place of `given`, as REPLICAOF and CONFIG REWRITE left it; null: none.
   * Undefined: nothing was chosen. @throws ReplicaError of the ledger.
   */
  chosenPrimary(given: string): string | null | undefined {
    return this.#ledger.chosenPrimary(given);
  }

  /**
   * From the next start on, follow `followed` where `given` is named; durable once this resolves.
   * @throws ReplicaError of the ledger.
   */
  async choosePrimary(given: string, followed: string | null): Promise<void> {
    await this.#ledger.choosePrimary(given, followed);
  }

  /** Closes the database and releases the lock. Call it last. */
  close(): void {
    this.#ledger.close();
    this.#lock.release();
  }

  /**
   * Where the kept stream ends, read without changing it: at the end of the log, or at its last mark where
   * only marks count; undefined where nothing is kept yet.
   * @throws ReplicaError DISK_FAILED.
   */
  get end(): StreamEnd | undefined {
    const generation = this.#current;
    return generation && { generation: generation.id, offset: this.#recovery.endOf(generation) };
  }

  /**
   * Opens the current generation's log at its end, after cutting it back to its last mark where only marks
   * count. Undefined where nothing is kept yet.
   * @throws ReplicaError DIRECTORY_LOST, DISK_FULL, DISK_FAILED.
   */
  async openLog(callbacks: LogCallbacks): Promise<StreamLog | undefined> {
    const generation = this.#current;
    if (generation === undefined) return undefined;
    this.refuseLost();
    try {
      const recovered = await this.#recovery.recover(generation);
      return this.#logs.open(generation.id, generation, recovered, callbacks);
    } catch (cause) {
      throw diskError("opening the log", this.logPath(generation.id), cause);
    }
  }

  /** A log was closed for good. See `Recovery.stopped`. */
  stopped(log: StreamLog): void {
    this.#recovery.stopped(log);
  }

  /** A write or an fsync of the log failed: from now on only marks count. */
  distrustLog(): void {
    this.#recovery.distrust();
  }

  /** Cuts off what no mark covers, once the failed log is closed. Where that fails, `openLog` does it. */
  cutDistrusted(): void {
    if (this.#current !== undefined) this.#recovery.cutDistrusted(this.#current);
  }

  /** Where a resume begins: the history, and the last byte that `log` holds. */
  resumePoint(log: StreamLog): Position | undefined {
    const { replid } = this;
    return replid === undefined ? undefined : { replid, offset: log.writtenOffset };
  }

  /** The primary continues under another replication id from `offset` on. @throws ReplicaError of the ledger. */
  continueAs(replid: ReplicationId, offset: Offset): void {
    const generation = this.#current;
    if (generation === undefined || replid === this.replid) return;
    this.#ledger.addReplicationId(generation.id, replid, offset);
    const all = [...this.#replicationIds, { replid, fromOffset: offset }];
    this.#replicationIds = all.slice(-MAX_HISTORIES);
  }

  /**
   * Begins a generation: its row, then its folder.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; nothing is left behind.
   */
  async begin(primaryName: string): Promise<{ id: number; dir: string }> {
    let id: number | undefined;
    this.refuseLost();
    try {
      if (this.#removal.isUnsynced) await this.#removal.sync();
      // Never an id that was given out before: a generation that was given up may still be closing.
      const least = 1 + Math.max(this.#lastId, ...generationIds(this.path));
      id = this.#ledger.begin(primaryName, this.#clock.now(), least);
      this.#lastId = id;
      await this.#ledger.sync();
      const dir = this.generationDir(id);
      this.#disk.makeDir(dir);
      return { id, dir };
    } catch (cause) {
      if (id !== undefined) this.discard(id);
      throw diskError("beginning a generation in", this.path, cause);
    }
  }

  /**
   * Creates the log of a generation that isn't current yet: the SELECT, then the stream.
   * @throws ReplicaError DISK_FULL, DISK_FAILED.
   */
  async createLog(
    id: number,
    baseOffset: Offset,
    header: Uint8Array,
    callbacks: LogCallbacks,
  ): Promise<StreamLog> {
    return await this.#logs.create(id, baseOffset, header, callbacks);
  }

  /**
   * Makes durable what is written of a log that isn't current yet.
   * @throws ReplicaError DISK_FULL, DISK_FAILED.
   */
  async syncLog(id: number): Promise<void> {
    await this.#logs.sync(id);
  }

  /**
   * Makes a generation current. See `Promoter.promote`.
   * @param meanwhile set where the stream went on.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; `current` then tells whether it became so.
   */
  async promote(
    id: number,
    kept: KeptSnapshot,
    sealReason: string,
    meanwhile?: Continuation | Beside,
  ): Promise<void> {
    await this.#promoter.promote(id, kept, sealReason, this.#current, meanwhile);
  }

  #onPromoted({ generation, durableOffset, replicationIds }: Promoted): void {
    const goesOn = replicationIds.length > 0 && replicationIds.at(-1)?.replid === this.replid;
    this.#current = generation;
    this.holdings.begin(generation.id, { atMs: generation.currentAtMs, durableOffset }, goesOn);
    this.#replicationIds = replicationIds;
    this.#logs.keepOnly(generation.id);
  }

  /**
   * Removes a generation that never became whole; the current one is never touched. Its row goes when the
   * next generation begins, or at the next start. A folder that can't be removed is logged, and `retain`
   * retries it.
   */
  discard(id: number): void {
    if (id !== this.#current?.id) this.#removal.discard(id);
  }

  /** Records an event, for people who look later. @throws ReplicaError of the ledger. */
  event(kind: string, detail: string): void {
    this.#ledger.recent.event(kind, detail, this.#clock.now());
    this.onEvent(kind, detail);
  }

  /** As `event`; a failure is logged, and stops nothing. */
  note(kind: string, detail: string): void {
    try {
      this.event(kind, detail);
    } catch (error) {
      logger.warn(error instanceof Error ? error.message : String(error));
    }
  }
}
