/*
 * Invariant: whenever the event loop goes on, and before each change, SQLite takes no frame of the WAL for moved into
 * the database. So it never starts the WAL over by itself, over frames of which nobody knows yet that the database has
 * them.
 */
import type { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import { closeQuietly, type Disk, diskError } from "../disk/disk.ts";
import { DurableName } from "../disk/durable-name.ts";
import { OpenFile } from "../disk/open-file.ts";
import { Turns } from "../disk/turns.ts";
import { GuardedDatabase } from "./guarded-database.ts";
import { BUSY_TIMEOUT_MS, closeDurably, openDatabase } from "./open-database.ts";
import { REPLICA_SCHEMA } from "./schema.ts";
import { WalIndex } from "./wal-index.ts";

/** Once the WAL is that long it is moved into the database: so many pages take some milliseconds. */
const WAL_BYTES = 4 * 1024 * 1024;

/** Where that could not be finished, it is tried again after so many bytes more. */
const RETRY_BYTES = 1024 * 1024;

/** A WAL of this length is told of: something keeps it from being started over. */
const LONG_WAL_BYTES = 16 * WAL_BYTES;

/** How much of the WAL is written again at once, after a failed sync. */
const PIECE_BYTES = 1024 * 1024;

/**
 * `replica.db`, or another one with its guards, open for writing, and how a commit becomes durable.
 *
 * A commit survives a kill at once. It survives a power cut after `sync`. Commits form one log, SQLite's WAL: a
 * sync covers all of them up to then, and a power cut leaves a prefix of them. SQLite itself syncs nothing, because
 * it would do so on the event loop; every sync is ours, on the thread pool.
 *
 * A checkpoint goes like this, and is given up for now where anything is committed meanwhile: the WAL is synced,
 * SQLite moves it into the database, the database is synced, SQLite cuts the WAL to nothing, the WAL is synced. So
 * no page is overwritten that the WAL does not hold durably, and the WAL goes once the database holds all of it.
 * What is committed during the last of these syncs follows the cut: as file systems with a journal do it, a power
 * cut leaves the WAL as it was before, or what came after, never parts of both.
 */
export class ReplicaDatabase {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #db: Database;
  /** The SQL of it; errors come out as ReplicaError. */
  readonly sql: GuardedDatabase;
  readonly #index: WalIndex;
  /** Syncs and checkpoints, one at a time. */
  readonly #turns = new Turns();
  /** The WAL, open for our own syncs; undefined before the first one, and after one that failed. */
  #wal: OpenFile | undefined;
  /**
   * Whether a sync of the WAL failed: its pages may be missing on disk, whatever later syncs say. It is possible for
   * what an earlier process has written, because the kernel reports a failure to one of two processes only.
   */
  #walLoss: "none" | "possible" | "known" = "possible";
  /** The database file, open for our own syncs, and kept open: see `WalIndex`. */
  #main: OpenFile | undefined;
  /** A sync of the database file failed, or is under way: only what the WAL moves into it anew can be relied on. */
  #isMainLost = false;
  /** The files' names, that of their folder, and the database's first page are durable. */
  #isFounded = false;
  /** The length of the WAL, in bytes, at which to begin the next checkpoint. */
  #dueBytes = WAL_BYTES;
  #checkpointing: Promise<void> | undefined;
  #failure = "";
  #isClosed = false;

  /** See `openDatabase`. */
  constructor(path: string, disk: Disk, isNew: boolean, schema = REPLICA_SCHEMA) {
    this.#path = path;
    this.#disk = disk;
    this.#db = openDatabase(path, isNew, schema);
    // Another process may have moved all of it since: SQLite would start the WAL over, without a sync of its header.
    this.sql = new GuardedDatabase(this.#db, path, "writing", () => this.#index.forgetMoved());
    try {
      this.#index = new WalIndex(path);
      // Another process, which reads, may have kept what the last writer's checkpoint left unfinished.
      this.#index.forgetMoved();
    } catch (cause) {
      closeDurably(this.#db);
      throw diskError("opening", `${path}-shm`, cause);
    }
  }

  get #walPath(): string {
    return `${this.#path}-wal`;
  }

  /**
   * Makes durable what is committed.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; then no commit since the last successful sync counts.
   */
  async sync(): Promise<void> {
    await this.durably(() => undefined);
  }

  /**
   * Runs `act` and makes durable what it commits.
   * @throws ReplicaError of `act`; DISK_FULL, DISK_FAILED, also where `act` was never run because an earlier sync had
   * failed. Where its own sync fails, what it committed stays: it counts once a later sync succeeds.
   */
  async durably<T>(act: () => T): Promise<T> {
    const done = await this.#turns.run(async () => {
      if (this.#walLoss === "known") await this.#syncWal();
      const result = this.sql.guard(act);
      await this.#syncWal();
      if (!this.#isFounded) await this.#found();
      return result;
    });
    this.#checkpointWhenDue();
    return done;
  }

  /** Whether all that is committed survives a power cut, but what a `durably` under way commits. */
  get isSynced(): boolean {
    return this.#walLoss === "none" && this.#isFounded;
  }

  async #syncWal(): Promise<void> {
    try {
      if (this.#isClosed) throw new Error("it is closed");
      const wal = (this.#wal ??= OpenFile.openExisting(this.#disk, this.#walPath));
      if (this.#walLoss !== "none") await this.#writeAgain(wal);
      await wal.sync();
      this.#walLoss = "none";
    } catch (cause) {
      this.#walLoss = "known";
      this.#wal?.closeQuietly();
      this.#wal = undefined;
      throw diskError("syncing", this.#walPath, cause);
    }
  }

  /**
   * Writes the WAL over itself, so that its pages are written to the device once more: as much of it as holds commits,
   * because they go on behind that.
   */
  async #writeAgain(wal: OpenFile): Promise<void> {
    const end = this.#index.committedBytes;
    const fd = this.#disk.openToRead(this.#walPath);
    try {
      for (let at = 0; at < end;) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES, end - at));
        const bytes = await this.#disk.read(fd, piece, at);
        if (bytes === 0) throw new Error("it became shorter while it was read");
        await wal.use(() => wal.write([piece.subarray(0, bytes)], at));
        at += bytes;
      }
    } catch (cause) {
      const { code } = diskError("writing", this.#walPath, cause);
      // A file system that never writes in place may have no room for it, and then nothing could make room.
      if (this.#walLoss === "known" || code !== "DISK_FULL") throw cause;
    } finally {
      closeQuietly(this.#disk, fd);
    }
  }

  /** Once, before anything counts: SQLite takes a WAL for nothing whose database has no first page. */
  async #found(): Promise<void> {
    try {
      if (this.#isMainLost) await this.#move();
      else await this.#syncMain();
      if (this.#isMainLost) throw new Error("it can't be written again now");
      await this.#disk.syncDir(dirname(this.#path));
      // A folder that was filled from an archive goes on without a promotion, which would see to that.
      await new DurableName(this.#disk, dirname(this.#path)).sync();
      this.#isFounded = true;
    } catch (cause) {
      throw diskError("syncing", this.#path, cause);
    }
  }

  async #syncMain(): Promise<void> {
    const main = (this.#main ??= OpenFile.openExisting(this.#disk, this.#path));
    const wasLost = this.#isMainLost;
    this.#isMainLost = true;
    await main.use(() => this.#disk.syncData(main.fd));
    this.#isMainLost = wasLost;
  }

  /** What changes with each commit. */
  get #commits(): string {
    const own = this.sql.get("SELECT total_changes() AS changes");
    // Nobody else should write, but may.
    return JSON.stringify([own, this.sql.get("PRAGMA data_version")]);
  }

  /**
   * Moves the WAL into the database, durably. Returns which commits the database now holds all of; undefined where one
   * came before the WAL was synced, or another process reads what was before, or makes a checkpoint.
   */
  async #move(): Promise<string | undefined> {
    const commits = this.#commits;
    await this.#syncWal();
    if (this.#isClosed || this.#commits !== commits) return undefined;
    const { busy, log, checkpointed } = this.#runCheckpoint("PASSIVE");
    await this.#syncMain();
    // Both are -1 where it was busy.
    if (busy !== 0 || log !== checkpointed) return undefined;
    this.#isMainLost = false;
    return commits;
  }

  /** SQLite's part of a checkpoint: it writes, but waits for nothing. */
  #runCheckpoint(mode: "PASSIVE" | "TRUNCATE") {
    // Nor for a lock.
    this.sql.run("PRAGMA busy_timeout = 0");
    try {
      const pragma = `PRAGMA wal_checkpoint(${mode})`;
      return this.sql.guard(() =>
        this.#db.query<{ busy: number; log: number; checkpointed: number }, []>(pragma).get()!,
      );
    } finally {
      this.sql.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
      this.#index.forgetMoved();
    }
  }

  /**
   * Asks for a checkpoint after the next `durably`, however short the WAL is: SQLite drops everything past a damaged
   * byte of the WAL without a word.
   */
  checkpointSoon(): void {
    this.#dueBytes = 0;
  }

  /** The end of the checkpoint that is under way. What commits often, and can wait, waits for it. */
  get checkpointing(): Promise<void> | undefined {
    return this.#checkpointing;
  }

  /** Nobody waits for it: a commit is durable without it. */
  #checkpointWhenDue(): void {
    if (this.#checkpointing !== undefined || this.#isClosed || this.#walBytes <= this.#dueBytes)
      return;
    this.#checkpointing = this.#turns
      .run(() => this.#checkpoint())
      .catch((error: unknown) => this.#warn(error instanceof Error ? error.message : String(error)))
      .finally(() => (this.#checkpointing = undefined));
  }

  get #walBytes(): number {
    return this.#wal === undefined ? 0 : fs.fstatSync(this.#wal.fd).size;
  }

  async #checkpoint(): Promise<void> {
    if (this.#isClosed) return;
    // Whatever fails: not at each sync again.
    this.#dueBytes = this.#walBytes + RETRY_BYTES;
    try {
      const moved = await this.#move();
      if (this.#isClosed) return;
      // Asked here, where nothing can come between. All of it is in the database, durably: to move it once more
      // changes no byte of that.
      const isAll = moved === this.#commits;
      if (!isAll || this.#runCheckpoint("TRUNCATE").busy !== 0) return this.#tellLong();
      await this.#syncWal();
      this.#dueBytes = WAL_BYTES;
      this.#failure = "";
    } catch (cause) {
      if (!this.#isClosed) throw diskError("syncing", this.#path, cause);
    }
  }

  #tellLong(): void {
    const bytes = this.#walBytes;
    if (bytes < LONG_WAL_BYTES) return;
    this.#warn(
      `${this.#walPath} has grown to more than ${formatBytes(LONG_WAL_BYTES)} and grows on, because another process reads the database: look for one that was stopped, such as a replica verify`,
    );
  }

  /** The same once, until a checkpoint succeeds. */
  #warn(message: string): void {
    if (message !== this.#failure) logger.warn(message);
    this.#failure = message;
  }

  /** Makes durable what is committed, by SQLite's own syncs, and closes the database. */
  close(): void {
    this.#isClosed = true;
    this.#wal?.closeQuietly();
    closeDurably(this.#db);
    this.#main?.closeQuietly();
    this.#index.close();
  }
}
