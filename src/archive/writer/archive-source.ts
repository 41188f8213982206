import type { Offset, ReplicationId, ReplicationIdFrom } from "../../base/history.ts";

/**
 * A generation of a data directory, as far as the archive needs it. It is whole, so that its base is verified and never
 * changes; or `arriving`.
 */
export interface LocalGeneration {
  readonly id: number;
  /** Set while its base is coming in: `rdbBytes` of that are durable. Nothing else of it is there yet but this history. */
  readonly arriving?: ReplicationId | undefined;
  /** When its history begins, in milliseconds since 1970. */
  readonly startedMs: number;
  /** The primary's address, for people. */
  readonly primaryName: string;
  readonly baseOffset: Offset;
  readonly rdbBytes: number;
  /** CRC64 of the snapshot without its last 8 bytes, in hex. */
  readonly rdbCrc64: string;
  /** Length of the SELECT at the beginning of the log's file. */
  readonly logHeaderBytes: number;
  /** The last byte of the log that survives a power cut. It never falls. */
  readonly durableOffset: Offset;
  /**
   * Up to here, the marks stay as they are: `settled ≤ durable`. While a log grows, marks in quick succession replace one
   * another; once it is closed, all are settled. It never falls either.
   */
  readonly settledOffset: Offset;
  /** Set once nothing will be added to its log any more: when that ended, in milliseconds since 1970, and why. */
  readonly sealed: { readonly atMs: number; readonly reason: string } | undefined;
  readonly basePath: string;
  readonly logPath: string;
  /** The file in the generation's folder in which the archiver remembers where it archives it. */
  readonly memoryPath: string;
}

/** A time, and what was written then. */
export interface LocalMark {
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  readonly offset: Offset;
}

/** What is archived: the generations of a data directory. */
export interface ArchiveSource {
  /** Whether no power cut takes back which generations there are, and which of them are sealed. */
  readonly isCertain: boolean;
  /** Makes it so. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  ascertain(): Promise<void>;
  /**
   * The whole generations, oldest first.
   * @param isLeftOut those that aren't wanted: each that is costs a look at its marks.
   * @param most how many at most.
   * @throws ReplicaError of the ledger.
   */
  generations(isLeftOut?: (id: number) => boolean, most?: number): readonly LocalGeneration[];
  /** The one whose base is coming in, where that can be archived already. */
  arriving(): LocalGeneration | undefined;
  /**
   * The first marks of a generation from `from` up to `to`, both included, in the order of the log.
   * @param most how many at most.
   * @throws ReplicaError of the ledger.
   */
  marks(id: number, from: Offset, to: Offset, most: number): readonly LocalMark[];
  /** Has the marks of a generation settled up to `offset` as soon as that is durable, rather than some time later. */
  settle(id: number, offset: Offset): void;
  /** The histories that a generation's stream has been in, in order. @throws ReplicaError of the ledger. */
  histories(id: number): readonly ReplicationIdFrom[];
  /** Keeps the files of a generation from removal. Returns a release function; call it exactly once. */
  pin(id: number): () => void;
}
