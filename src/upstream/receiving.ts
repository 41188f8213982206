import { ReplicaError } from "../base/errors.ts";
import { hex64 } from "../base/hex64.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import { type RdbHeader, replicationAux } from "../rdb/header.ts";
import { selectCommand } from "../resp/encode.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import type { FullSyncGrant } from "../session/state.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { PayloadFiles } from "../store/disk/payload-file.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import { SnapshotWriter } from "../store/generation/snapshot.ts";
import { PIECE_BYTES } from "../store/disk/disk.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import type { KeptSnapshot } from "../store/ledger/ledger.ts";
import type { GrantedResync, KeeperEvents } from "./driver-options.ts";
import { RoomGate, type RoomFor } from "./room/gate.ts";

export interface ReceivingOptions {
  readonly directory: DataDirectory;
  readonly disk: Disk;
  readonly files: PayloadFiles;
  /** A data sync after so many bytes of the payload. */
  readonly rdbSyncBytes: number;
  /** What makes room for a snapshot, of unknown size where that is undefined. @throws ReplicaError DISK_FULL. */
  readonly admit: (totalBytes: number | undefined, grant: FullSyncGrant) => Promise<RoomFor>;
  /** How many bytes of the payload may wait for the disk before the link pauses. */
  readonly maxQueuedBytes: number;
  readonly createLog: CreateLog;
  /** Called once there is a log for the stream beside the payload. */
  readonly onLog: (log: StreamLog) => void;
}

/** Creates the log of a generation that isn't current yet. */
export type CreateLog = (id: number, baseOffset: Offset, header: Uint8Array) => Promise<StreamLog>;

/** A generation that has become current, with its log, which nobody writes to yet. */
export interface Received {
  readonly log: StreamLog;
  /** Undefined where neither the primary nor the snapshot names a history. */
  readonly replid: ReplicationId | undefined;
  readonly baseOffset: Offset;
}

/** Stream that came before there was a log for it. */
export class EarlyStream {
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  /** What it takes in memory. */
  get heldBytes(): number {
    return this.#bytes + this.#pieces.length * PIECE_BYTES;
  }

  push(bytes: Uint8Array): void {
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
  }

  /** Hands it over. */
  appendTo(log: StreamLog | undefined): void {
    log?.appendAll(this.#pieces);
    this.drop();
  }

  drop(): void {
    this.#pieces = [];
    this.#bytes = 0;
  }
}

/**
 * A generation while its snapshot comes in from the link that is followed. Where the stream comes beside the payload, its
 * log takes that from the moment on at which the snapshot's header tells the database; no mark covers it before the
 * generation is current.
 */
export class Receiving {
  readonly path: string;
  readonly #id: number;
  readonly #grant: FullSyncGrant;
  readonly #writer: SnapshotWriter;
  readonly #gate: RoomGate;
  readonly #options: ReceivingOptions;
  readonly #beside: boolean;
  readonly #events: KeeperEvents;
  #log: Promise<StreamLog> | undefined;
  /** The log, once it is open. */
  #opened: StreamLog | undefined;
  #fsyncing: Promise<void> | undefined;
  #syncedOffset = -1;
  #syncFailure: unknown;
  #isWhole = false;
  #isEnding = false;
  #isGivenUp = false;

  private constructor(
    id: number,
    path: string,
    { grant, beside }: GrantedResync,
    writer: SnapshotWriter,
    gate: RoomGate,
    options: ReceivingOptions,
    events: KeeperEvents,
  ) {
    this.#id = id;
    this.path = path;
    this.#grant = grant;
    this.#beside = beside;
    this.#writer = writer;
    this.#gate = gate;
    this.#options = options;
    this.#events = events;
  }

