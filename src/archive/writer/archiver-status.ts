import type { ErrorCode, ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import type { ArchiveSource, LocalGeneration } from "./archive-source.ts";
import type { GenerationWriter, ObjectKind } from "./generation-writer.ts";

/** What the archive has got since the start. */
export interface SentObjects {
  readonly objects: number;
  /** Their size in the store. */
  readonly bytes: number;
}

/** Counts what the archive has got since the start. */
export class Sent {
  readonly counts = {
    document: { objects: 0, bytes: 0 },
    piece: { objects: 0, bytes: 0 },
    segment: { objects: 0, bytes: 0 },
  };
  /** When it got an object last, in milliseconds since 1970. */
  lastMs: number | undefined;

  took(kind: ObjectKind, body: Uint8Array, nowMs: number): void {
    this.counts[kind].objects++;
    this.counts[kind].bytes += body.length;
    this.lastMs = nowMs;
  }
}

/** A failure, and when it was; milliseconds since 1970. */
export interface Failure {
  readonly error: ReplicaError;
  readonly atMs: number;
}

/** What the archiver knows by itself. */
export interface ArchiverFacts {
  /** The archive's URL, which has no login. */
  readonly url: string;
  /** How long a durable byte waits at most before it is sent, in milliseconds. */
  readonly everyMs: number;
  /** The generation that is being archived; undefined before the first. */
  readonly generation: number | undefined;
  /** Up to where that one can be restored from the archive; undefined before its base is whole there. */
  readonly archivedOffset: Offset | undefined;
  readonly sent: Readonly<Record<ObjectKind, SentObjects>>;
  /** When the archive took an object last, in milliseconds since 1970; undefined before the first since the start. */
  readonly lastSuccessMs: number | undefined;
  /** How often each code has failed since the start. */
  readonly failures: ReadonlyMap<ErrorCode, number>;
  /** Why the archive gets nothing at present; undefined while all is well. */
  readonly error: ReplicaError | undefined;
  /** Since when that is so, in milliseconds since 1970. */
  readonly failingSinceMs: number | undefined;
  /** The last failure since the start. It stays when all is well again. */
  readonly lastFailure: Failure | undefined;
  /** The generations that were given up since the start, each with its reason. */
  readonly stopped: ReadonlyMap<number, ReplicaError>;
}

/** What the archive lacks, which only the ledger tells. A generation that was given up counts until it is sealed. */
export interface ArchiveLag {
  /** Durable bytes that the archive lacks: of the logs, and of the bases. */
  readonly lagBytes: number;
  readonly lagBaseBytes: number;
  /**
   * For how long the oldest of them has been durable, in milliseconds; 0: it lacks none. Of a generation whose base is not
   * whole there, nothing can be restored: that counts from where the archived generation before it ends, or from when it
   * became current.
   */
  readonly lagMs: number;
  /** The current generation, if it was given up: then the archive gets nothing new. */
  readonly stoppedCurrent: number | undefined;
}

export interface ArchiverStatus extends ArchiverFacts, ArchiveLag {}

/** The oldest byte that the archive lacks: where the archive ends in a generation. */
export interface OldestLacked {
  readonly generation: number;
  readonly afterOffset: Offset | undefined;
  /** Since when it is lacked by the wall clock, in milliseconds since 1970; undefined where no mark says. */
  readonly sinceMs: number | undefined;
}

/**
 * Tells how old the oldest lacked byte is. The wall clock that marks are made by may be set back, and would hide what the
 * archive lacks; so what has been seen to be lacked for a while is at least that old.
 */
export class LackedAge {
  #seen: { readonly oldest: OldestLacked; readonly monotonicMs: number } | undefined;

  /** @returns in milliseconds; 0 where nothing is lacked. */
  of(oldest: OldestLacked | undefined, nowMs: number, monotonicMs: number): number {
    if (oldest === undefined) {
      this.#seen = undefined;
      return 0;
    }
    const before = this.#seen?.oldest;
    const isSame =
      before?.generation === oldest.generation && before.afterOffset === oldest.afterOffset;
    if (this.#seen === undefined || !isSame) this.#seen = { oldest, monotonicMs };
    return Math.max(0, nowMs - (oldest.sinceMs ?? nowMs), monotonicMs - this.#seen.monotonicMs);
  }
}

/** What is known of what the archive has. */
export interface Reached {
  /** How far a generation has come; undefined where the archive has nothing of it, as far as is known. */
  readonly writerOf: (id: number) => GenerationWriter | undefined;
  readonly isStopped: (id: number) => boolean;
  /** When the last generation that the archive has all of ended, in milliseconds since 1970; 0: it has none. */
  readonly coveredMs: number;
}

/**
 * How far the archive is behind.
 * @param lacked the generations that it doesn't have all of, oldest first.
 * @param ageMs tells how old the oldest lacked byte is; see `LackedAge`.
 * @throws ReplicaError of the ledger.
 */
export function lagOf(
  lacked: readonly LocalGeneration[],
  reached: Reached,
  source: ArchiveSource,
  ageMs: (oldest: OldestLacked | undefined) => number,
): ArchiveLag {
  let [lagBytes, lagBaseBytes] = [0, 0];
  let stoppedCurrent: number | undefined;
  let oldest: OldestLacked | undefined;
  for (const generation of lacked) {
    const { id, sealed, rdbBytes, durableOffset, baseOffset } = generation;
    const isStopped = reached.isStopped(id);
    // What is sealed never comes any more, and something newer is there instead.
    if (isStopped && sealed !== undefined) continue;
    if (isStopped) stoppedCurrent = id;
    const writer = reached.writerOf(id);
    lagBytes += writer?.lackedLogBytes(generation) ?? durableOffset - baseOffset;
    lagBaseBytes += writer?.lackedBaseBytes(generation) ?? rdbBytes;
    oldest ??= oldestLacked(generation, writer, reached.coveredMs, source);
  }
  return { lagBytes, lagBaseBytes, lagMs: ageMs(oldest), stoppedCurrent };
}

/** The oldest byte of a generation that the archive lacks; undefined where it lacks none. */
function oldestLacked(
  { id, startedMs, durableOffset }: LocalGeneration,
  writer: GenerationWriter | undefined,
  coveredMs: number,
  source: ArchiveSource,
): OldestLacked | undefined {
  if (writer?.isComplete === true) return undefined;
  const afterOffset = writer?.archivedOffset;
  if (afterOffset === undefined)
    return { generation: id, afterOffset, sinceMs: Math.max(startedMs, coveredMs) };
  if (afterOffset >= durableOffset) return undefined;
  const [mark] = source.marks(id, afterOffset + 1, Infinity, 1);
  return { generation: id, afterOffset, sinceMs: mark?.timeMs };
}
