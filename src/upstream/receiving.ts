import { ReplicaError } from "../base/errors.ts";
import { hex64 } from "../base/hex64.ts";
import type { Offset, ReplicationId } from "../base/history.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import { replicationAux } from "../rdb/header.ts";
import { selectCommand } from "../resp/encode.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import type { FullSyncGrant } from "../session/state.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { PayloadFiles } from "../store/disk/payload-file.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import { SnapshotWriter } from "../store/generation/snapshot.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import type { KeptSnapshot } from "../store/ledger/ledger.ts";
import type { GrantedResync, KeeperEvents } from "./driver.ts";
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

/** A generation while its snapshot comes in from the link that is followed. */
export class Receiving {
  readonly path: string;
  readonly #id: number;
  readonly #grant: FullSyncGrant;
  readonly #writer: SnapshotWriter;
  readonly #gate: RoomGate;
  readonly #directory: DataDirectory;
  #log: Promise<StreamLog> | undefined;
  #isWhole = false;
  #isGivenUp = false;

  private constructor(
    id: number,
    path: string,
    grant: FullSyncGrant,
    writer: SnapshotWriter,
    gate: RoomGate,
    directory: DataDirectory,
  ) {
    this.#id = id;
    this.path = path;
    this.#grant = grant;
    this.#writer = writer;
    this.#gate = gate;
    this.#directory = directory;
  }

  /**
   * Begins a generation: its row and folder, then the temporary file.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; STOPPED where `signal` was aborted. Nothing is left then.
   */
  static async begin(
    { directory, disk, files, admit, rdbSyncBytes, maxQueuedBytes }: ReceivingOptions,
    { primary, grant, form }: GrantedResync,
    events: KeeperEvents,
    signal: AbortSignal,
  ): Promise<Receiving> {
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
      return new Receiving(id, file.path, grant, writer, gate, directory);
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

  /** True once its snapshot is verified, durable and named: from there on the end of the link changes nothing. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  payload(bytes: Uint8Array): void {
    this.#gate.pass(bytes);
  }

  /**
   * Ends the payload and makes the generation current.
   * @param sealReason why the generation before is sealed.
   * @throws ReplicaError BAD_CHECKSUM, BAD_PAYLOAD, DISK_FULL, DISK_FAILED; STOPPED where it was given up
   * meanwhile. The generation before is still current then.
   */
  async finish(createLog: CreateLog, sealReason: string): Promise<Received> {
    await this.#gate.settled();
    this.#refuseIfGivenUp();
    const rdb = await this.#writer.finish(this.#directory.basePath(this.#id));
    this.#refuseIfGivenUp();
    const aux = replicationAux(rdb.header);
    // SYNC names no offset; the snapshot's own aux fields may.
    const position = this.#grant.by === "psync" ? this.#grant.position : aux.position;
    const baseOffset = position?.offset ?? 0;
    this.#log = createLog(this.#id, baseOffset, selectCommand(aux.streamDb));
    const log = await this.#log;
    this.#refuseIfGivenUp();
    this.#isWhole = true;
    const kept = keptSnapshot(rdb, position?.replid, baseOffset);
    await this.#directory.promote(this.#id, kept, sealReason);
    return { log, replid: position?.replid, baseOffset };
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
    this.#directory.discard(this.#id);
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
