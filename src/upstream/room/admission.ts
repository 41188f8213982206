import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Position } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { Settings } from "../../config/settings.ts";
import { failedOnInfo } from "../../session/info-reply.ts";
import type { State } from "../../session/state.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { readUsedMemory } from "../../store/generation/snapshot-keys.ts";
import { FIRST_BYTES, type RoomFor } from "./gate.ts";
import { Pauses } from "./pauses.ts";
import type { Pressure } from "./pressure.ts";
import { type PrimarySize, readPrimarySize } from "./primary-size.ts";
import type { RoomWatch } from "./watch.ts";

/** Below this many snapshots' worth of room, the primary is asked how large the next one would be. */
const PLENTY = 4;
/** What came of a snapshot that didn't fit is less than all of it: at least this much more is waited for. */
const AT_LEAST = 9 / 8;
/** A refusal is news again once its size has changed by this factor. */
const NEWS_FACTOR = 1.1;
/** What is left free beside a snapshot that comes in: for the database, and the log that follows it. */
const BESIDE_BYTES = 1024 * 1024;

export interface AdmissionOptions {
  readonly directory: Pick<DataDirectory, "path" | "current" | "basePath" | "freeBytes">;
  readonly clock: Clock;
  readonly settings: Pick<Settings, "minFreeBytes" | "askPrimary">;
  readonly room: Pick<RoomWatch, "availableBytes">;
  readonly pressure: Pick<Pressure, "makeRoom">;
}

/** A full resync that didn't fit. */
interface Lacked {
  /** It needs at least this much. */
  readonly bytes: number;
  /** The primary's data in memory then; undefined where it doesn't say. */
  readonly datasetBytes: number | undefined;
  /** Whether the disk shows that it has no room for so much: it doesn't where a user's quota is used up. */
  readonly isShown: boolean;
}

