import { basename, dirname, join } from "node:path";
import { ReplicaError } from "../errors.ts";
import { RdbChecker, type RdbSummary } from "../rdb/checker.ts";
import { type Disk, diskError, type Sink } from "./disk.ts";

export interface SnapshotOptions {
  /** The whole payload where it is known; bytes. */
  readonly totalBytes: number | undefined;
  /** A data sync after so many bytes, while receiving goes on. */
  readonly syncBytes: number;
  /** So many bytes may wait for the disk before the link is paused. */
  readonly maxQueuedBytes: number;
  /** Called after each data sync with the bytes of the payload that it covers. */
  readonly onSynced: (bytes: number) => void;
  /** Called when bytes that waited are written. */
  readonly onRoom: () => void;
  /** Called once where writing or syncing failed, or the payload is no RDB. */
  readonly onFailed: (error: ReplicaError) => void;
}

const TRIES = 5;
const BETWEEN_TRIES_MS = 1000;

/**
 * Opens the temporary file of a snapshot: `temp-<unixtime>.<pid>.rdb`, never one that exists, five
 * tries a second apart (Redis 7.2, replication.c, syncWithMaster).
 * @throws ReplicaError DISK_FULL, DISK_FAILED with the reason of the last try; STOPPED on abort.
 */
export async function openTemporary(
  disk: Disk,
  dir: string,
  clock: { now(): number; sleep(ms: number, signal: AbortSignal): Promise<void> },
  signal: AbortSignal,
): Promise<{ path: string; fd: number }> {
  let failure: unknown;
  let path = dir;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    if (attempt > 0) await clock.sleep(BETWEEN_TRIES_MS, signal);
    if (signal.aborted) break;
    path = join(dir, `temp-${Math.floor(clock.now() / 1000)}.${process.pid}.rdb`);
    try {
      return { path, fd: disk.create(path) };
    } catch (error) {
      failure = error;
    }
  }
  if (signal.aborted) throw new ReplicaError("STOPPED", { message: "the sync was given up" });
  throw diskError("opening the temporary file", path, failure);
}

/**
 * Takes the bulk payload to disk through a Bun.file writer, with a data sync every so many bytes,
 * one at a time, off the event loop. synced <= written <= received, always.
 */
export class SnapshotWriter {
  readonly path: string;
  readonly #disk: Disk;
  readonly #fd: number;
  readonly #sink: Sink;
  readonly #checker = new RdbChecker();
  readonly #options: SnapshotOptions;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writtenBytes = 0;
  #syncedBytes = 0;
  #writing: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  #error: ReplicaError | undefined;
  #closed = false;

  constructor(disk: Disk, file: { path: string; fd: number }, options: SnapshotOptions) {
    this.#disk = disk;
    this.path = file.path;
    this.#fd = file.fd;
    this.#sink = disk.sink(file.fd);
    this.#options = options;
  }

  /** True while so much waits for the disk that the link should pause. */
  get congested(): boolean {
    return this.#queuedBytes > this.#options.maxQueuedBytes;
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
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#writing === undefined) this.#drain();
  }

  #drain(): void {
    for (;;) {
      const bytes = this.#queue.shift();
      if (bytes === undefined) break;
      let taken: number | Promise<number>;
      try {
        taken = this.#sink.write(bytes);
      } catch (error) {
        return this.#fail(error);
      }
      if (taken instanceof Promise) {
        // What the writer returns is the only place where it says that the disk is full.
        this.#writing = taken.then(
          () => {
            this.#writing = undefined;
            this.#wrote(bytes);
            if (this.#closed) return; // given up: the descriptor is about to be closed
            this.#drain();
            this.#options.onRoom();
          },
          (error: unknown) => {
            this.#writing = undefined;
            this.#fail(error);
          },
        );
        return;
      }
      this.#wrote(bytes);
    }
    if (
      this.#syncing === undefined &&
      this.#writtenBytes - this.#syncedBytes >= this.#options.syncBytes
    ) {
      this.#syncing = this.#sync().then(
        () => {
          this.#syncing = undefined;
        },
        (error: unknown) => {
          this.#syncing = undefined;
          this.#fail(error);
        },
      );
    }
  }

  #wrote(bytes: Uint8Array): void {
    this.#queuedBytes -= bytes.length;
    this.#writtenBytes += bytes.length;
  }

  async #sync(): Promise<void> {
    const covered = this.#writtenBytes;
    await this.#sink.flush();
    await this.#disk.syncData(this.#fd);
    this.#syncedBytes = covered;
    if (!this.#closed) this.#options.onSynced(covered);
  }

  #fail(cause: unknown): void {
    if (this.#error !== undefined || this.#closed) return;
    this.#error = diskError(`writing byte ${this.#writtenBytes} of`, this.path, cause);
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
    while (this.#writing !== undefined || this.#syncing !== undefined) {
      await Promise.all([this.#writing, this.#syncing]);
    }
    if (this.#error !== undefined) throw this.#error;
    const summary = this.#checker.finish();
    try {
      // Known to `abandon`, which must not close the descriptor under it.
      this.#syncing = this.#sync();
      await this.#syncing;
      await this.#sink.end();
      // Abandoned meanwhile: its temporary file is gone, and nothing may take the final name.
      if (this.#closed) throw new ReplicaError("STOPPED", { message: "the sync was given up" });
      const size = this.#disk.sizeOf(this.path);
      if (size !== summary.bytes) {
        throw new Error(`the file holds ${size} bytes, ${summary.bytes} were received`);
      }
      this.#closed = true;
      try {
        this.#disk.close(this.#fd);
        this.#disk.rename(this.path, finalPath);
      } catch (error) {
        this.#removeTemporary();
        throw error;
      }
      await this.#disk.syncDir(dirname(finalPath));
    } catch (error) {
      throw diskError(`finishing ${basename(finalPath)} in`, dirname(finalPath), error);
    }
    return summary;
  }

  /** Gives up: the temporary file goes. What is still under way ends without a word. */
  abandon(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.#removeTemporary();
    // The descriptor may be in a call of another thread: its number must not be reused under it.
    void Promise.allSettled([
      this.#writing,
      this.#syncing,
      Promise.try(() => this.#sink.end()),
    ]).then(() => {
      try {
        this.#disk.close(this.#fd);
      } catch {
        // Of a file that is given up, what close(2) says is of no interest.
      }
    });
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
