import { basename, dirname } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import { openWriter, type PayloadFile } from "../disk/payload-file.ts";
import type { PayloadWriter } from "../disk/payload-writer.ts";

export interface SnapshotOptions {
  /** A data sync after so many bytes, while receiving goes on. */
  readonly syncBytes: number;
  /** So many bytes may wait for the disk before the link is paused. */
  readonly maxQueuedBytes: number;
  /** Whether the checksum is computed and compared; only a benchmark leaves it out. */
  readonly checksum?: boolean;
  /** Called after each data sync with the bytes of the payload that it covers. */
  readonly onSynced: (bytes: number) => void;
  /** Called when bytes that waited are written. */
  readonly onRoom: () => void;
  /** Called once where writing or syncing failed, or the payload is no RDB. */
  readonly onFailed: (error: ReplicaError) => void;
}

/**
 * Takes the bulk payload to disk, checks it on the way, and gives it its name. While it arrives there
 * is a data sync every so many bytes, one at a time, off the event loop. synced <= written <=
 * received, always.
 */
export class SnapshotWriter {
  readonly path: string;
  readonly #disk: Disk;
  readonly #writer: PayloadWriter;
  readonly #checker: RdbChecker;
  readonly #options: SnapshotOptions;
  #syncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #error: ReplicaError | undefined;
  #closed = false;
  #named = false;

  constructor(disk: Disk, file: PayloadFile, options: SnapshotOptions) {
    this.#disk = disk;
    this.path = file.path;
    this.#options = options;
    this.#checker = new RdbChecker({ checksum: options.checksum ?? true });
    this.#writer = openWriter(file, options.maxQueuedBytes, {
      written: () => this.#onWritten(),
      failed: (cause) => this.#fail(cause),
    });
  }

  /** True while so much waits for the disk that the link should pause. */
  get congested(): boolean {
    return this.#writer.congested;
  }

  /** True once it has its final name, which is then only to be made durable. */
  get named(): boolean {
    return this.#named;
  }

  /** The RDB's beginning, as soon as it is there. */
  get header() {
    return this.#checker.header;
  }

  /** Takes the next bytes of the payload. Failures come by `onFailed`, never from here. */
  write(bytes: Uint8Array): void {
    if (this.#error !== undefined || this.#closed) return;
    try {
      this.#checker.push(bytes);
    } catch (error) {
      return this.#fail(error);
    }
    this.#writer.write(bytes);
  }

  #onWritten(): void {
    if (this.#closed) return; // given up: the descriptor is about to be closed
    const unsyncedBytes = this.#writer.writtenBytes - this.#syncedBytes;
    if (this.#syncing === undefined && unsyncedBytes >= this.#options.syncBytes) {
      this.#syncing = this.#sync()
        .catch((error: unknown) => this.#fail(error))
        .finally(() => {
          this.#syncing = undefined;
        });
    }
    this.#options.onRoom();
  }

  async #sync(): Promise<void> {
    const covered = this.#writer.writtenBytes;
    await this.#writer.sync();
    this.#syncedBytes = covered; // not writtenBytes: it has moved meanwhile
    if (!this.#closed) this.#options.onSynced(covered);
  }

  #fail(cause: unknown): void {
    if (this.#error !== undefined || this.#closed) return;
    const { writtenBytes } = this.#writer;
    this.#error = diskError(`writing byte ${writtenBytes} of`, this.path, cause);
    const { onFailed } = this.#options;
    const error = this.#error;
    queueMicrotask(() => {
      if (!this.#closed) onFailed(error);
    });
  }

  /**
   * Ends the payload: everything written, checked, synced, and under its final name, which replaces
   * a file that has it. The folder is synced too: after this the snapshot survives a power cut.
   * @throws ReplicaError BAD_CHECKSUM, BAD_PAYLOAD, DISK_FULL, DISK_FAILED; the caller then abandons.
   */
  async finish(finalPath: string): Promise<RdbSummary> {
    await this.#syncing;
    if (this.#error !== undefined) throw this.#error;
    const summary = this.#checker.finish();
    try {
      await this.#writer.finish();
      // The last of the periodic syncs may be the one that was told of a failure.
      await this.#syncing;
      if (this.#error !== undefined) throw this.#error;
      // Abandoned meanwhile: its temporary file is gone, and nothing may take the final name.
      if (this.#closed) throw new ReplicaError("STOPPED", { message: "the sync was given up" });
      this.#options.onSynced(summary.bytes);
      const size = this.#disk.sizeOf(this.path);
      if (size !== summary.bytes) {
        throw new Error(`the file holds ${size} bytes, ${summary.bytes} were received`);
      }
      this.#closed = true;
      try {
        this.#disk.rename(this.path, finalPath);
        this.#named = true;
      } catch (error) {
        this.#removeTemporary();
        throw error;
      }
      await this.#disk.syncDir(dirname(finalPath));
    } catch (error) {
      throw (
        this.#error ?? diskError(`finishing ${basename(finalPath)} in`, dirname(finalPath), error)
      );
    }
    return summary;
  }

  /** Gives up: the temporary file goes. What is still under way ends without a word. */
  abandon(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#removeTemporary();
    this.#writer.abandon();
  }

  /** The reason why it goes is what people hear of; where even this fails, the next start clears it. */
  #removeTemporary(): void {
    try {
      this.#disk.remove(this.path);
    } catch {
      // Said above.
    }
  }
}
