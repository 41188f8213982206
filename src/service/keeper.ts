import { invariant, ReplicaError } from "../errors.ts";
import { log } from "../logger.ts";
import type { Offset, Position, ReplicationId } from "../replication.ts";
import { replicationAux } from "../rdb/header.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import { selectCommand } from "../resp/encode.ts";
import type { Grant } from "../session/state.ts";
import type { DataDirectory } from "../store/data-directory.ts";
import { type Disk, PIECE_BYTES } from "../store/disk.ts";
import type { Log } from "../store/log.ts";
import { PayloadFiles } from "../store/payload-file.ts";
import type { Io } from "../store/payload-writer.ts";
import { SnapshotWriter } from "../store/snapshot.ts";
import type { Clock } from "./clock.ts";
import type { Keeper } from "./driver.ts";

export interface GenerationKeeperOptions {
  readonly io: Io | "auto";
  readonly rdbSyncBytes: number;
  /** So much of a snapshot, or of the stream behind it, may wait in memory; and of the log. */
  readonly maxQueuedBytes: number;
  readonly maxLogQueuedBytes: number;
  readonly fsync: "always" | "everysec" | "no";
  readonly ack: "written" | "durable";
  /** The primary's name as it is now, for the database. */
  readonly primaryName: () => string;
}

export interface GenerationKeeperEvents {
  /** Sends REPLCONF ACK. */
  acknowledge(written: Offset, durable: Offset): void;
  synced(payloadBytes: number): void;
  room(): void;
  received(phase: "snapshot" | "stream", bytes: number): void;
  failed(error: ReplicaError): void;
}

/** A generation while its snapshot comes in. */
interface Receiving {
  readonly id: number;
  readonly grant: Grant;
  readonly writer: SnapshotWriter;
  /** The log behind it, from the end of the payload on. */
  log: Promise<Log> | undefined;
  /** Its snapshot is verified, durable and named: it becomes current, whatever the link does. */
  whole: boolean;
}

/** Keeps what a primary sends in a data directory: snapshots as generations, the stream in their logs. */
export class GenerationKeeper implements Keeper {
  readonly #directory: DataDirectory;
  readonly #disk: Disk;
  readonly #files: PayloadFiles;
  readonly #options: GenerationKeeperOptions;
  readonly #events: GenerationKeeperEvents;
  #log: Log | undefined;
  #receiving: Receiving | undefined;
  /** Stream bytes that came before the new generation's log was open. */
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #opening: AbortController | undefined;
  /** What is being given up, so that a new attempt or the end waits for it. */
  #givingUp: Promise<unknown> = Promise.resolve();
  /** A GETACK that waits until this offset is reached. */
  #owed: Offset | undefined;
  #toldDurableOffset: Offset = 0;
  #isClosing = false;
  #sealReason = "";

  constructor(
    directory: DataDirectory,
    disk: Disk,
    clock: Clock,
    options: GenerationKeeperOptions,
    events: GenerationKeeperEvents,
  ) {
    this.#directory = directory;
    this.#disk = disk;
    this.#files = new PayloadFiles(disk, clock, options.io);
    this.#options = options;
    this.#events = events;
  }

  /** The log that is followed; its cursors are what ACK and INFO tell. */
  get log(): Log | undefined {
    return this.#log;
  }

