import { closeQuietly, type Disk, PIECE_BYTES, type Sink } from "./disk.ts";
import type { PayloadWriter, WriterEvents } from "./payload-writer.ts";

/**
 * Through the page cache, by a Bun.file writer. A promise that it returns is the only place where it
 * says that the disk is full, so one write is under way at a time, and the rest waits here.
 */
export class BufferedWriter implements PayloadWriter {
  readonly #disk: Disk;
  readonly #fd: number;
  readonly #sink: Sink;
  readonly #maxQueuedBytes: number;
  readonly #events: WriterEvents;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writtenBytes = 0;
  #writing: Promise<void> | undefined;
  #syncing: Promise<unknown> | undefined;
  #failure: { cause: unknown } | undefined;
  #over = false;

  constructor(disk: Disk, fd: number, maxQueuedBytes: number, events: WriterEvents) {
    this.#disk = disk;
    this.#fd = fd;
    this.#sink = disk.sink(fd);
    this.#maxQueuedBytes = maxQueuedBytes;
    this.#events = events;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
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
      try {
        taken = this.#sink.write(bytes);
      } catch (cause) {
        return this.#fail(cause);
      }
      if (taken instanceof Promise) {
        this.#writing = taken.then(
          () => {
            this.#writing = undefined;
            this.#wrote(bytes);
            if (!this.#over) this.#events.written();
            this.#drain();
          },
          (cause: unknown) => {
            this.#writing = undefined;
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

  #wrote(bytes: Uint8Array): void {
    this.#queuedBytes -= bytes.length;
    this.#writtenBytes += bytes.length;
  }

  #fail(cause: unknown): void {
    this.#queue = [];
    if (this.#over || this.#failure !== undefined) return;
    this.#failure = { cause };
    this.#events.failed(cause);
  }

  async sync(): Promise<void> {
    const syncing = (async () => {
      await this.#sink.flush();
      await this.#disk.syncData(this.#fd);
    })();
    this.#syncing = syncing.catch(() => undefined);
    await syncing;
  }

  async finish(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure.cause;
    await this.#syncing;
    await this.sync();
    await this.#sink.end();
    // Given up meanwhile: then `abandon` closes.
    if (this.#over) return;
    this.#over = true;
    this.#disk.close(this.#fd);
  }

  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue = [];
    // The descriptor may be in a call of another thread: its number must not be reused under it.
    const underWay = [this.#writing, this.#syncing, Promise.try(() => this.#sink.end())];
    void Promise.allSettled(underWay).then(() => closeQuietly(this.#disk, this.#fd));
  }
}
