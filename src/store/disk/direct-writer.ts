import { ptr } from "bun:ffi";
import { closeQuietly, type Disk, giveBack } from "./disk.ts";
import type { PayloadWriter, WriterEvents } from "./payload-writer.ts";

/** Address, length and offset of what goes past the page cache are multiples of this. */
export const ALIGN_BYTES = 4096;
/** What is written in one call. */
const BLOCK_BYTES = 4 * 1024 * 1024;
/** While some are on their way to the disk, another one is filled from the socket. */
const BLOCKS = 4;

/** A block on its way to the disk. */
interface Flight {
  readonly bytes: number;
  done: boolean;
}

/** Zeros at an aligned address. */
export function alignedBytes(length: number): Uint8Array {
  const memory = new Uint8Array(length + ALIGN_BYTES);
  const past = ptr(memory) % ALIGN_BYTES;
  return memory.subarray(past === 0 ? 0 : ALIGN_BYTES - past).subarray(0, length);
}

/**
 * Past the page cache, in aligned blocks, several under way at a time. The link is paused when no
 * block is free, and goes on when half of them are; so memory is bounded by the blocks.
 */
export class DirectWriter implements PayloadWriter {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #fd: number;
  readonly #events: WriterEvents;
  readonly #free: Uint8Array[] = Array.from({ length: BLOCKS }, () => alignedBytes(BLOCK_BYTES));
  /** The block that is being filled, and how far. */
  #filling: Uint8Array | undefined;
  #filledBytes = 0;
  /** What came when no block was free. */
  #waiting: Uint8Array[] = [];
  /** Bytes that were handed to the disk; the next block goes there. */
  #position = 0;
  #writtenBytes = 0;
  /** In the order of the file; those behind one that is still under way don't count as written. */
  #flights: Flight[] = [];
  #writing = 0;
  #syncing: Promise<unknown> | undefined;
  #congested = false;
  #failure: { cause: unknown } | undefined;
  #over = false;
  #idle = Promise.withResolvers<void>();

  /** `fd` was opened past the page cache, for `path`. */
  constructor(disk: Disk, path: string, fd: number, events: WriterEvents) {
    this.#disk = disk;
    this.#path = path;
    this.#fd = fd;
    this.#events = events;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get congested(): boolean {
    return this.#congested;
  }

  write(bytes: Uint8Array): void {
    if (this.#over || this.#failure !== undefined) return;
    this.#waiting.push(bytes);
    this.#fill();
  }

  /** Copies what waits into blocks, as far as there are some. */
  #fill(): void {
    for (let bytes = this.#waiting[0]; bytes !== undefined; bytes = this.#waiting[0]) {
      this.#filling ??= this.#free.pop();
      if (this.#filling === undefined) break;
      const part = bytes.subarray(0, BLOCK_BYTES - this.#filledBytes);
      this.#filling.set(part, this.#filledBytes);
      this.#filledBytes += part.length;
      if (part.length < bytes.length) {
        this.#waiting[0] = bytes.subarray(part.length);
      } else {
        this.#waiting.shift();
        giveBack(bytes);
      }
      if (this.#filledBytes === BLOCK_BYTES) this.#submit();
    }
    if (this.#filling === undefined && this.#free.length === 0) this.#congested = true;
    else if (this.#free.length >= BLOCKS / 2) this.#congested = false;
  }

  /** Hands the block that was filled to the disk; the last one may be filled in part. */
  #submit(): void {
    const block = this.#filling!;
    const flight: Flight = { bytes: this.#filledBytes, done: false };
    const position = this.#position;
    const paddedBytes = Math.ceil(flight.bytes / ALIGN_BYTES) * ALIGN_BYTES;
    block.fill(0, flight.bytes, paddedBytes);
    this.#filling = undefined;
    this.#filledBytes = 0;
    this.#position += flight.bytes;
    this.#flights.push(flight);
    this.#writing++;
    this.#disk.write(this.#fd, [block.subarray(0, paddedBytes)], position).then(
      () => this.#landed(flight, block),
      (cause: unknown) => this.#landed(flight, block, { cause }),
    );
  }

  #landed(flight: Flight, block: Uint8Array, failure?: { cause: unknown }): void {
    this.#writing--;
    if (failure !== undefined && this.#failure === undefined) {
      this.#failure = failure;
      this.#waiting = [];
      if (!this.#over) this.#events.failed(failure.cause);
    }
    flight.done = this.#failure === undefined;
    while (this.#flights[0]?.done === true) this.#writtenBytes += this.#flights.shift()!.bytes;
    this.#free.push(block);
    if (this.#failure === undefined && !this.#over) {
      this.#fill();
      this.#events.written();
    }
    if (this.#writing === 0) {
      this.#idle.resolve();
      this.#idle = Promise.withResolvers();
    }
  }

  /** Resolves once no write is under way, and nothing waits for one. */
  async #landedAll(): Promise<void> {
    while (this.#writing > 0) await this.#idle.promise;
  }

  async sync(): Promise<void> {
    const syncing = this.#disk.syncData(this.#fd);
    this.#syncing = syncing.catch(() => undefined);
    await syncing;
  }

  async finish(): Promise<void> {
    await this.#landedAll();
    const isPadded = this.#filledBytes % ALIGN_BYTES !== 0;
    if (this.#filledBytes > 0 && this.#failure === undefined) this.#submit();
    await this.#landedAll();
    if (this.#failure !== undefined) throw this.#failure.cause;
    if (this.#over) return;
    if (isPadded) this.#disk.truncate(this.#path, this.#position);
    await this.#syncing;
    await this.sync();
    // Given up meanwhile: then `abandon` closes.
    if (this.#over) return;
    this.#over = true;
    this.#disk.close(this.#fd);
  }

  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting = [];
    // The descriptor may be in a call of another thread: its number must not be reused under it.
    void Promise.all([this.#landedAll(), this.#syncing]).then(() =>
      closeQuietly(this.#disk, this.#fd),
    );
  }
}