/**
 * Lets no attempt ask for a full resync that can't fit: each costs the primary a fork. How large one is, is estimated
 * from what the primary says of its memory, or is the size of the last one. Attempts go on meanwhile, so that it is
 * asked for as soon as there is room. An estimate may be wrong: where no transfer bears it out, it is asked for all the
 * same, at pauses that double up to an hour.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  #lacked: Lacked | undefined;
  /** Of the attempt that is under way. */
  #datasetBytes: number | undefined;
  #usedBytes: number | undefined;
  /** Whether it has begun a pause: it was let through against the estimate, or it didn't fit. */
  #hasPause = false;
  #isBounded = false;
  readonly #pauses: Pauses;
  /** How large the last snapshot was for each byte of the primary's data in memory; undefined before the first. */
  #ratio: number | undefined;
  /** The last attempt broke over the question: INFO never came, or can't be read. */
  #isMute = false;
  #refusal:
    { readonly bytes: number; readonly isFinal: boolean; readonly error: ReplicaError } | undefined;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#pauses = new Pauses(options.clock);
  }

  /** How large the full resync is that is not asked for, since it wouldn't fit; undefined where there is no such. */
  get refusedBytes(): number | undefined {
    return this.#refusal?.bytes;
  }

  /** The primary's data in memory, as it said in the attempt that is under way; undefined where it wasn't asked, or doesn't say. */
  get datasetBytes(): number | undefined {
    return this.#datasetBytes;
  }

  /** Why no full resync is asked for; undefined where nothing is in the way. */
  get refusal(): string | undefined {
    return this.#refusal?.error.message;
  }

  /**
   * Call before an attempt.
   * @param resume what it asks to resume from.
   * @param isBounded whether its forks are bounded elsewhere: then it is not held back.
   * @returns what looks at the primary's INFO before PSYNC (see `Driver.attempt`); undefined where it needn't be
   * asked: there is much room, or `--min-free` is 0; and with `--ask-primary no`.
   * @throws ReplicaError DISK_FULL where the last attempt showed that it can't fit, and no room came since; with
   * `--ask-primary no` also where the last one wouldn't fit again.
   */
  weigh(
    resume: Position | undefined,
    isBounded = false,
  ): ((info: string | undefined) => void) | undefined {
    this.#datasetBytes = undefined;
    this.#usedBytes = undefined;
    this.#hasPause = false;
    this.#isBounded = isBounded;
    if (isBounded) return undefined;
    const { room, directory, settings } = this.#options;
    const lacked = this.#lacked;
    const isBlind = lacked !== undefined && lacked.datasetBytes === undefined;
    if (isBlind && !this.#pauses.isOver && this.#shownRoom < lacked.bytes)
      throw this.#refuse(lacked.bytes, false);
    // Somebody who keeps nothing free wants it tried.
    if (settings.minFreeBytes === 0 && lacked === undefined) return undefined;
    const mayBePartial = resume !== undefined && lacked === undefined;
    const lastBytes = directory.current?.rdbBytes ?? 0;
    if (mayBePartial && room.availableBytes() >= PLENTY * lastBytes) return undefined;
    if (!settings.askPrimary || this.#isMute) {
      this.#judge(undefined, resume);
      return undefined;
    }
    return (info) =>
      this.#judge(info === undefined ? undefined : readPrimarySize(info, resume), resume);
  }

  #judge(size: PrimarySize | undefined, resume: Position | undefined): void {
    this.#datasetBytes = size?.datasetBytes;
    this.#usedBytes = size?.usedBytes;
    if (size?.continues === true) return;
    // It most likely continues where it doesn't say.
    if (resume !== undefined && size?.continues === undefined) return;
    const available = this.#shownRoom;
    const expected = this.#expectedBytes;
    if (expected === undefined || expected <= available) return;
    const isShown = this.#lacked?.isShown !== false;
    const isFinal = isShown && (this.#shownBytes ?? 0) > available;
    if (isFinal || !this.#mayTry()) throw this.#refuse(expected, isFinal);
    this.#hasPause = true;
    this.#pauses.begin();
    const why = isShown
      ? `wouldn't fit into ${formatBytes(available)}, but that is an estimate`
      : "didn't fit, and nothing shows whether it does now";
    logger.warn(
      `a full resync of about ${formatBytes(expected)} ${why}: it is asked for all the same, and not again within ${this.#pauses.lengthMs / 1000} s`,
    );
  }

  /** How much room there is, as far as that can be told: none where the last transfer found less than the disk shows. */
  get #shownRoom(): number {
    return this.#lacked?.isShown === false ? 0 : this.#options.room.availableBytes();
  }

  /** Whether the estimate is to be put to the test now. */
  #mayTry(): boolean {
    if (this.#pauses.count > 0) return this.#pauses.isOver;
    // The room may come within seconds, as old generations do that are being removed.
    this.#pauses.begin();
    this.#pauses.begin();
    return false;
  }

  /**
   * How much a full resync takes as a transfer showed it, at the least, by how the data changed since; undefined where
   * none did, or the primary doesn't say how.
   */
  get #shownBytes(): number | undefined {
    const lacked = this.#lacked;
    if (lacked?.datasetBytes === undefined || this.#datasetBytes === undefined) return undefined;
    return (lacked.bytes * this.#datasetBytes) / Math.max(lacked.datasetBytes, 1);
  }

  /** How large a full resync is likely to be; undefined where nothing tells. */
  get #expectedBytes(): number | undefined {
    const lacked = this.#lacked;
    if (this.#datasetBytes === undefined)
      return lacked?.bytes ?? this.#options.directory.current?.rdbBytes;
    return Math.max(this.#estimate(this.#datasetBytes), this.#shownBytes ?? lacked?.bytes ?? 0);
  }

  /** Of a primary with so much data in memory. */
  #estimate(datasetBytes: number): number {
    if (this.#ratio !== undefined) return this.#ratio * datasetBytes;
    const { directory } = this.#options;
    const { current } = directory;
    if (current === undefined || this.#usedBytes === undefined) return datasetBytes;
    // An earlier process took it: the snapshot itself says how much memory the primary used then.
    const thenBytes = readUsedMemory(directory.basePath(current.id));
    if (thenBytes === undefined) return datasetBytes;
    return Math.min(datasetBytes, (current.rdbBytes * this.#usedBytes) / thenBytes);
  }

  /**
   * A full resync is granted. Old generations give way to it while it really comes, see `RoomGate`; now only for its
   * first bytes, and none that is guarded.
   * @param totalBytes its size; undefined where the primary doesn't know it yet.
   * @returns what makes room for the payload.
   * @throws ReplicaError DISK_FULL before anything is written of one that can't fit; DISK_FAILED.
   */
  async admit(totalBytes: number | undefined): Promise<RoomFor> {
    const available = this.#options.room.availableBytes();
    if (totalBytes !== undefined && totalBytes > available) {
      this.#lack(totalBytes);
      const has = `${this.#options.directory.path} has room for ${available}`;
      throw new ReplicaError("DISK_FULL", {
        message: `the snapshot has ${totalBytes} bytes, ${has}: make room`,
      });
    }
    this.#refusal = undefined;
    const size = totalBytes === undefined ? "" : ` of ${formatBytes(totalBytes)}`;
    const why = `a full resync${size}`;
    const firstBytes = Math.min(totalBytes ?? Infinity, FIRST_BYTES);
    if (this.#roomBeside(0) < firstBytes)
      await this.#options.pressure.makeRoom(firstBytes + BESIDE_BYTES, why, false);
    return (bytes, queuedBytes) => {
      const room = this.#roomBeside(queuedBytes());
      return room >= bytes ? bytes : this.#makeRoom(bytes, queuedBytes, why);
    };
  }

  /** See `RoomFor`. Guarded generations stay until nothing else is left, and then no more of them go than must. */
  async #makeRoom(bytes: number, queuedBytes: () => number, why: string): Promise<number> {
    const { pressure } = this.#options;
    const has = () => Math.min(bytes, this.#roomBeside(queuedBytes()));
    // What is queued is written meanwhile: then there was less free than seemed, and what was asked for out of reach.
    for (let before = Infinity; queuedBytes() < before;) {
      before = queuedBytes();
      await pressure.makeRoom(bytes + before + BESIDE_BYTES, why, false);
      if (has() > 0) return has();
    }
    const leastBytes = Math.min(bytes, FIRST_BYTES) + queuedBytes() + BESIDE_BYTES;
    await pressure.makeRoom(leastBytes, why, true);
    return has();
  }

  #roomBeside(queuedBytes: number): number {
    try {
      return this.#options.directory.freeBytes - queuedBytes - BESIDE_BYTES;
    } catch (error) {
      // The write that follows tells it.
      if (error instanceof ReplicaError) return 0;
      throw error;
    }
  }

  /** An attempt ended in state `from`. */
  failed(error: ReplicaError, from: State): void {
    // The answer helps and isn't needed: without one, the primary is followed as if it had refused to tell.
    if (failedOnInfo(error, from)) this.#isMute = true;
    if (error.code !== "DISK_FULL" || from.at !== "transfer") return;
    // The stream beside it takes room, too.
    const besideBytes = from.first?.does === "stream" ? from.first.streamedBytes : 0;
    this.#lack((from.totalBytes ?? AT_LEAST * from.readBytes) + besideBytes);
  }

  /** The link is up. @param isFull whether by a full resync. */
  connected(isFull: boolean): void {
    const bytes = this.#options.directory.current?.rdbBytes;
    const datasetBytes = this.#datasetBytes ?? 0;
    const ratio = bytes === undefined || datasetBytes === 0 ? undefined : bytes / datasetBytes;
    const before = this.#ratio;
    this.forget();
    this.#ratio = isFull ? (ratio ?? before) : before;
  }

  /** Starts afresh: another primary is followed, whose data may be smaller. */
  forget(): void {
    this.#isMute = false;
    this.#lacked = undefined;
    this.#ratio = undefined;
    this.#refusal = undefined;
    this.#pauses.reset();
  }

  #lack(bytes: number): void {
    if (this.#isBounded) return;
    if (this.#hasPause) this.#pauses.again();
    else this.#pauses.begin();
    this.#hasPause = true;
    const isShown = this.#options.room.availableBytes() < bytes;
    this.#lacked = { bytes, datasetBytes: this.#datasetBytes, isShown };
    this.#refuse(bytes, isShown && this.#datasetBytes !== undefined);
  }

  /**
   * The same error as before where little has changed, so that it is told once.
   * @param isFinal whether none is asked for until there is room; else ever more rarely.
   */
  #refuse(bytes: number, isFinal: boolean): ReplicaError {
    const before = this.#refusal;
    const change = before?.isFinal === isFinal ? bytes / before.bytes : Infinity;
    if (before !== undefined && change < NEWS_FACTOR && change > 1 / NEWS_FACTOR)
      return before.error;
    const about = `a full resync of about ${formatBytes(bytes)} doesn't fit on the disk of ${this.#options.directory.path}`;
    const then = isFinal
      ? "the primary is not asked for one until there is room"
      : "until there is room, the primary is asked for one ever more rarely, in the end once an hour";
    const error = new ReplicaError("DISK_FULL", {
      message: `${about}: ${then}; make room, or use a larger disk`,
    });
    this.#refusal = { bytes, isFinal, error };
    return error;
  }
}
