import { logger } from "../base/logger.ts";
import { invariant, ReplicaError } from "../base/errors.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { StreamStart } from "../session/events.ts";
import type { Disk } from "../store/disk/disk.ts";
import { PayloadFiles } from "../store/disk/payload-file.ts";
import type { Io } from "../store/disk/payload-writer.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import type { Clock } from "../base/clock.ts";
import { Ack, type Acked } from "./ack.ts";
import { adopt, type Fetched, type Followed } from "./adoption.ts";
import type {
  GrantedResync,
  KeeperLink,
  LogReaders,
  SnapshotKeeper,
  StreamKeeper,
} from "./driver-options.ts";
import { EarlyStream, givenUp, Receiving, type ReceivingOptions } from "./receiving.ts";
import type { Resyncs } from "./resyncs.ts";

export interface GenerationKeeperOptions {
  readonly io: Io | "auto";
  readonly rdbSyncBytes: number;
  /** How many bytes of a snapshot, or of the stream after it, may wait in memory; and of the log. */
  readonly maxQueuedBytes: number;
  readonly maxLogQueuedBytes: number;
  readonly fsync: "always" | "everysec" | "no";
  readonly ack: Acked;
  /** Makes room for a full resync; see `Upkeep.admit`. */
  readonly admit: ReceivingOptions["admit"];
}

/** Keeps what a primary sends in a data directory: snapshots as generations, the stream in their logs. */
export class GenerationKeeper implements SnapshotKeeper, StreamKeeper, Followed {
  /** Bytes that came over the link since the start. */
  readonly receivedBytes = { snapshot: 0, stream: 0 };
  readonly #directory: DataDirectory;
  readonly #disk: Disk;
  readonly #clock: Clock;
  /** Opens the files of snapshots. */
  readonly files: PayloadFiles;
  readonly #options: GenerationKeeperOptions;
  readonly #link: KeeperLink;
  readonly #readers: LogReaders;
  readonly #resyncs: Pick<Resyncs, "describe">;
  readonly #ack: Ack;
  #log: StreamLog | undefined;
  /** The generation that the log is of. */
  #logOf: number | undefined;
  #openingLog: Promise<void> | undefined;
  #receiving: Receiving | undefined;
  #sealReason = "";
  /** The link is paused, and the stream held, while another log replaces this one. */
  #isHeld = false;
  /** The id under which the primary said meanwhile that it continues. */
  #continuedAs: ReplicationId | undefined;
  readonly #early = new EarlyStream();
  #opening: AbortController | undefined;
  /** What is still ending; a new attempt, and the stop, wait for it. */
  #ending: Promise<unknown> = Promise.resolve();
  #isClosing = false;
  #failure: ReplicaError | undefined;

  constructor(
    directory: DataDirectory,
    disk: Disk,
    clock: Clock,
    options: GenerationKeeperOptions,
    link: KeeperLink,
    readers: LogReaders,
    resyncs: Pick<Resyncs, "describe">,
  ) {
    this.#directory = directory;
    this.#disk = disk;
    this.#clock = clock;
    this.files = new PayloadFiles(disk, clock, options.io);
    this.#options = options;
    this.#link = link;
    this.#readers = readers;
    this.#resyncs = resyncs;
    this.#ack = new Ack(options.ack, link, directory.holdings);
  }

  /** The log that is followed; ACK and INFO tell its cursors. */
  get log(): StreamLog | undefined {
    return this.#log;
  }

  get isReceiving(): boolean {
    return this.#receiving !== undefined;
  }

  /** Whether the stream comes beside a snapshot, to a log of its own. */
  get takesStream(): boolean {
    return this.#receiving?.log !== undefined;
  }

  /** Bytes of the payload that is coming in: what the kernel has taken, and what a data sync covers. */
  get payloadBytes(): { readonly written: number; readonly synced: number } {
    const { writtenBytes: written = 0, syncedBytes: synced = 0 } = this.#receiving ?? {};
    return { written, synced };
  }

  /** The header of the snapshot that is coming in, once it has come whole. */
  get arrivingHeader(): Receiving["header"] {
    return this.#receiving?.header;
  }

  /** The last failure of the log or of a snapshot; it stays when all is well again. */
  get failure(): ReplicaError | undefined {
    return this.#failure;
  }

