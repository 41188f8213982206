import { PIECE_BYTES, type Sink } from "./disk.ts";
import type { OpenFile } from "./open-file.ts";
import type { Reservation } from "./reservation.ts";
import type { PayloadWriter, WriterEvents } from "./payload-writer.ts";
import { Turns } from "./turns.ts";

/** How much is written before the kernel is told to pass it on to the disk. */
const WRITEBACK_BYTES = 1024 * 1024;

/**
 * Writes through the page cache, by a Bun.file writer. Only the promise that a write returns tells that the
 * disk is full, so one write is in flight at a time, and the rest waits here.
 */
export class BufferedWriter implements PayloadWriter {
  readonly #file: OpenFile;
  readonly #sink: Sink;
  readonly #reservation: Reservation;
  readonly #maxQueuedBytes: number;
  readonly #events: WriterEvents;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writtenBytes = 0;
  /** Up to here the kernel was told to write to the disk. */
  #begunBytes = 0;
  /** Up to here the page cache holds nothing of it any more. */
  #droppedBytes = 0;
  #writing: Promise<void> | undefined;
  /** The sink is flushed by one call at a time. */
  readonly #fsyncs = new Turns();
  #failure: { cause: unknown } | undefined;
  #over = false;

  constructor(
    file: OpenFile,
    reservation: Reservation,
    maxQueuedBytes: number,
    events: WriterEvents,
  ) {
    this.#file = file;
    this.#reservation = reservation;
    this.#sink = file.sink();
    this.#maxQueuedBytes = maxQueuedBytes;
    this.#events = events;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get reservedBytes(): number {
    return Math.max(this.#writtenBytes, this.#reservation.bytes);
  }

  get congested(): boolean {
    return this.#queuedBytes + this.#queue.length * PIECE_BYTES > this.#maxQueuedBytes;
  }

  write(bytes: Uint8Array): void {
    if (this.#over || this.#failure !== undefined) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#writing === undefined) this.#drain();
  }

  #drain(): void {
    let wrote = false;
    while (!this.#over) {
      const bytes = this.#queue.shift();
      if (bytes === undefined) break;
      let taken: number | Promise<number>;
      this.#reservation.cover(this.#writtenBytes + bytes.length);
      try {
        taken = this.#sink.write(bytes);
      } catch (cause) {
        return this.#fail(cause);
      }
      if (taken instanceof Promise) {
        this.#file.hold();
        this.#writing = taken.then(
          () => {
            this.#landed();
            this.#wrote(bytes);
            if (!this.#over) this.#events.written();
            this.#drain();
          },
          (cause: unknown) => {
            this.#landed();
            this.#fail(cause);
          },
        );
        return;
      }
      this.#wrote(bytes);
      wrote = true;
    }
    if (wrote && !this.#over) this.#events.written();
  }

  #landed(): void {
    this.#writing = undefined;
    this.#file.release();
  }

  #wrote(bytes: Uint8Array): void {
    this.#queuedBytes -= bytes.length;
    this.#writtenBytes += bytes.length;
    const dirtyBytes = this.#writtenBytes - this.#begunBytes;
    if (dirtyBytes < WRITEBACK_BYTES) return;
    this.#file.startWriteback(this.#begunBytes, dirtyBytes);
    this.#begunBytes = this.#writtenBytes;
  }

  #fail(cause: unknown): void {
    this.#queue = [];
    if (this.#over || this.#failure !== undefined) return;
    this.#failure = { cause };
    this.#events.failed(cause);
  }

  async sync(): Promise<void> {
    await this.#file.use(() => this.#fsyncs.run(() => this.#fsyncOnce()));
  }

  async #fsyncOnce(isLast = false): Promise<void> {
    const covered = this.#writtenBytes;
    await this.#sink.flush();
    if (isLast) this.#reservation.end(covered);
    await this.#file.sync();
    this.#file.dropCached(this.#droppedBytes, covered - this.#droppedBytes);
    this.#droppedBytes = covered;
  }

  async finish(): Promise<void> {
    await this.#file.use(async () => {
      while (this.#writing !== undefined) await this.#writing;
      if (this.#failure !== undefined) throw this.#failure.cause;
      await this.#fsyncs.run(() => this.#fsyncOnce(true));
      await this.#sink.end();
    });
    // Where it was given up meanwhile, `abandon` closes.
    if (this.#over) return;
    this.#over = true;
    await this.#file.close();
  }

  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue = [];
    this.#file.use(() => this.#sink.end()).catch(() => undefined);
    this.#file.closeQuietly();
  }
}
