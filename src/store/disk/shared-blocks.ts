import { closeQuietly, type Disk, diskError } from "./disk.ts";

/** The size of one read. */
const BLOCK_BYTES = 512 * 1024;
/**
 * How many blocks are cached for readers a little behind, and how many free buffers are kept. Readers that
 * began together drift apart by a few MiB, as the kernel takes more of one than of another: with 4 MiB of
 * blocks ten readers each read everything themselves, with 32 MiB almost nothing is read twice (bench relay).
 */
const KEPT_BLOCKS = 64;
/** As long as the port answers commands in a turn of the event loop. */
export const ROUND_MS = 2;

interface Block {
  readonly buffer: Uint8Array;
  readonly reading: Promise<Uint8Array>;
  users: number;
  isKept: boolean;
}

/** A file that is open for one or more readers. */
export interface SharedFile {
  readonly path: string;
  readonly fd: number;
  /** Distinguishes this opening from another of the same path. */
  readonly id: number;
  readers: number;
}

/** The time in which blocks are handed on within one turn of the event loop. */
interface Round {
  readonly endMs: number;
  /** Resolves in the next turn. */
  readonly over: Promise<void>;
}

/**
 * Reads files for many readers at once: one descriptor a file, one read and one buffer for the readers at the
 * same place. A reader holds a block only while it hands it on. What is cached is handed on in rounds: hundreds of readers
 * that begin together would else take gigabytes before the event loop does anything else.
 */
export class SharedBlocks {
  readonly #disk: Disk;
  readonly #files = new Map<string, SharedFile>();
  readonly #blocks = new Map<string, Block>();
  readonly #free: Uint8Array[] = [];
  #nextId = 1;
  /** Undefined before the first block of a turn of the event loop. */
  #round: Round | undefined;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /** Opens a file for one more reader. @throws ReplicaError DISK_FAILED. */
  open(path: string): SharedFile {
    let file = this.#files.get(path);
    if (file === undefined) {
      try {
        file = { path, fd: this.#disk.openToRead(path), id: this.#nextId++, readers: 0 };
      } catch (cause) {
        throw diskError("reading", path, cause);
      }
      this.#files.set(path, file);
    }
    file.readers++;
    return file;
  }

  /** Removes a reader, which must not be reading any more; the last one closes the file. */
  close(file: SharedFile): void {
    if (--file.readers > 0) return;
    if (this.#files.get(file.path) === file) this.#files.delete(file.path);
    closeQuietly(this.#disk, file.fd);
    if (this.#files.size > 0) return;
    this.forget();
    this.#free.length = 0;
  }

  /** Drops all cached blocks, because a file was cut. Readers must close it. */
  forget(): void {
    this.#files.clear();
    for (const [key, block] of this.#blocks) this.#drop(key, block);
  }

  /**
   * Reads from position `from` on, at most up to `end`; the file must be that long.
   * @param take gets at least one byte, in a view that is valid until it returns.
   * @returns what `take` returns.
   * @throws ReplicaError DISK_FAILED; what `take` throws.
   */
  async use<T>(
    file: SharedFile,
    { from, end }: { readonly from: number; readonly end: number },
    take: (bytes: Uint8Array) => T,
  ): Promise<T> {
    // Whole blocks begin at multiples of their length, so that readers anywhere inside share them. The last
    // block still grows: it is read from where it is wanted, by all readers at its end.
    const blockFrom = from - (from % BLOCK_BYTES);
    const isWhole = end >= blockFrom + BLOCK_BYTES;
    const start = isWhole ? blockFrom : from;
    const block = this.#block(file, start, isWhole ? blockFrom + BLOCK_BYTES : end);
    block.users++;
    try {
      const bytes = await block.reading;
      while (performance.now() >= this.#thisRound().endMs) await this.#thisRound().over;
      return take(bytes.subarray(from - start));
    } finally {
      block.users--;
      this.#recycle(block);
    }
  }

  /** The round of this turn of the event loop. */
  #thisRound(): Round {
    if (this.#round !== undefined) return this.#round;
    const over = Promise.withResolvers<void>();
    setImmediate(() => {
      this.#round = undefined;
      over.resolve();
    });
    return (this.#round = { endMs: performance.now() + ROUND_MS, over: over.promise });
  }

  #block(file: SharedFile, start: number, stop: number): Block {
    const key = `${file.id}:${start}:${stop}`;
    const known = this.#blocks.get(key);
    if (known !== undefined) return known;
    const buffer = this.#free.pop() ?? new Uint8Array(BLOCK_BYTES);
    const reading = this.#read(file, buffer.subarray(0, stop - start), start);
    const block = { buffer, reading, users: 0, isKept: true };
    this.#blocks.set(key, block);
    reading.catch(() => this.#drop(key, block));
    for (const [oldKey, old] of this.#blocks) {
      if (this.#blocks.size <= KEPT_BLOCKS) break;
      this.#drop(oldKey, old);
    }
    return block;
  }

  async #read(file: SharedFile, bytes: Uint8Array, position: number): Promise<Uint8Array> {
    let done = 0;
    try {
      while (done < bytes.length) {
        const read = await this.#disk.read(file.fd, bytes.subarray(done), position + done);
        if (read === 0) throw new Error("the file ends before the last written byte");
        done += read;
      }
    } catch (cause) {
      throw diskError(`reading byte ${position + done} of`, file.path, cause);
    }
    return bytes;
  }

  #drop(key: string, block: Block): void {
    if (this.#blocks.get(key) === block) this.#blocks.delete(key);
    if (!block.isKept) return;
    block.isKept = false;
    this.#recycle(block);
  }

  /** Reuses a buffer that no reader uses any more. */
  #recycle(block: Block): void {
    if (block.isKept || block.users > 0) return;
    if (this.#free.length < KEPT_BLOCKS) this.#free.push(block.buffer);
  }
}