  /**
   * Begins a generation: its row and folder, then the temporary file.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; STOPPED where `signal` was aborted. Nothing is left then.
   */
  static async begin(
    options: ReceivingOptions,
    resync: GrantedResync,
    events: KeeperEvents,
    signal: AbortSignal,
  ): Promise<Receiving> {
    const { directory, disk, files, admit, rdbSyncBytes, maxQueuedBytes } = options;
    const { primary, grant, form } = resync;
    const totalBytes = form.kind === "length" ? form.bytes : undefined;
    const roomFor = await unlessAborted(admit(totalBytes, grant), signal);
    const { id, dir } = await directory.begin(describeTarget(primary));
    try {
      const file = await files.open(dir, signal);
      const writer = new SnapshotWriter(disk, file, {
        totalBytes,
        syncBytes: rdbSyncBytes,
        maxQueuedBytes,
        onRoom: () => events.hasRoom(),
        onFailed: (error) => events.failed(error),
      });
      if (signal.aborted) {
        writer.abandon();
        throw givenUp();
      }
      tellArriving(directory, id, primary, grant, writer);
      const onRoom = () => events.hasRoom();
      const gate = new RoomGate({ totalBytes, roomFor, writer, onRoom });
      return new Receiving(id, file.path, resync, writer, gate, options, events);
    } catch (error) {
      directory.discard(id);
      throw error;
    }
  }

  /** True while so much waits for the disk, or for room on it, that the link should pause. */
  get congested(): boolean {
    return this.#gate.isWaiting || this.#writer.congested;
  }

  /** Bytes of the payload that a data sync covers. */
  get syncedBytes(): number {
    return this.#writer.syncedBytes;
  }

  /** The snapshot's header, once it has come whole. */
  get header(): RdbHeader | undefined {
    return this.#writer.header;
  }

  /** Bytes of the payload that the kernel has taken. */
  get writtenBytes(): number {
    return this.#writer.writtenBytes;
  }

  /** True once its snapshot is verified, durable and named: from there on the end of the link changes nothing. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  payload(bytes: Uint8Array): void {
    this.#gate.pass(bytes);
    const { header } = this.#writer;
    if (this.#beside && header !== undefined && this.#log === undefined)
      this.#openLog(header).catch((error: unknown) => this.#fail(error));
  }

  /** Takes the stream beside the payload; undefined while there is none, and once the generation is about to be current. */
  get log(): StreamLog | undefined {
    const takes = this.#beside && !this.#isEnding && !this.#isGivenUp;
    return takes ? this.#opened : undefined;
  }

  /** Whether a log is, or was, that of the stream beside the payload. */
  isOf(log: StreamLog): boolean {
    return this.#opened === log;
  }