  /**
   * Where to resume: everything that was received is written first.
   * @throws ReplicaError DISK_FULL, DISK_FAILED where the log can't be opened.
   */
  async resume(): Promise<Position | undefined> {
    await this.#ending;
    await this.#log?.flushed();
    // It may have failed meanwhile: its last sync may still commit a mark, so nothing is cut before.
    await this.#ending;
    if (this.#isClosing) return undefined;
    // Before the primary is asked for anything: each full resync that can't be kept costs it a fork.
    this.#directory.refuseLost();
    if (this.#log === undefined) await this.#openLog();
    if (this.#isClosing) await this.#log?.abandon();
    return this.#log === undefined ? undefined : this.#directory.resumePoint(this.#log);
  }

  /** One log at a time: an attempt that was given up may still be opening it when the next one needs it. */
  #openLog(): Promise<void> {
    this.#openingLog ??= this.#directory
      .openLog(this.#logCallbacks())
      .then((log) => {
        this.#log = log;
        this.#logOf = this.#directory.current?.id;
        this.#acknowledgeFrom(log);
      })
      .finally(() => {
        this.#openingLog = undefined;
      });
    return this.#openingLog;
  }

  #logCallbacks() {
    return {
      fsync: this.#options.fsync,
      maxQueuedBytes: this.#options.maxLogQueuedBytes,
      onMoved: () => this.#onMoved(),
      onFailed: (error: ReplicaError, failed: StreamLog) => this.#onLogFailed(error, failed),
    };
  }

  /** Without a history that the primary would know, there is nothing to acknowledge. */
  #acknowledgeFrom(log: StreamLog | undefined): void {
    this.#ack.follow(this.#directory.replid === undefined ? undefined : log);
  }

  /**
   * A generation became current, yet the sync of its row failed: nothing follows the one before any more, and the
   * next attempt opens the log of the new one, which syncs the row.
   */
  #leaveSealed(error: unknown): void {
    const sealed = this.#log;
    if (sealed === undefined || this.#logOf === this.#directory.current?.id) return;
    this.#log = undefined;
    this.#readers.endAll("the log that it read is sealed");
    this.#ack.follow(undefined);
    this.#endsWith(sealed.abandon());
    if (error instanceof ReplicaError) this.failed(error);
  }

  /** After a failed write or sync only what a mark covers is trusted; the next attempt reopens the log. */
  #onLogFailed(error: ReplicaError, failed: StreamLog): void {
    if (this.#receiving?.isOf(failed) === true) return this.failed(error);
    if (failed !== this.#log)
      return logger.warn(`a log that is no longer followed failed: ${error.message}`);
    this.#log = undefined;
    this.#readers.endAll("the log failed, and is cut back");
    this.#ack.follow(undefined);
    this.#directory.distrustLog();
    this.#endsWith(failed.abandon().then(() => this.#directory.cutDistrusted()));
    this.failed(error);
  }

  #onMoved(): void {
    this.#link.hasRoom();
    this.#readers.moved();
    this.#ack.moved();
  }

  /** A new attempt, and the stop, wait for this. */
  #endsWith(ending: Promise<unknown> | undefined): void {
    const both = Promise.all([this.#ending, ending?.catch(() => undefined)]);
    // Nothing of what they resolve to: a chain of results would keep every attempt's buffers.
    this.#ending = both.then(() => undefined);
  }

  hasRoom(): void {
    this.#link.hasRoom();
  }

  failed(error: ReplicaError): void {
    this.#failure = error;
    this.#link.failed(error);
  }

  acknowledge(offset: Offset): void {
    this.#ack.ask(offset);
  }

  /** Once a second: the sync of `--fsync everysec`, and the ACK that follows it. */
  tick(): void {
    this.#log?.tick();
    if (this.#options.fsync !== "no") this.#receiving?.tick();
  }

  async open(resync: GrantedResync): Promise<string> {
    invariant(this.#receiving === undefined, "one snapshot at a time");
    const opening = new AbortController();
    this.#opening = opening;
    const sealReason = this.#resyncs.describe(resync.grant);
    await this.#ending;
    this.#sealReason = sealReason;
    const options = {
      directory: this.#directory,
      disk: this.#disk,
      files: this.files,
      createLog: (id: number, offset: Offset, header: Uint8Array) =>
        this.#directory.createLog(id, offset, header, this.#logCallbacks()),
      onLog: (log: StreamLog) => {
        this.#early.appendTo(log);
        this.#link.hasRoom();
      },
      ...this.#options,
    };
    const beginning = Receiving.begin(options, resync, this, opening.signal);
    // Given up meanwhile, it removes its files at its end: the next attempt waits for that too.
    this.#endsWith(beginning);
    const receiving = await beginning;
    if (opening.signal.aborted) {
      this.#endsWith(receiving.giveUp());
      throw givenUp();
    }
    this.#receiving = receiving;
    return receiving.path;
  }

  payload(bytes: Uint8Array): void {
    this.receivedBytes.snapshot += bytes.length;
    this.#receiving?.payload(bytes);
  }

  get congested(): boolean {
    return this.#receiving?.congested === true;
  }

  get streamCongested(): boolean {
    if (this.#isHeld || this.#early.heldBytes > this.#options.maxQueuedBytes) return true;
    return (this.#receiving?.log ?? this.#log)?.congested === true;
  }

  finish(): Promise<StreamStart> {
    const finishing = this.#finish(this.#receiving);
    this.#endsWith(finishing);
    return finishing;
  }

  async #finish(receiving: Receiving | undefined): Promise<StreamStart> {
    if (receiving === undefined) throw givenUp();
    try {
      const { log, replid, baseOffset } = await receiving.finish(this.#sealReason);
      this.#readers.endAll("a full resync replaced the log that it read");
      await this.follow(log, baseOffset);
      return { replid, receivedOffset: log.receivedOffset };
    } catch (error) {
      this.#leaveSealed(error);
      // The attempt may already be over, and `discard` spares a whole one.
      if (receiving.isWhole && this.#receiving === receiving) this.#giveUp(receiving);
      throw error;
    }
  }

  async follow(log: StreamLog, durableOffset: Offset): Promise<void> {
    const before = this.#log;
    this.#receiving = undefined;
    this.#log = log;
    this.#logOf = this.#directory.current?.id;
    log.beginMarks(durableOffset);
    if (this.#options.fsync === "always") void log.sync();
    this.#acknowledgeFrom(log);
    this.#early.appendTo(log);
    this.#readers.moved();
    await before?.close();
  }

  /** See `adopt`. */
  adopt(fetched: Fetched, sealReason: string, signal: AbortSignal): Promise<void> {
    return adopt(this, this.#directory, this.#clock, fetched, sealReason, signal);
  }

  createLog(
    id: number,
    baseOffset: Offset,
    header: Uint8Array,
    onFailed: (error: ReplicaError) => void,
  ): Promise<StreamLog> {
    return this.#directory.createLog(id, baseOffset, header, {
      ...this.#logCallbacks(),
      onFailed: (error, failed) => {
        if (failed === this.#log) this.#onLogFailed(error, failed);
        else onFailed(error);
      },
    });
  }

  whileHeld(act: () => Promise<void>): Promise<void> {
    const acting = this.#actHeld(act);
    this.#endsWith(acting);
    return acting;
  }

  async #actHeld(act: () => Promise<void>): Promise<void> {
    this.#isHeld = true;
    this.#link.hasRoom();
    try {
      await act();
    } catch (error) {
      this.#leaveSealed(error);
      throw error;
    } finally {
      this.#isHeld = false;
      const replid = this.#continuedAs;
      this.#continuedAs = undefined;
      try {
        this.continued(replid);
      } finally {
        this.#early.appendTo(this.#log);
        this.#link.hasRoom();
      }
    }
  }

  discard(): void {
    this.#opening?.abort();
    this.#opening = undefined;
    if (this.#receiving?.isWhole === false) this.#giveUp(this.#receiving);
  }

  #giveUp(receiving: Receiving): void {
    this.#early.drop();
    this.#receiving = undefined;
    this.#endsWith(receiving.giveUp());
  }

  continued(replid: ReplicationId | undefined): void {
    if (this.#isHeld) {
      this.#continuedAs = replid;
      return;
    }
    if (replid === undefined || this.#log === undefined) return;
    const isNew = replid !== this.#directory.replid;
    this.#directory.continueAs(replid, this.#log.receivedOffset);
    if (isNew) this.#readers.endAll("the primary continues under a new replication id");
  }

  stream(bytes: Uint8Array): void {
    this.receivedBytes.stream += bytes.length;
    if (this.#isHeld) return this.#early.push(bytes);
    if (this.#receiving === undefined) return this.#log?.append(bytes);
    const { log } = this.#receiving;
    if (log === undefined) this.#early.push(bytes);
    else log.append(bytes);
  }

  /** Writes, syncs, marks and acknowledges everything that was received. */
  async settle(): Promise<void> {
    const settling = this.#log;
    await settling?.flushed();
    await settling?.sync();
    if (settling === this.#log) this.#ack.send();
  }

  /** The end: everything that was received is written, synced and marked. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.discard();
    await this.#ending;
    const closing = this.#log;
    if (closing === undefined) return;
    await closing.close();
    // Where it failed, the callback has given it up.
    if (this.#log === closing) this.#directory.stopped(closing);
  }
}
