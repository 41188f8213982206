/** How a payload is written to its file: through the page cache, or past it. */
export type Io = "buffered" | "direct";

/** Called by a writer; never after `finish` has ended, or after `abandon`. */
export interface WriterEvents {
  /** More bytes are written, and there may be room again. */
  written(): void;
  /** A write failed; nothing more is taken. Called once. */
  failed(cause: unknown): void;
}

/**
 * Writes a payload to a new file, from its beginning, in order. It owns the file, and its calls never wait:
 * pause the link while it is `congested`.
 */
export interface PayloadWriter {
  /**
   * Takes over the next bytes: it may keep a view of them until they are written, and then free a buffer
   * that they fill.
   */
  write(bytes: Uint8Array): void;
  /** How many bytes from the beginning are written. */
  readonly writtenBytes: number;
  /** How many from the beginning have room on the disk: those that are written, and perhaps some more. */
  readonly reservedBytes: number;
  /** True while the queue is so long that the link should pause. */
  readonly congested: boolean;
  /** Makes durable what is written. @throws Error of the disk. */
  sync(): Promise<void>;
  /**
   * Writes and syncs the rest, and closes: the file then holds the bytes that were taken and no others.
   * @throws Error of the disk, also the one that `failed` reported; `abandon` must still be called then.
   */
  finish(): Promise<void>;
  /** Gives up, and closes once nothing is in flight; no event follows. */
  abandon(): void;
}
