import { type Disk, diskError } from "../../store/disk/disk.ts";

/** Small pieces are gathered up to this size, so that thousands of keys are one write. */
const GATHERED_BYTES = 1024 * 1024;
/** Larger pieces are written as they are. */
const LARGE_BYTES = 256 * 1024;

/** A new file that is written piece by piece. */
export class GatheringFile implements Disposable {
  readonly #disk: Disk;
  readonly path: string;
  readonly #fd: number;
  readonly #gathered = new Uint8Array(GATHERED_BYTES);
  #gatheredBytes = 0;
  #writtenBytes = 0;
  #isClosed = false;

  /** @throws ReplicaError DISK_FULL, DISK_FAILED. */
  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.path = path;
    try {
      this.#fd = disk.create(path);
    } catch (cause) {
      throw diskError("creating", path, cause);
    }
  }

  /** All bytes so far. */
  get bytes(): number {
    return this.#writtenBytes + this.#gatheredBytes;
  }

  /** Takes the next bytes; they belong to the caller again once this has resolved. */
  async write(piece: Uint8Array): Promise<void> {
    if (this.#gatheredBytes + piece.length > GATHERED_BYTES) await this.#flush();
    if (piece.length > LARGE_BYTES) {
      await this.#flush();
      await this.#toDisk(piece);
      return;
    }
    this.#gathered.set(piece, this.#gatheredBytes);
    this.#gatheredBytes += piece.length;
  }

  /** Makes all of it durable and closes the file. */
  async finish(): Promise<void> {
    await this.#flush();
    try {
      await this.#disk.syncData(this.#fd);
    } catch (cause) {
      throw diskError("syncing", this.path, cause);
    }
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#disk.close(this.#fd);
  }

  async #flush(): Promise<void> {
    if (this.#gatheredBytes === 0) return;
    const bytes = this.#gathered.subarray(0, this.#gatheredBytes);
    this.#gatheredBytes = 0;
    await this.#toDisk(bytes);
  }

  async #toDisk(bytes: Uint8Array): Promise<void> {
    try {
      await this.#disk.write(this.#fd, [bytes], this.#writtenBytes);
    } catch (cause) {
      throw diskError("writing", this.path, cause);
    }
    this.#writtenBytes += bytes.length;
  }
}
