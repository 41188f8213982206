/** The room that a data directory has and takes, at one look; bytes. */
export interface Room {
  /** Free on the file system. */
  readonly freeBytes: number;
  /** What old generations take that give way where room is short. */
  readonly removableBytes: number;
  /** What those take that go last: what came after them has less. */
  readonly guardedBytes: number;
  /** The log that is followed. */
  readonly logBytes: number;
}

/** What the next snapshot over a second link is expected to take; bytes. */
export interface NextSnapshot {
  readonly bytes: number;
  /** How much the log grows while it is taken; 0 where nothing is known of that. */
  readonly tailBytes: number;
  /** How much of that comes after the primary forks: the new log begins with a copy of it. */
  readonly copyBytes: number;
}

/** The block of most file systems: with less there is room for nothing. */
export const BLOCK_BYTES = 4096;
/** The log takes some of the room while old generations are removed. */
const REACHABLE = 15 / 16;
/** The share of the room that the log may take. */
const LOG_SHARE = 1 / 4;
/** The share of the room for which old generations give way. */
const SPARE_SHARE = 1 / 8;
/** A new snapshot may be larger than the last one by this factor. */
const GROWTH = 9 / 8;
/** Old generations give way before the log finds the disk full, whatever `--min-free` says. */
const LEAST_SPARE_BYTES = 64 * 1024 * 1024;
/** How long a removal may take, with all that the disk has to do besides. */
const REMOVAL_SECONDS = 5;
/** The log may grow faster, or the next snapshot take longer, than the last ones tell. */
const CAUTION = 5 / 4;
/** Whatever the caution: renewals don't begin before the log has this share of its limit. */
const LEAST_SHARE = 1 / 3;
/** Renewals that follow one another more closely than this share of a snapshot's size are not worth their forks. */
const LEAST_LOG_SHARE = 1 / 8;
/** The disk never asks for a new snapshot before the log has this share of the last one. */
export const LEAST_LOG_BY_DISK = LEAST_SHARE * LEAST_LOG_SHARE;

/** The room that was free before the log and the old generations took theirs. */
export function totalBytes({ freeBytes, removableBytes, logBytes }: Room): number {
  return freeBytes + removableBytes + logBytes;
}

/** How much there would be if old generations gave way. @param evenGuarded whether even the last ones would. */
export function availableBytes(room: Room, evenGuarded = false): number {
  return room.freeBytes + room.removableBytes + (evenGuarded ? room.guardedBytes : 0);
}

/** How much of that may be counted on once they do. */
export function reachableBytes(room: Room, evenGuarded = false): number {
  return REACHABLE * availableBytes(room, evenGuarded);
}

/**
 * What is kept free.
 * @param share the largest share of the room: a disk may be smaller than `--min-free`.
 */
export function reserveBytes(room: Room, minFreeBytes: number, share: number): number {
  return Math.min(minFreeBytes, share * totalBytes(room));
}

/**
 * Below this, old generations give way: `--min-free`, of a small disk an eighth of its room; or what the log takes in
 * some seconds, at most a quarter, since a removal takes a while.
 * @param bytesPerSecond how fast the log grows.
 */
export function pressureBytes(room: Room, minFreeBytes: number, bytesPerSecond: number): number {
  const total = totalBytes(room);
  const kept = Math.min(Math.max(minFreeBytes, LEAST_SPARE_BYTES), SPARE_SHARE * total);
  return Math.max(kept, Math.min(REMOVAL_SECONDS * bytesPerSecond, LOG_SHARE * total));
}

/** What has to be there for a new snapshot: for itself, for the log meanwhile, and for the copy of that. */
export function neededBytes({ bytes, tailBytes, copyBytes }: NextSnapshot): number {
  return GROWTH * bytes + tailBytes + copyBytes;
}

/**
 * How long the log may grow: a quarter of the room, and as long as another snapshot still fits beside it.
 * @param keptFreeBytes see `pressureBytes`.
 * @returns undefined where no other snapshot fits, however short the log is.
 */
export function longestLogBytes(
  room: Room,
  next: NextSnapshot,
  keptFreeBytes: number,
): number | undefined {
  const beside = totalBytes(room) - neededBytes(next) - keptFreeBytes;
  if (beside < LEAST_LOG_SHARE * next.bytes || availableBytes(room) < neededBytes(next))
    return undefined;
  return Math.min(LOG_SHARE * totalBytes(room), beside);
}

/**
 * The length of the log at which a new snapshot has to begin, so that the log doesn't outgrow `longestBytes`.
 * @param tailBytes how much the log may grow while the snapshot is taken.
 */
export function dueBytes(longestBytes: number, tailBytes: number): number {
  return Math.max(longestBytes - CAUTION * tailBytes, LEAST_SHARE * longestBytes);
}
