import { ReplicaError } from "./errors.ts";

/** Names one history of a data set: 40 characters, made by the primary ("Redis, replication.c"). */
export type ReplicationId = string & { readonly replicationId: unique symbol };

/** A byte position in a history; the first byte of the stream after a snapshot is its offset + 1. */
export type Offset = number;

/** A replication id and the last offset that is known in its history. */
export interface Position {
  readonly replid: ReplicationId;
  readonly offset: Offset;
}

/** A replication id, and the offset from which on a stream belongs to that history. */
export interface ReplicationIdFrom {
  readonly replid: ReplicationId;
  readonly fromOffset: Offset;
}

/** The part of a stream that is in one history: from `fromOffset` up to `toOffset`, both included. */
export interface HistoryInterval {
  readonly fromOffset: Offset;
  /** Where the next history begins; Infinity for the last one. */
  readonly toOffset: Offset;
  /** The place of its history among the stream's. */
  readonly index: number;
}

/**
 * Finds the part of a stream that is in history `replid`: the last one, where it was in it twice.
 * @param histories the stream's, in order.
 */
export function intervalOf(
  histories: readonly ReplicationIdFrom[],
  replid: string,
): HistoryInterval | undefined {
  const index = histories.findLastIndex((history) => history.replid === replid);
  const history = histories[index];
  if (history === undefined) return undefined;
  const toOffset = histories[index + 1]?.fromOffset ?? Infinity;
  return { fromOffset: history.fromOffset, toOffset, index };
}

/** Whether the interval contains `offset`, its two ends included. */
export function contains({ fromOffset, toOffset }: HistoryInterval, offset: Offset): boolean {
  return offset >= fromOffset && offset <= toOffset;
}

/** The history that a stream is in right after `offset`; undefined before the first one. */
export function historyAfter(
  histories: readonly ReplicationIdFrom[],
  offset: Offset,
): ReplicationId | undefined {
  return histories.findLast(({ fromOffset }) => fromOffset <= offset)?.replid;
}

/** The histories of a stream from `position` on; undefined where the stream does not contain it. */
export function historiesFrom(
  histories: readonly ReplicationIdFrom[],
  { replid, offset }: Position,
): readonly ReplicationIdFrom[] | undefined {
  const interval = intervalOf(histories, replid);
  if (interval === undefined || !contains(interval, offset)) return undefined;
  return [{ replid, fromOffset: offset }, ...histories.slice(interval.index + 1)];
}

/**
 * Checks a replication id as a peer or a file gave it.
 * @throws ReplicaError PROTOCOL where it isn't 40 letters and digits.
 */
export function parseReplicationId(text: string): ReplicationId {
  if (!/^[0-9A-Za-z]{40}$/.test(text)) {
    throw new ReplicaError("PROTOCOL", {
      message: `a replication id has 40 letters and digits, this one is ${shown(text)}`,
    });
  }
  return text as ReplicationId;
}

/** A stream of 1 GB/s comes to it in 140 years; whole numbers end at 2^53, and behind it a stream begins. */
const MAX_OFFSET = 2 ** 52;

/**
 * Checks a replication offset as a peer or a file gave it; bytes.
 * @throws ReplicaError PROTOCOL where it isn't a whole number from 0 to 2^52.
 */
export function parseOffset(text: string): Offset {
  const offset = Number(text);
  if (!/^\d{1,16}$/.test(text) || offset > MAX_OFFSET) {
    throw new ReplicaError("PROTOCOL", {
      message: `a replication offset is a whole number up to 2^52, this one is ${shown(text)}`,
    });
  }
  return offset;
}

/** A piece of what a peer or a file says, for a message: nothing in it may move a terminal's cursor. */
function shown(text: string): string {
  return `"${text.slice(0, 60).replace(/[^ -~]/g, "?")}"`;
}
