import { SQLiteError } from "bun:sqlite";
import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import type { Offset, Position, ReplicationId } from "../../base/history.ts";
import { databaseError } from "../ledger/database-error.ts";
import { countsPastLastMark, currentBootId, type Trust } from "../ledger/trust.ts";
import {
  closeQuietly,
  type Disk,
  diskError,
  freeBytesAt,
  refuseTooLarge,
  writeWhole,
} from "../disk/disk.ts";
import { DurableName } from "../disk/durable-name.ts";
import {
  type Continuation,
  type Generation,
  Ledger,
  type KeptSnapshot,
  type Mark,
  type ReplicationIdFrom,
} from "../ledger/ledger.ts";
import {
  BASE,
  CURRENT,
  generationPath,
  LOG,
  MANIFEST,
  manifestText,
  offsetIn,
  positionIn,
  type StreamEnd,
} from "./layout.ts";
import { Lineage } from "./lineage.ts";
import { type DirectoryLock, lockDirectory } from "./lock.ts";
import { StreamLog, type StreamLogOptions } from "./stream-log.ts";
import { MarkClock, type WallClock } from "./mark-clock.ts";
import { refuseDamaged, refuseLostRows } from "./recovery.ts";
import { Removal } from "./removal.ts";
import { stillThere } from "../disk/still-there.ts";

type LogCallbacks = Pick<StreamLogOptions, "fsync" | "maxQueuedBytes" | "onMoved" | "onFailed">;

/** With `--fsync always` there are hundreds of marks a second: those of so long share one row. */
const SEGMENT_MS = 500;

/** So much behind the last mark is read at a start, in pieces. */
const MAX_UNMARKED_BYTES = 64 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;

function ownHistory({ replid, baseOffset }: KeptSnapshot): readonly ReplicationIdFrom[] {
  return replid === undefined ? [] : [{ replid, fromOffset: baseOffset }];
}

/** The data directory of the contract: its lock, its database, its generations, and their files. */
export class DataDirectory {
  readonly path: string;
  readonly #disk: Disk;
  readonly #clock: WallClock;
  readonly #generations: Ledger;
  readonly #lock: DirectoryLock;
  readonly #bootId = currentBootId();
  #current: Generation | undefined;
  #replicationIds: readonly ReplicationIdFrom[] = [];
  #trust: Trust | undefined;
  /** Up to where the current generation's log is promised. */
  #durableOffset: Offset | undefined;
  /** Whether the current generation's log is where it was opened; of others, once they are current. */
  readonly #logIsThere = new Map<number, () => boolean>();
  readonly #removal: Removal;
  readonly #name: DurableName;
  readonly #markClock: MarkClock;
  /** The last id that was given out by this process. */
  #lastId = 0;

