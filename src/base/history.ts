import { ReplicaError } from "./errors.ts";
import { printableAscii } from "./printable.ts";

/** Names one history of a data set: 40 characters, made by the primary ("Redis, replication.c"). */
export type ReplicationId = string & { readonly replicationId: unique symbol };

/** A byte position in a history; the first byte of the stream after a snapshot is its offset + 1. */
export type Offset = number;

/** A replication id and the last offset that is known in its history. */
export interface Position {
  readonly replid: ReplicationId;
  readonly offset: Offset;
}

/**
 * Checks a replication id as a peer or a file gave it.
 * @throws ReplicaError PROTOCOL where it isn't 40 letters and digits.
 */
export function parseReplicationId(text: string): ReplicationId {
  if (!/^[0-9A-Za-z]{40}$/.test(text)) {
    throw new ReplicaError("PROTOCOL", {
      message: `a replication id has 40 letters and digits, this one is "${printableAscii(text, 60)}"`,
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
      message: `a replication offset is a whole number up to 2^52, this one is "${printableAscii(text, 60)}"`,
    });
  }
  return offset;
}
