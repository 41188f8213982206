import type { Offset, ReplicationId } from "../../base/history.ts";

/** A MULTI … EXEC of a log: it takes effect as one, at its end. */
export interface Transaction {
  /** The offset before its MULTI. */
  readonly offset: Offset;
  /** The offset of the last byte of its EXEC; undefined where it is too large to be held until then. */
  readonly end: Offset | undefined;
}

/** A command of a log. */
export interface LogEntry {
  /** The offset of the last byte before it: a restore to this offset has everything before the command, and not the command. */
  readonly offset: Offset;
  /** The offset of its last byte: a restore to this offset has it, where it is in no transaction. */
  readonly end: Offset;
  /** The history that it is in; undefined where the primary named none. An offset means nothing in another one. */
  readonly replid: ReplicationId | undefined;
  /**
   * Milliseconds since 1970: the first mark at which the log held it, or the transaction that it is in. It came then or up
   * to a second before. Undefined where no mark tells.
   */
  readonly atMs: number | undefined;
  readonly db: number;
  /** In upper case, as far as it is ASCII. */
  readonly command: string;
  /** Its keys, those that it only reads as well. Of a command that isn't known, the word behind its name. */
  readonly keys: readonly Uint8Array[];
  /** All words behind its name. */
  readonly args: readonly Uint8Array[];
  readonly transaction: Transaction | undefined;
}
