import { closeQuietly, type Disk, diskError } from "./disk.ts";

/** So much is read at a time. */
const BLOCK_BYTES = 512 * 1024;
/**
 * Blocks that stay for who comes to the same place a moment later; as many buffers wait to be used anew.
 * Readers that began together drift apart by what the kernel takes of each, some MiB: with 4 MiB of blocks
 * ten of them read all for themselves, with 32 MiB nearly nothing twice (bench relay).
 */
const KEPT_BLOCKS = 64;

interface Block {
  readonly buffer: Uint8Array;
  readonly reading: Promise<Uint8Array>;
  users: number;
  isKept: boolean;
}

/** A file that is open for one reader or more. */
export interface SharedFile {
  readonly path: string;
  readonly fd: number;
  /** Tells this opening from another of the same path. */
  readonly id: number;
  readers: number;
}

/**
 * Reads files for many readers at once: one descriptor a file, and one read and one buffer for those that
 * are at the same place. Nobody holds a block for longer than it takes to hand it on.
 */
export class SharedBlocks {
  readonly #disk: Disk;
  readonly #files = new Map<string, SharedFile>();
  readonly #blocks = new Map<string, Block>();
  readonly #free: Uint8Array[] = [];
  #nextId = 1;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /** Opens for one more reader. @throws ReplicaError DISK_FAILED. */
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

  /** One reader less. It must not be reading any more. */
  close(file: SharedFile): void {
    if (--file.readers > 0) return;
    if (this.#files.get(file.path) === file) this.#files.delete(file.path);
    closeQuietly(this.#disk, file.fd);
    if (this.#files.size > 0) return;
    this.forget();
    this.#free.length = 0;
  }

  /** What was read is no longer to be relied on: a file was cut. Who has it open is to close it. */
  forget(): void {
    this.#files.clear();
    for (const [key, block] of this.#blocks) this.#drop(key, block);
  }

  /**
   * Reads behind byte `from`, never past `end`, which the file must hold.
   * @param take is given at least one byte, in a view that holds until it returns; what it gives is given.
   * @throws ReplicaError DISK_FAILED; what `take` throws.
   */
  async use<T>(
    file: SharedFile,
    { from, end }: { readonly from: number; readonly end: number },
    take: (bytes: Uint8Array) => T,
  ): Promise<T> {
    // Whole blocks lie at multiples of their length, so that readers share them wherever they stand
    // within; a last one that still grows is read from where it is wanted, by all who are at its end.
    const blockFrom = from - (from % BLOCK_BYTES);
    const isWhole = end >= blockFrom + BLOCK_BYTES;
    const start = isWhole ? blockFrom : from;
    const block = this.#block(file, start, isWhole ? blockFrom + BLOCK_BYTES : end);
    block.users++;
    try {
      return take((await block.reading).subarray(from - start));
    } finally {
      block.users--;
      this.#recycle(block);
    }
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
        if (read === 0) throw new Error("the file ends before what was written");
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

  /** A buffer that nobody looks at any more takes the next block. */
  #recycle(block: Block): void {
    if (block.isKept || block.users > 0) return;
    if (this.#free.length < KEPT_BLOCKS) this.#free.push(block.buffer);
  }
}
