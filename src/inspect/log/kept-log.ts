import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import { contains, historyAfter, intervalOf } from "../../base/history.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";

/** A run of bytes of a log. */
export interface LogBlock {
  /** Gone once the next block is asked for. */
  readonly bytes: Uint8Array;
  /** The offset before the first one. */
  readonly before: Offset;
}

/** The log of one generation, as far as it is durable, wherever it lies. */
export interface KeptLog {
  /** What people call its generation: `3`, or the name of its folder in an archive. */
  readonly id: string;
  readonly baseOffset: Offset;
  readonly endOffset: Offset;
  /** Whether nothing is added to it any more. */
  readonly isSealed: boolean;
  /** Its first and its last mark; undefined where no mark tells. */
  readonly first: Moment | undefined;
  readonly last: Moment | undefined;

  /** The histories that it is in up to an offset. */
  histories(upTo: Offset, signal: AbortSignal): Promise<readonly ReplicationIdFrom[]>;

  /**
   * Reads it in order.
   * @param from an offset, or the log's beginning, which is a SELECT before the stream's first byte.
   * @throws ReplicaError for damage, and where it can't be read.
   */
  blocks(
    from: Offset | "beginning",
    to: Offset,
    signal: AbortSignal,
  ): AsyncGenerator<LogBlock, void>;

  /** The last mark that is not after `atMs`; undefined before all of them. */
  momentBefore(atMs: number, signal: AbortSignal): Promise<Moment | undefined>;

  /** Some marks in their order, from the first on at which it held `offset`; empty where none did. */
  momentsFrom(offset: Offset, signal: AbortSignal): Promise<readonly Moment[]>;

  /** The error for damage at a byte of the log. */
  damageError(byte: number, what: string): Error;
}

/** What keeps logs: a data directory, or an archive. */
export interface LogSource extends Disposable {
  /** The path or the URL. */
  readonly name: string;
  /** The logs as of the last look, in the order in which they began. */
  readonly logs: readonly KeptLog[];
  /**
   * Looks anew: logs may have come, grown, ended or gone.
   * @param id that of the log which is being read, whose growth matters most.
   */
  look(id: string | undefined, signal: AbortSignal): Promise<void>;
  /** How long to wait between two looks, in milliseconds. */
  readonly lookEveryMs: number;
}

/** Whether two logs hold the same stream up to an offset, which the one has reached, so that the other goes on with it. */
export async function goesOn(
  log: KeptLog,
  other: KeptLog,
  offset: Offset,
  signal: AbortSignal,
): Promise<boolean> {
  if (other.baseOffset > offset || other.endOffset < offset) return false;
  const replid = historyAfter(await log.histories(offset, signal), offset);
  if (replid === undefined) return false;
  const interval = intervalOf(await other.histories(offset, signal), replid);
  return interval !== undefined && contains(interval, offset);
}