  /**
   * Opens or makes the directory, takes its lock, clears what was half made, and holds what is
   * current against what was promised.
   * @throws ReplicaError DIRECTORY_IN_USE, DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
   */
  constructor(dir: string, disk: Disk, clock: WallClock) {
    this.path = resolve(dir);
    this.#disk = disk;
    this.#clock = clock;
    this.#name = new DurableName(disk, this.path);
    this.#markClock = new MarkClock(clock, (fromMs) => this.#onSetBack(fromMs));
    try {
      disk.makeDir(this.#generationsDir);
    } catch (cause) {
      throw diskError("making the data directory", this.path, cause);
    }
    this.#lock = lockDirectory(this.path);
    try {
      this.#generations = new Ledger(this.#database, disk, this.#folders().length === 0);
    } catch (error) {
      this.#lock.release();
      throw error;
    }
    this.#removal = new Removal({
      disk,
      generations: this.#generations,
      parent: this.#generationsDir,
      folderOf: (id) => this.generationDir(id),
      now: () => clock.now(),
    });
    try {
      this.#trust = this.#generations.trust();
      this.#current = this.#generations.current();
      this.#clearUnfinished();
      if (this.#current !== undefined) {
        this.#durableOffset = this.#durable(this.#current);
        refuseDamaged(disk, this.path, this.#current, this.#durableOffset);
        this.#replicationIds = this.#generations.replicationIds(this.#current.id);
        this.#markClock.continueFrom(this.#generations.lastMark(this.#current.id)?.atMs ?? 0);
        this.#link(this.#current.id);
      } else {
        // Of a first generation that a kill kept from becoming current.
        disk.remove(join(this.path, CURRENT));
      }
    } catch (error) {
      this.close();
      throw databaseError(this.#database, error);
    }
  }

  /**
   * Removes what never became whole, and what was to be removed.
   * @throws ReplicaError DIRECTORY_DAMAGED for what was followed once, by its files: then a part of the
   * database was lost, and nothing is touched.
   */
  #clearUnfinished(): void {
    const unfinished = this.#generations.unfinished();
    refuseLostRows(this.path, {
      database: this.#database,
      folders: this.#folders(),
      known: new Set(this.#generations.ids()),
      unfinished,
      current: this.#current,
    });
    for (const { id } of unfinished) this.discard(id);
  }

  get #generationsDir(): string {
    return join(this.path, "generations");
  }

