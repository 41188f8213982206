/** Which way a payload goes to its file: through the page cache, or past it. */
export type Io = "buffered" | "direct";

/** What a writer tells. Nothing comes after `finish` has ended, nor after `abandon`. */
export interface WriterEvents {
  /** More is written, and there may be room again. */
  written(): void;
  /** Once: a write failed, and nothing more is taken. */
  failed(cause: unknown): void;
}

/**
 * Takes a payload to a new file, from its beginning, in order. It owns the descriptor, and never
 * waits: where `congested` says so, the link is to be paused.
 */
export interface PayloadWriter {
  /**
   * Takes the next bytes over: a view of them may be kept until they are written, and a buffer that
   * they fill may be freed then.
   */
  write(bytes: Uint8Array): void;
  /** So many bytes from the beginning are written. */
  readonly writtenBytes: number;
  /** True while so much waits that the link should pause. */
  readonly congested: boolean;
  /** Makes durable what is written. @throws Error of the disk. */
  sync(): Promise<void>;
  /**
   * Writes and syncs what is left, and closes: the file holds what was taken, and no byte more.
   * @throws Error of the disk, the one that was told included; `abandon` is still to be called then.
   */
  finish(): Promise<void>;
  /** Gives up, and closes once nothing is under way; says nothing more. */
  abandon(): void;
}