  /** Once a second: a data sync of the stream beside the payload. A failure is reported to the events. */
  tick(): void {
    const { log } = this;
    if (log === undefined || this.#fsyncing !== undefined) return;
    const covered = log.writtenOffset;
    if (covered === this.#syncedOffset) return;
    this.#fsyncing = this.#options.directory
      .syncLog(this.#id)
      .then(() => {
        this.#syncedOffset = covered;
      })
      .catch((error: unknown) => {
        this.#syncFailure = error;
        this.#fail(error);
      })
      .finally(() => {
        this.#fsyncing = undefined;
      });
  }

  #fail(error: unknown): void {
    if (!(error instanceof ReplicaError)) throw error;
    if (!this.#isGivenUp) this.#events.failed(error);
  }

  #openLog(header: RdbHeader): Promise<StreamLog> {
    this.#log ??= this.#createLog(header);
    return this.#log;
  }

  async #createLog(header: RdbHeader): Promise<StreamLog> {
    const { createLog, onLog } = this.#options;
    const baseOffset = this.#positionBy(header)?.offset ?? 0;
    const log = await createLog(
      this.#id,
      baseOffset,
      selectCommand(replicationAux(header).streamDb),
    );
    this.#opened = log;
    if (this.#beside && !this.#isGivenUp) onLog(log);
    return log;
  }

  /**
   * Ends the payload and makes the generation current. From the end of the payload on, the stream has to be held.
   * @param sealReason why the generation before is sealed.
   * @throws ReplicaError BAD_CHECKSUM, BAD_PAYLOAD, DISK_FULL, DISK_FAILED; STOPPED where it was given up
   * meanwhile. The generation before is still current then.
   */
  async finish(sealReason: string): Promise<Received> {
    const { directory } = this.#options;
    await this.#gate.settled();
    this.#refuseIfGivenUp();
    const rdb = await this.#writer.finish(directory.basePath(this.#id));
    this.#refuseIfGivenUp();
    const position = this.#positionBy(rdb.header);
    const baseOffset = position?.offset ?? 0;
    const log = await this.#openLog(rdb.header);
    const besideTo = this.#beside ? await this.#endLog(log) : undefined;
    this.#refuseIfGivenUp();
    this.#isWhole = true;
    const kept = keptSnapshot(rdb, position?.replid, baseOffset);
    await directory.promote(
      this.#id,
      kept,
      sealReason,
      besideTo === undefined ? undefined : { besideTo },
    );
    return { log, replid: position?.replid, baseOffset };
  }

  /** SYNC names no offset; the snapshot's own aux fields may. */
  #positionBy(header: RdbHeader): Position | undefined {
    return this.#grant.by === "psync" ? this.#grant.position : replicationAux(header).position;
  }

  /**
   * The long sync goes on beside the stream; then no more is taken, so that the rest is short. Only then is the log waited
   * for: a stream that never pauses would keep it writing.
   */
  async #endLog(log: StreamLog): Promise<Offset> {
    await this.#options.directory.syncLog(this.#id);
    this.#isEnding = true;
    await this.#fsyncing;
    // What a sync that failed should have covered may be lost, whatever a later one says.
    if (this.#syncFailure !== undefined) throw this.#syncFailure;
    await log.flushed();
    return log.writtenOffset;
  }

  #refuseIfGivenUp(): void {
    if (this.#isGivenUp) throw givenUp();
  }

  /** Gives it up and removes its files; resolves once none of them is open. */
  async giveUp(): Promise<void> {
    if (this.#isGivenUp) return;
    this.#isGivenUp = true;
    this.#gate.giveUp();
    this.#writer.abandon();
    const log = this.#log;
    this.#options.directory.discard(this.#id);
    await log?.then(
      (opened) => opened.abandon(),
      () => undefined,
    );
  }
}

/** Waits for `doing` as long as nobody gives up: nobody else has to wait for old generations to go. */
async function unlessAborted<T>(doing: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(givenUp());
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([doing, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
    // One of the two may still fail.
    doing.catch(() => undefined);
  }
}

/** Has a snapshot archived while it comes in, where it is known from the start which history it is of. */
export function tellArriving(
  { holdings }: DataDirectory,
  id: number,
  primary: PrimaryTarget,
  grant: FullSyncGrant,
  writer: SnapshotWriter,
): void {
  if (grant.by !== "psync") return;
  holdings.arrives({ id, primaryName: describeTarget(primary), position: grant.position, writer });
}

/** The error of a full resync that was given up before it was complete. */
export function givenUp(): ReplicaError {
  return new ReplicaError("STOPPED", { message: "the full resync was given up" });
}

/** What the ledger keeps of a snapshot. */
export function keptSnapshot(
  rdb: RdbSummary,
  replid: ReplicationId | undefined,
  baseOffset: Offset,
): KeptSnapshot {
  const { streamDb } = replicationAux(rdb.header);
  return {
    replid,
    baseOffset,
    streamDb,
    rdbBytes: rdb.bytes,
    rdbCrc64: hex64(rdb.crc64),
    rdbChecked: rdb.checked,
    firstDatabase: rdb.firstDatabase,
    logHeaderBytes: selectCommand(streamDb).length,
  };
}
