import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { formatAge, formatBytes } from "../../base/quantity.ts";
import { Rate } from "../../base/rate.ts";
import type { Settings } from "../../config/settings.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import {
  availableBytes,
  BLOCK_BYTES,
  dueBytes,
  longestLogBytes,
  neededBytes,
  type NextSnapshot,
  pressureBytes,
  reserveBytes,
  type Room,
} from "./figures.ts";

/** The rate of writing is averaged over this: a short burst is no reason for an alarm. */
const RATE_WINDOW_MS = 60_000;
/** How long a snapshot may take, before the first one has shown it. Redis waits 5 s for other replicas before it forks. */
const FIRST_SNAPSHOT_SECONDS = 10;
/** The replica counts as not ready, and an alert fires, while there is still this much time before the disk is full. */
const ALARM_SECONDS = 3_600;

/** How long what was seen of the old generations counts: retention may remove some. */
const OLD_FOR_MS = 10_000;
/** How often the disk is looked at while nothing comes: others may write to it too. */
const AT_REST_MS = 10_000;

type Old = Pick<Room, "removableBytes" | "guardedBytes">;

/** How long a new snapshot took, in seconds. */
export interface Took {
  readonly seconds: number;
  /** From the primary's fork on. */
  readonly sinceForkSeconds: number;
}

export interface RoomWatchOptions {
  readonly directory: Pick<DataDirectory, "path" | "freeBytes" | "current" | "note" | "keeping">;
  readonly clock: Clock;
  readonly settings: Pick<Settings, "minFreeBytes" | "minFreeShare" | "snapshotRatio">;
  /** The length of the log that is followed; 0 where none is. */
  readonly logBytes: () => number;
  /** How much has come since the start, in bytes: of the stream, and of snapshots. */
  readonly received: () => { readonly stream: number; readonly snapshot: number };
  /** Why the current generation could not be replaced, at the last try; undefined where it wasn't tried. */
  readonly renewalFailure: () => string | undefined;
  /** How large the next one is at the least, as one showed that didn't fit; undefined where none did. */
  readonly renewalLacked: () => number | undefined;
  /** How long the last one took that succeeded, in all and from the fork on; undefined before the first. */
  readonly renewalTook: () => Took | undefined;
}

/**
 * Watches the room on the disk of a data directory: how long the log may grow before a new snapshot has to shorten
 * it, and when the disk is full where no snapshot can.
 */
export class RoomWatch {
  readonly #options: RoomWatchOptions;
  readonly #rate: Rate;
  #room: Room | undefined;
  /** How much had come at the last look, and when that was. */
  #lookedAt = { bytes: -1, ms: -Infinity };
  /** What old generations take, when the current one became so; looking at each of them takes a while. */
  #old:
    | { readonly current: number | undefined; readonly untilMs: number; readonly bytes: Old }
    | undefined;
  /** Whether the alarm is on. */
  #isFilling = false;

  constructor(options: RoomWatchOptions) {
    this.#options = options;
    this.#rate = new Rate(() => options.clock.monotonicMs(), RATE_WINDOW_MS);
  }

  /** Once a second: looks at the disk while something comes or an alarm is on, else every ten seconds. */
  sample(): void {
    const { stream, snapshot } = this.#options.received();
    const bytes = stream + snapshot;
    const nowMs = this.#options.clock.monotonicMs();
    this.#rate.sample(stream);
    const last = this.#lookedAt;
    const isAtRest = bytes === last.bytes && !this.#isFilling;
    const isKnown = this.#room !== undefined && this.#old !== undefined;
    if (isAtRest && isKnown && nowMs - last.ms < AT_REST_MS) return;
    this.#lookedAt = { bytes, ms: nowMs };
    this.#room = lookedAt(() => this.#lookAgain());
    this.#tell();
  }

  /** The room at the last look; undefined where the disk can't be looked at. */
  get figures(): Room | undefined {
    return this.#room;
  }

  /** The room as it is now. @throws ReplicaError DISK_FAILED, or of the ledger. */
  look(): Room {
    this.forget();
    return this.#lookAgain();
  }

  /** The same; undefined where the disk can't be looked at. */
  tryLook(): Room | undefined {
    return lookedAt(() => this.look());
  }

  /** Old generations may be gone: look at them again. */
  forget(): void {
    this.#old = undefined;
  }