  get #database(): string {
    return join(this.path, "replica.db");
  }

  /** What SQLite says is about the database; anything else is about `path`. */
  #error(doing: string, path: string, cause: unknown): ReplicaError {
    if (cause instanceof SQLiteError) return databaseError(this.#database, cause);
    return diskError(doing, path, cause);
  }

  /** The generation that is whole, durable and followed. */
  get current(): Generation | undefined {
    return this.#current;
  }

  /**
   * @throws ReplicaError DIRECTORY_LOST once the folder was moved or removed: its path may be another's; and
   * once the log that is followed was.
   */
  refuseLost(): void {
    this.#lock.refuseLost();
    const id = this.#current?.id;
    if (id === undefined || this.#logIsThere.get(id)?.() !== false) return;
    throw new ReplicaError("DIRECTORY_LOST", {
      retry: "never",
      message: `${this.logPath(id)} was moved or removed while it was in use: what came since is kept nowhere; restore ${this.path} from a copy, or start with a new --dir`,
    });
  }

  /** Up to where the current generation's log is promised; undefined where nothing is kept. */
  get durableOffset(): Offset | undefined {
    return this.#durableOffset;
  }

  /** Bytes that are free where the directory lies. @throws ReplicaError DISK_FAILED. */
  get freeBytes(): number {
    return freeBytesAt(this.#disk, this.path);
  }

  /** The ids whose folders are there, whole or not. */
  #folders(): number[] {
    return fs
      .readdirSync(this.#generationsDir)
      .filter((name) => /^\d{10}$/.test(name))
      .map(Number);
  }

  generationDir(id: number): string {
    return join(this.path, generationPath(id));
  }

  /** The history that the current generation's stream is in; undefined where nobody named one. */
  get replid(): ReplicationId | undefined {
    return this.#replicationIds.at(-1)?.replid;
  }

  /** The histories that the current generation's stream has been in, the one it is in now last. */
  get replicationIds(): readonly ReplicationIdFrom[] {
    return this.#replicationIds;
  }

  /**
   * The histories of the current generation's stream from `position` on; undefined where it holds no
   * such position.
   */
  historiesFrom({ replid, offset }: Position): readonly ReplicationIdFrom[] | undefined {
    const generation = this.#current;
    const ids = this.#replicationIds;
    const at = ids.findLastIndex((id) => id.replid === replid);
    const [first, next] = [ids[at], ids[at + 1]];
    if (generation === undefined || first === undefined) return undefined;
    const isIn = offset >= first.fromOffset && offset <= (next?.fromOffset ?? Infinity);
    if (!isIn || offset < generation.baseOffset) return undefined;
    return [{ replid, fromOffset: offset }, ...ids.slice(at + 1)];
  }

  /**
   * The current generation, and the sealed ones before it whose logs lead to its without a gap.
   * @param newest the id of an older one, with those before that.
   * @param ended where it is to end, and the history that goes on there.
   * @throws ReplicaError of the database.
   */
  lineage(newest = Infinity, ended?: ReplicationIdFrom): Lineage {
    try {
      const whole = this.#generations.whole().values();
      const kept = whole
        .filter(({ id }) => id <= newest)
        .map((generation) => ({
          ...generation,
          replicationIds: this.#generations.replicationIds(generation.id),
        }));
      return new Lineage(kept, (generation) => this.#endOf(generation), ended);
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
  }

  #endOf(generation: Generation): Offset | undefined {
    try {
      return offsetIn(generation, this.#disk.sizeOf(this.logPath(generation.id)));
    } catch {
      // Somebody took its file away: it leads nowhere.
      return undefined;
    }
  }

  /** Keeps a generation, and those after it, from being removed; gives what ends that, to be called once. */
  pin(id: number): () => void {
    return this.#removal.pin(id);
  }

  /** How many generations there are in each state. */
  countByState(): [state: string, count: number][] {
    try {
      return this.#generations.countByState();
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
  }

  /** Whom to follow instead of `given`, as REPLICAOF and CONFIG REWRITE left it; null: nobody. */
  chosenPrimary(given: string): string | null | undefined {
    try {
      return this.#generations.chosenPrimary(given);
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
  }

  /** From the next start on, where `given` is named, it is `followed`; durable when this returns. */
  choosePrimary(given: string, followed: string | null): void {
    try {
      this.#generations.choosePrimary(given, followed);
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
  }

  /** Gives back the lock; the last thing to be done. */
  close(): void {
    this.#generations.close();
    this.#lock.release();
  }

  get #onlyMarksCount(): boolean {
    return !countsPastLastMark(this.#trust, this.#bootId);
  }

  #setTrust(trust: Trust): void {
    this.#generations.setTrust(trust);
    this.#trust = trust;
  }

  #durable(generation: Generation): Offset {
    return this.#generations.lastMark(generation.id)?.durableOffset ?? generation.baseOffset;
  }

  /**
   * Where what is kept ends now, without a change to it: at the end of the log, or at its last mark where
   * no more is to be trusted; undefined where nothing is kept.
   * @throws ReplicaError DISK_FAILED.
   */
  get end(): StreamEnd | undefined {
    const generation = this.#current;
    if (generation === undefined) return undefined;
    const { id } = generation;
    if (this.#onlyMarksCount) return { generation: id, offset: this.#durable(generation) };
    const path = this.logPath(id);
    try {
      return { generation: id, offset: offsetIn(generation, this.#disk.sizeOf(path)) };
    } catch (cause) {
      throw this.#error("looking at", path, cause);
    }
  }

  /**
   * Opens the current generation's log at its end, or, where only marks are to be trusted, cuts it
   * back to the last mark first. Undefined where nothing is kept yet.
   * @throws ReplicaError DISK_FULL, DISK_FAILED.
   */
  async openLog(callbacks: LogCallbacks): Promise<StreamLog | undefined> {
    const generation = this.#current;
    if (generation === undefined) return undefined;
    const path = this.logPath(generation.id);
    this.refuseLost();
    try {
      // The last mark may be one whose own sync a kill, or the disk, prevented: it counts from now on.
      await this.#generations.sync();
      const durableOffset = this.#durable(generation);
      const promised = positionIn(generation, durableOffset);
      if (this.#onlyMarksCount) this.#cutBack(path, promised, durableOffset);
      const size = this.#disk.sizeOf(path);
      // Not before the cut: a start that ends before it must find the same distrust.
      if (this.#onlyMarksCount) this.#setTrust({ kind: "running", bootId: this.#bootId });
      const unmarked = await this.#unmarked(path, promised, size, durableOffset);
      const fd = this.#disk.openExisting(path);
      return this.#log(fd, generation, path, callbacks, {
        writtenOffset: offsetIn(generation, size),
        durableOffset,
        unmarked,
        marks: true,
      });
    } catch (cause) {
      throw this.#error("opening the log", path, cause);
    }
  }

  /** The checksum of what a kill has left behind the last mark, so that the next one covers it. */
  async #unmarked(path: string, from: number, to: number, durableOffset: Offset) {
    const crc = new Crc64();
    // A log that was never synced may have any length: that is not worth the wait.
    if (to - from > MAX_UNMARKED_BYTES) return { fromOffset: durableOffset + to - from, crc };
    const fd = this.#disk.openToRead(path);
    try {
      for (let at = from; at < to;) {
        const piece = new Uint8Array(Math.min(READ_BYTES, to - at));
        const read = await this.#disk.read(fd, piece, at);
        if (read === 0) throw new Error("the file has become shorter");
        crc.update(piece.subarray(0, read));
        at += read;
      }
    } finally {
      closeQuietly(this.#disk, fd);
    }
    return { fromOffset: durableOffset, crc };
  }

  #cutBack(path: string, promised: number, durableOffset: Offset): void {
    const pastBytes = this.#disk.sizeOf(path) - promised;
    this.#disk.truncate(path, promised);
    if (pastBytes === 0) return;
    const what = `the log is cut back to its last mark, offset ${durableOffset}: the ${pastBytes} bytes past it were never promised`;
    logger.warn(what);
    this.event("cut-back", what);
  }

  /**
   * A log was closed for good. Where marks cover all of it, what the next start finds past them is none of
   * ours; after a kill it is, as far as the disk was not cut off.
   */
  stopped({ durableOffset, writtenOffset }: StreamLog): void {
    if (durableOffset !== writtenOffset || this.#onlyMarksCount) return;
    try {
      this.#setTrust({ kind: "stopped" });
    } catch (cause) {
      logger.warn(databaseError(this.#database, cause).message);
    }
  }

  /** A write or a sync of the log failed: what no mark covers is never trusted again. */
  distrustLog(): void {
    this.#trust = { kind: "distrusted" };
    try {
      // A kill before the log is cut must not make the next start trust it.
      this.#generations.setTrust(this.#trust);
    } catch {
      // The disk that failed the log may fail this too: the cut that follows says the same.
    }
  }

  /**
   * Cuts off what no mark covers; to be called once the log that failed is given up. Where it fails,
   * `openLog` does it.
   */
  cutDistrusted(): void {
    const generation = this.#current;
    if (generation === undefined || !this.#onlyMarksCount) return;
    const path = this.logPath(generation.id);
    try {
      this.refuseLost();
      const durableOffset = this.#durable(generation);
      this.#cutBack(path, positionIn(generation, durableOffset), durableOffset);
    } catch (cause) {
      logger.warn(this.#error("cutting back", path, cause).message);
    }
  }

  #log(
    fd: number,
    generation: { id: number; baseOffset: Offset; logHeaderBytes: number },
    path: string,
    callbacks: LogCallbacks,
    at: Pick<StreamLogOptions, "writtenOffset" | "durableOffset" | "unmarked"> & { marks: boolean },
  ): StreamLog {
    let segmentBeganAtMs = this.#clock.now();
    this.#logIsThere.set(generation.id, stillThere(fd, path));
    return new StreamLog(this.#disk, fd, {
      ...callbacks,
      ...at,
      path,
      headerBytes: generation.logHeaderBytes,
      baseOffset: generation.baseOffset,
      commitMark: (writtenOffset, durableOffset, segment) =>
        this.#mark(generation.id, { writtenOffset, durableOffset, segment }),
      segmentEnds: () => {
        const sinceMs = this.#clock.now() - segmentBeganAtMs;
        if (sinceMs >= 0 && sinceMs < SEGMENT_MS) return false;
        segmentBeganAtMs += sinceMs;
        return true;
      },
    });
  }

  #onSetBack(fromMs: number): void {
    const what = `the clock was set back from ${new Date(fromMs).toISOString()}: restores by time go by the new one from here on`;
    logger.warn(what);
    this.event("clock", what);
  }

  async #mark(id: number, mark: Omit<Mark, "atMs">): Promise<void> {
    try {
      this.refuseLost();
      this.#generations.mark(id, { atMs: this.#markClock.now(), ...mark });
      await this.#generations.sync();
      if (id === this.#current?.id) this.#durableOffset = mark.durableOffset;
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
  }

  /** @throws ReplicaError DISK_FULL for a snapshot that the disk has no room for; DISK_FAILED. */
  refuseTooLarge(totalBytes: number | undefined): void {
    refuseTooLarge(this.#disk, this.path, totalBytes);
  }

  /** Where a resume begins: the history, and the last byte that `log` holds. */
  position(log: StreamLog): Position | undefined {
    const { replid } = this;
    return replid === undefined ? undefined : { replid, offset: log.writtenOffset };
  }

  /** The primary continues under a new replication id, from the byte after `offset` on. */
  continueAs(replid: ReplicationId, offset: Offset): void {
    const generation = this.#current;
    if (generation === undefined || replid === this.replid) return;
    try {
      this.#generations.addReplicationId(generation.id, replid, offset);
      this.#replicationIds = [...this.#replicationIds, { replid, fromOffset: offset }];
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
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
      // Never one that was given out before: what was given up may still be ending.
      const least = 1 + Math.max(this.#lastId, ...this.#folders());
      id = this.#generations.begin(primaryName, this.#clock.now(), least);
      this.#lastId = id;
      await this.#generations.sync();
      const dir = this.generationDir(id);
      this.#disk.makeDir(dir);
      return { id, dir };
    } catch (cause) {
      if (id !== undefined) this.discard(id);
      throw this.#error("beginning a generation in", this.path, cause);
    }
  }

  /** Where the snapshot of a generation belongs. */
  basePath(id: number): string {
    return join(this.generationDir(id), BASE);
  }

  /** Where its log belongs. */
  logPath(id: number): string {
    return join(this.generationDir(id), LOG);
  }

  /** Creates the log of a generation that isn't current yet: the SELECT, then the stream. */
  async createLog(
    id: number,
    baseOffset: Offset,
    header: Uint8Array,
    callbacks: LogCallbacks,
  ): Promise<StreamLog> {
    const path = this.logPath(id);
    try {
      const fd = this.#disk.create(path);
      try {
        await this.#disk.write(fd, [header], 0);
      } catch (error) {
        this.#disk.close(fd);
        throw error;
      }
      this.#generations.lay(id, baseOffset, header.length);
      return this.#log(fd, { id, baseOffset, logHeaderBytes: header.length }, path, callbacks, {
        writtenOffset: baseOffset,
        durableOffset: baseOffset,
        unmarked: { fromOffset: baseOffset, crc: new Crc64() },
        marks: false,
      });
    } catch (cause) {
      throw this.#error("making the log", path, cause);
    }
  }

  /**
   * Makes a generation current whose base is verified, durable and named. In this order, so that a
   * power cut at any moment leaves the one or the other whole: the log's header, the manifest, the
   * folders, the link, the row. The row decides, so nothing that can fail comes after it; a start
   * points the link where the row says.
   * @param continued where its log has been written from the one that is current: all of it is synced
   * here, and no mark of that one may be committed meanwhile.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; the generation before it is then still current.
   */
  async promote(
    id: number,
    kept: KeptSnapshot,
    sealReason: string,
    continued?: Continuation,
  ): Promise<void> {
    const dir = this.generationDir(id);
    const trust: Trust = { kind: "running", bootId: this.#bootId };
    try {
      await this.syncLog(id);
      // Where its log begins is known before its manifest says that it is whole.
      await this.#generations.sync();
      this.refuseLost();
      await writeWhole(this.#disk, join(dir, MANIFEST), new TextEncoder().encode(manifestText()));
      await this.#removal.sync();
      this.#link(id);
      await this.#disk.syncDir(this.path);
      await this.#name.sync();
      this.#current = this.#generations.promote(id, kept, {
        sealReason,
        atMs: this.#markClock.now(),
        trust,
        continued,
      });
      // Nothing that can fail comes after the row: it is current from here on.
      this.#durableOffset = continued?.durableOffset ?? kept.baseOffset;
      for (const other of this.#logIsThere.keys()) {
        if (other !== id) this.#logIsThere.delete(other);
      }
      this.#replicationIds = continued?.replicationIds ?? ownHistory(kept);
      this.#trust = trust;
    } catch (cause) {
      this.#linkBack();
      throw this.#error("keeping", dir, cause);
    }
  }

  /**
   * Makes durable what is written of a log that isn't current yet.
   * @throws ReplicaError DISK_FULL, DISK_FAILED.
   */
  async syncLog(id: number): Promise<void> {
    const path = this.logPath(id);
    try {
      const fd = this.#disk.openExisting(path);
      try {
        await this.#disk.syncData(fd);
      } finally {
        this.#disk.close(fd);
      }
    } catch (cause) {
      throw diskError("syncing", path, cause);
    }
  }

  /** After a failure: at what is still current. Where even that fails, the next start does it. */
  #linkBack(): void {
    try {
      this.refuseLost();
      if (this.#current === undefined) this.#disk.remove(join(this.path, CURRENT));
      else this.#link(this.#current.id);
    } catch {
      // The failure before this one is what people hear of.
    }
  }

  /** Points `current` at a generation, by rename: it always points at one. */
  #link(id: number): void {
    const link = join(this.path, CURRENT);
    try {
      this.#disk.remove(`${link}.tmp`);
      this.#disk.linkTo(generationPath(id), `${link}.tmp`);
      this.#disk.rename(`${link}.tmp`, link);
    } catch (cause) {
      throw diskError("pointing at the current generation:", link, cause);
    }
  }

  /**
   * Removes a generation that never became whole; one that did is never touched. Its row goes with
   * the next one's beginning, or with the next start's. Where its folder can't be removed, that is said,
   * and `retain` tries again.
   */
  discard(id: number): void {
    if (id === this.#current?.id) return;
    try {
      this.refuseLost();
    } catch (lost) {
      logger.warn(lost instanceof Error ? lost.message : String(lost));
      return;
    }
    this.#removal.discard(id);
  }

  /**
   * Removes sealed generations beyond the newest `keep`, but for those that were sealed within the last
   * `keepForMs`. Never the current one, nor one that is pinned or younger than such a one; without a
   * current one, none. What could not be removed before is tried again.
   * @returns the ids that are gone, but for those.
   * @throws ReplicaError DISK_FAILED; what is half removed then is no generation any more, and goes with
   * the next call, or the next start.
   */
  async retain(keep: number, keepForMs: number | undefined): Promise<number[]> {
    this.refuseLost();
    try {
      if (this.#current !== undefined) return await this.#removal.retain(keep, keepForMs);
      await this.#removal.removeLeftOver();
      return [];
    } catch (cause) {
      throw this.#error("removing old generations from", this.#generationsDir, cause);
    }
  }

  /** Notes what happened, for people who look later. */
  event(kind: string, detail: string): void {
    try {
      this.#generations.event(kind, detail, this.#clock.now());
    } catch (cause) {
      throw databaseError(this.#database, cause);
    }
  }
}
