import { ptr } from "bun:ffi";
import { giveBack } from "./disk.ts";
import type { OpenFile } from "./open-file.ts";
import type { Reservation } from "./reservation.ts";
import type { PayloadWriter, WriterEvents } from "./payload-writer.ts";

/** O_DIRECT wants address, length and position to be multiples of this. */
export const ALIGN_BYTES = 4096;
/** The size of one write. */
const BLOCK_BYTES = 4 * 1024 * 1024;
/** While some are on their way to the disk, another is filled from the socket. */
const BLOCKS = 4;

/** A block on its way to the disk. */
interface Flight {
  readonly bytes: number;
  done: boolean;
}

/** Allocates zeros at an aligned address. */
export function alignedBytes(length: number): Uint8Array {
  const memory = new Uint8Array(length + ALIGN_BYTES);
  const past = ptr(memory) % ALIGN_BYTES;
  return memory.subarray(past === 0 ? 0 : ALIGN_BYTES - past).subarray(0, length);
}

/**
 * Writes past the page cache, in aligned blocks, several in flight at a time. It asks for a pause when no
 * block is free, until half of them are; so the blocks bound its memory.
 */
export class DirectWriter implements PayloadWriter {
  readonly #file: OpenFile;
  readonly #reservation: Reservation;
  readonly #events: WriterEvents;
  readonly #free: Uint8Array[] = Array.from({ length: BLOCKS }, () => alignedBytes(BLOCK_BYTES));
  /** The block that is being filled, and how far. */
  #filling: Uint8Array | undefined;
  #filledBytes = 0;
  /** Bytes that came while no block was free. */
  #waiting: Uint8Array[] = [];
  /** Bytes that were handed to the disk: the position of the next block. */
  #position = 0;
  #writtenBytes = 0;
  /** In the order of the file; a block counts as written once those before it do. */
  #flights: Flight[] = [];
  #writing = 0;
  #congested = false;
  #failure: { cause: unknown } | undefined;
  #over = false;
  #idle = Promise.withResolvers<void>();

  /** @param file opened past the page cache. */
  constructor(file: OpenFile, reservation: Reservation, events: WriterEvents) {
    this.#file = file;
    this.#reservation = reservation;
    this.#events = events;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get reservedBytes(): number {
    return Math.max(this.#writtenBytes, this.#reservation.bytes);
  }

  get congested(): boolean {
    return this.#congested;
  }

  write(bytes: Uint8Array): void {
    if (this.#over || this.#failure !== undefined) return;
    this.#waiting.push(bytes);
    this.#fill();
  }

  /** Copies waiting bytes into blocks, as long as one is free. */
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

  /** Hands the filled block to the disk; the last one may be filled in part. */
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
    this.#file.hold();
    this.#reservation.cover(position + flight.bytes);
    this.#file.write([block.subarray(0, paddedBytes)], position).then(
      () => this.#landed(flight, block),
      (cause: unknown) => this.#landed(flight, block, { cause }),
    );
  }

  #landed(flight: Flight, block: Uint8Array, failure?: { cause: unknown }): void {
    this.#writing--;
    this.#file.release();
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

  /** Resolves once no write is in flight. */
  async #landedAll(): Promise<void> {
    while (this.#writing > 0) await this.#idle.promise;
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async finish(): Promise<void> {
    await this.#file.use(() => this.#finish());
    // Where it was given up meanwhile, `abandon` closes.
    if (this.#over) return;
    this.#over = true;
    await this.#file.close();
  }

  async #finish(): Promise<void> {
    await this.#landedAll();
    if (this.#filledBytes > 0 && this.#failure === undefined) this.#submit();
    await this.#landedAll();
    if (this.#failure !== undefined) throw this.#failure.cause;
    if (this.#over) return;
    if (this.#position % ALIGN_BYTES !== 0) this.#file.truncate(this.#position);
    else this.#reservation.end(this.#position);
    await this.sync();
  }

  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting = [];
    this.#file.closeQuietly();
  }
}