  #lookAgain(): Room {
    const { directory, logBytes, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const current = directory.current?.id;
    if (this.#old === undefined || this.#old.current !== current || nowMs > this.#old.untilMs) {
      const removableBytes = directory.keeping.freeableBytes(false);
      const guardedBytes = directory.keeping.freeableBytes(true) - removableBytes;
      const bytes = { removableBytes, guardedBytes };
      this.#old = { current, untilMs: nowMs + OLD_FOR_MS, bytes };
    }
    return { freeBytes: directory.freeBytes, ...this.#old.bytes, logBytes: logBytes() };
  }

  /** How much there would be now if every old generation gave way; Infinity where the disk can't be looked at. */
  availableBytes(): number {
    const room = this.tryLook();
    return room === undefined ? Infinity : availableBytes(room, true);
  }

  /** Below this, old generations give way. */
  pressureBytes(room: Room): number {
    const { minFreeBytes } = this.#options.settings;
    return pressureBytes(room, minFreeBytes, this.#rate.bytesPerSecond);
  }

  /** What is kept free: `--min-free`, where nobody set it at most an eighth of the room. */
  reserveBytes(room: Room): number {
    const { minFreeBytes, minFreeShare } = this.#options.settings;
    return reserveBytes(room, minFreeBytes, minFreeShare);
  }

  /** What the next snapshot over a second link is expected to take. */
  get next(): NextSnapshot {
    const { directory, renewalTook, renewalLacked } = this.#options;
    const { seconds, sinceForkSeconds } = renewalTook() ?? { seconds: 0, sinceForkSeconds: 0 };
    const rate = this.#rate.bytesPerSecond;
    return {
      bytes: Math.max(directory.current?.rdbBytes ?? 0, renewalLacked() ?? 0),
      tailBytes: rate * seconds,
      copyBytes: rate * sinceForkSeconds,
    };
  }

  /** What has to be free for it, with what is kept free anyway. */
  get neededBytes(): number {
    return neededBytes(this.next) + this.#spareBytes;
  }

  /** The same once its size is known. */
  neededBytesFor(bytes: number): number {
    const { tailBytes, copyBytes } = this.next;
    return bytes + tailBytes + copyBytes + this.#spareBytes;
  }

  get #spareBytes(): number {
    return this.#room === undefined ? 0 : this.pressureBytes(this.#room);
  }

  /** The length of the log at which the disk asks for a new snapshot; undefined where none would fit. */
  get dueBytes(): number | undefined {
    const longest = this.#longestLogBytes;
    const seconds = this.#options.renewalTook()?.seconds ?? FIRST_SNAPSHOT_SECONDS;
    return longest === undefined
      ? undefined
      : dueBytes(longest, this.#rate.bytesPerSecond * seconds);
  }

  get #longestLogBytes(): number | undefined {
    const room = this.#room;
    return room && longestLogBytes(room, this.next, this.pressureBytes(room));
  }

  /**
   * Seconds until the disk is full at the present rate of writing; Infinity where nothing is written, and where new
   * snapshots keep the log short enough.
   */
  get leftSeconds(): number {
    const room = this.#room;
    const rate = this.#rate.bytesPerSecond;
    if (room === undefined || this.#whyUnbounded === undefined) return Infinity;
    const available = availableBytes(room, true);
    // On a full disk the link is down, and nothing is written: that is no reason to be at ease.
    if (available < BLOCK_BYTES) return 0;
    return rate === 0 ? Infinity : available / rate;
  }

  /** Why no new snapshot will shorten the log; undefined where one will. */
  get #whyUnbounded(): string | undefined {
    const { settings, renewalFailure } = this.#options;
    if (settings.snapshotRatio === 0)
      return "--snapshot-ratio 0 lets the log grow: set another one, or send BGSAVE";
    const failure = renewalFailure();
    if (failure !== undefined) return `new snapshots fail: ${failure}`;
    if (this.#room === undefined || this.#longestLogBytes !== undefined) return undefined;
    return `another snapshot of ${formatBytes(this.next.bytes)} doesn't fit beside what is kept: make room, or use a larger disk`;
  }

  /** What is to be said while the disk is full within an hour; undefined while it isn't. */
  get alarm(): string | undefined {
    const { leftSeconds } = this;
    const why = this.#whyUnbounded;
    if (leftSeconds >= ALARM_SECONDS || why === undefined) return undefined;
    if (leftSeconds === 0) return `the disk is full, and ${why}`;
    const rate = `${formatBytes(this.#rate.bytesPerSecond)}/s`;
    return `the disk will be full in ${formatAge(leftSeconds)} at the present rate of ${rate}, and ${why}`;
  }

  #tell(): void {
    const { alarm } = this;
    const isFilling = alarm !== undefined;
    if (isFilling === this.#isFilling) return;
    this.#isFilling = isFilling;
    const what = alarm ?? "the disk is no longer about to be full";
    logger[isFilling ? "warn" : "info"](what);
    this.#options.directory.note("room", what);
  }
}

/** Whatever keeps us from looking keeps the disk from being written too, and is told there. */
function lookedAt(look: () => Room): Room | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof ReplicaError) return undefined;
    throw error;
  }
}