  /**
   * Where to resume: everything that was received is written first.
   * @throws ReplicaError DISK_FULL, DISK_FAILED where the log can't be opened.
   */
  async resume(): Promise<Position | undefined> {
    await this.#givingUp;
    await this.#log?.flushed();
    // It may have failed meanwhile: its last sync may still commit a mark, so nothing is cut before.
    await this.#givingUp;
    if (this.#isClosing) return undefined;
    this.#log ??= await this.#directory.openLog(this.#logCallbacks());
    if (this.#isClosing) await this.#log?.abandon();
    return this.#log === undefined ? undefined : this.#directory.position(this.#log);
  }

  #logCallbacks() {
    return {
      fsync: this.#options.fsync,
      maxQueuedBytes: this.#options.maxLogQueuedBytes,
      onMoved: () => this.#onMoved(),
      onFailed: (error: ReplicaError, failed: Log) => this.#onLogFailed(error, failed),
    };
  }

  /** After a failed write or sync only what a mark covers is trusted; the next attempt reopens it. */
  #onLogFailed(error: ReplicaError, failed: Log): void {
    if (failed !== this.#log)
      return log.warn(`of a log that is no longer followed: ${error.message}`);
    this.#log = undefined;
    this.#owed = undefined;
    this.#directory.distrustLog();
    const cut = failed.abandon().then(() => this.#directory.cutDistrusted());
    this.#givingUp = Promise.all([this.#givingUp, cut]);
    this.#events.failed(error);
  }

  #onMoved(): void {
    this.#events.room();
    const owed = this.#owed !== undefined && this.#acknowledgedOffset() >= this.#owed;
    // After each data sync, so that WAITAOF on the primary waits no longer than the disk.
    const synced = (this.#log?.durableOffset ?? 0) > this.#toldDurableOffset;
    if (owed || synced) this.#sendAck();
    this.#syncWhatIsOwed();
  }

  #acknowledgedOffset(): Offset {
    if (this.#log === undefined) return 0;
    return this.#options.ack === "durable" ? this.#log.durableOffset : this.#log.writtenOffset;
  }

  #sendAck(): void {
    if (this.#owed !== undefined && this.#acknowledgedOffset() >= this.#owed)
      this.#owed = undefined;
    // Without a history there is no offset that the primary would know.
    if (this.#log === undefined || this.#directory.replid === undefined) return;
    this.#toldDurableOffset = this.#log.durableOffset;
    this.#events.acknowledge(this.#acknowledgedOffset(), this.#log.durableOffset);
  }

  acknowledge(offset: Offset): void {
    if (this.#acknowledgedOffset() >= offset) return this.#sendAck();
    this.#owed = offset;
    this.#syncWhatIsOwed();
  }

  /** With `--ack durable` a GETACK waits for a data sync: begun as soon as its bytes are written. */
  #syncWhatIsOwed(): void {
    const stream = this.#log;
    if (this.#options.ack !== "durable" || stream === undefined || this.#owed === undefined) return;
    if (stream.writtenOffset >= this.#owed) void stream.sync();
  }

  /** Once a second: the sync of `--fsync everysec`, and the ACK that follows it. */
  tick(): void {
    this.#log?.tick();
  }

  async openSnapshot(grant: Grant, form: BulkForm): Promise<string> {
    invariant(this.#receiving === undefined, "one snapshot at a time");
    const opening = new AbortController();
    this.#opening = opening;
    await this.#givingUp;
    const totalBytes = form.kind === "length" ? form.bytes : undefined;
    this.#directory.refuseTooLarge(totalBytes);
    const { id, dir } = await this.#directory.begin(this.#options.primaryName());
    try {
      const file = await this.#files.open(dir, opening.signal);
      const writer = new SnapshotWriter(this.#disk, file, {
        syncBytes: this.#options.rdbSyncBytes,
        maxQueuedBytes: this.#options.maxQueuedBytes,
        onSynced: (bytes) => this.#events.synced(bytes),
        onRoom: () => this.#events.room(),
        onFailed: (error) => this.#events.failed(error),
      });
      if (opening.signal.aborted) {
        writer.abandon();
        throw new ReplicaError("STOPPED", { message: "the sync was given up" });
      }
      this.#receiving = { id, grant, writer, log: undefined, whole: false };
      return file.path;
    } catch (error) {
      this.#directory.discard(id);
      throw error;
    }
  }

  payload(bytes: Uint8Array): void {
    this.#events.received("snapshot", bytes.length);
    this.#receiving?.writer.write(bytes);
  }

  get congested(): boolean {
    const writer = this.#receiving?.writer.congested ?? false;
    const earlyBytes = this.#earlyBytes + this.#early.length * PIECE_BYTES;
    return writer || (this.#log?.congested ?? false) || earlyBytes > this.#options.maxQueuedBytes;
  }

  finishSnapshot(): Promise<{ replid: ReplicationId | undefined; receivedOffset: Offset }> {
    const finishing = this.#finish(this.#receiving);
    // A new attempt, and the end, wait for what is under way, given up or not.
    const over = finishing.catch(() => undefined);
    this.#givingUp = Promise.all([this.#givingUp, over]);
    return finishing;
  }

  async #finish(
    receiving: Receiving | undefined,
  ): Promise<{ replid: ReplicationId | undefined; receivedOffset: Offset }> {
    const refuseIfGivenUp = () => {
      if (receiving !== undefined && this.#receiving === receiving) return;
      throw new ReplicaError("STOPPED", { message: "the sync was given up" });
    };
    refuseIfGivenUp();
    const { id, writer, grant } = receiving!;
    const rdb = await writer.finish(this.#directory.basePath(id));
    refuseIfGivenUp();
    const aux = replicationAux(rdb.header);
    // SYNC names no offset; the snapshot's own aux fields may.
    const position = grant.by === "psync" ? grant.position : aux.position;
    const baseOffset = position?.offset ?? 0;
    const header = selectCommand(aux.streamDb);
    const creating = this.#directory.createLog(id, baseOffset, header, this.#logCallbacks());
    receiving!.log = creating;
    const opened = await creating;
    refuseIfGivenUp();
    const kept = {
      replid: position?.replid,
      baseOffset,
      streamDb: aux.streamDb,
      rdbBytes: rdb.bytes,
      rdbCrc64: rdb.crc64.toString(16).padStart(16, "0"),
      rdbChecked: rdb.checked,
      logHeaderBytes: header.length,
    };
    // From here on it is whole and durable: what ends the attempt no longer ends it.
    receiving!.whole = true;
    try {
      await this.#directory.promote(id, kept, this.#sealReason);
    } catch (error) {
      // The attempt may be over by now, so nobody else would.
      this.#giveUp(receiving!);
      throw error;
    }
    await this.#follow(opened);
    return { replid: position?.replid, receivedOffset: opened.receivedOffset };
  }

  /** The log of a generation that has become current takes the place of the one before. */
  async #follow(opened: Log): Promise<void> {
    const before = this.#log;
    this.#receiving = undefined;
    this.#log = opened;
    this.#toldDurableOffset = opened.durableOffset;
    opened.beginMarks();
    for (const bytes of this.#early) opened.append(bytes);
    this.#early = [];
    this.#earlyBytes = 0;
    await before?.close();
  }

  discardSnapshot(): void {
    this.#opening?.abort();
    this.#opening = undefined;
    const receiving = this.#receiving;
    if (receiving !== undefined && !receiving.whole) this.#giveUp(receiving);
  }

  #giveUp(receiving: Receiving): void {
    this.#early = [];
    this.#earlyBytes = 0;
    this.#receiving = undefined;
    receiving.writer.abandon();
    const closing = receiving.log?.then(
      (opened) => opened.abandon(),
      () => undefined,
    );
    this.#givingUp = Promise.all([this.#givingUp, closing]);
    try {
      this.#directory.discard(receiving.id);
    } catch (error) {
      // The next start clears it; the reason of the failed sync is what matters now.
      log.warn(error instanceof Error ? error.message : String(error));
    }
  }

  /** Why the generation before is sealed once a new one is whole. */
  set sealReason(reason: string) {
    this.#sealReason = reason;
  }

  continued(replid: ReplicationId | undefined): void {
    if (replid !== undefined && this.#log !== undefined) {
      this.#directory.continueAs(replid, this.#log.receivedOffset);
    }
  }

  stream(bytes: Uint8Array): void {
    this.#events.received("stream", bytes.length);
    if (this.#receiving === undefined) {
      this.#log?.append(bytes);
      return;
    }
    this.#early.push(bytes);
    this.#earlyBytes += bytes.length;
  }

  /** Writes, syncs, marks and acknowledges all that was received. */
  async settle(): Promise<void> {
    const settling = this.#log;
    await settling?.flushed();
    await settling?.sync();
    if (settling === this.#log) this.#sendAck();
  }

  /** The end: what was received is written, synced and marked. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.discardSnapshot();
    await this.#givingUp;
    await this.#log?.close();
  }
}
