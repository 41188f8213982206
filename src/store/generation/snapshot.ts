/* Invariant: synced ≤ written ≤ received, in bytes of the payload. */
import { basename, dirname } from "node:path";
import { invariant, ReplicaError } from "../../base/errors.ts";
import { checksInvariants } from "../../base/invariants.ts";
import { counted } from "../../base/quantity.ts";
import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import { openWriter, type PayloadFile } from "../disk/payload-file.ts";
import type { PayloadWriter } from "../disk/payload-writer.ts";

export interface SnapshotOptions {
  /** The length of the payload; undefined where it isn't known. */
  readonly totalBytes: number | undefined;
  /** How many bytes are written between two data syncs, while the payload arrives. */
  readonly syncBytes: number;
  /** How many bytes may wait for the disk before the link should pause. */
  readonly maxQueuedBytes: number;
  /** Whether to compute and compare the checksum; only a benchmark does without. */
  readonly checksum?: boolean;
  /** Called right before the file gets its name; what it throws ends the snapshot. */
  readonly beforeNaming?: () => void;
  /** Called after queued bytes were written. */
  readonly onRoom: () => void;
  /** Called once after a write or a sync failed, or the payload turned out to be no RDB. */
  readonly onFailed: (error: ReplicaError) => void;
}

/**
 * Writes the bulk payload to disk, checks it on the way, and gives it its final name. While it arrives, a
 * data sync follows every `syncBytes`, one at a time, off the event loop.
 */
export class SnapshotWriter {
  readonly path: string;
  readonly #disk: Disk;
  readonly #writer: PayloadWriter;
  readonly #checker: RdbChecker;
  readonly #meter: PayloadFile["meter"];
  readonly #options: SnapshotOptions;
  #receivedBytes = 0;
  #syncedBytes = 0;
  #fsyncing: Promise<void> | undefined;
  #error: ReplicaError | undefined;
  #closed = false;
  #named = false;

  constructor(disk: Disk, file: PayloadFile, options: SnapshotOptions) {
    this.#disk = disk;
    this.path = file.path;
    this.#meter = file.meter;
    this.#options = options;
    this.#checker = new RdbChecker({ checksum: options.checksum ?? true });
    this.#writer = openWriter(file, options.totalBytes, options.maxQueuedBytes, {
      written: () => this.#onWritten(),
      failed: (cause) => this.#fail(cause),
    });
  }

  #checkInvariant(): void {
    const [synced, written, received] = [
      this.#syncedBytes,
      this.#writer.writtenBytes,
      this.#receivedBytes,
    ];
    invariant(
      synced <= written && written <= received,
      `${this.path}: synced ${synced} ≤ written ${written} ≤ received ${received}`,
    );
  }

  /** True while the queue is so long that the link should pause. */
  get congested(): boolean {
    return this.#writer.congested;
  }

  /** Bytes of the payload that were taken and have no room on the disk yet; negative where more have that than were taken. */
  get queuedBytes(): number {
    return this.#receivedBytes - this.#writer.reservedBytes;
  }

  /** Bytes of the payload that the kernel has taken. */
  get writtenBytes(): number {
    return this.#writer.writtenBytes;
  }

  /** Bytes of the payload that a data sync covers. */
  get syncedBytes(): number {
    return this.#syncedBytes;
  }

  /** True once nothing is written to its path any more: it is whole, or given up. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** True once it has its final name, even if that is not durable yet. */
  get named(): boolean {
    return this.#named;
  }

  /** The RDB's header, once it has come whole. */
  get header() {
    return this.#checker.header;
  }

  /** Takes the next bytes of the payload. Failures are reported by `onFailed`, never thrown here. */
  write(bytes: Uint8Array): void {
    if (this.#error !== undefined || this.#closed) return;
    try {
      this.#checker.push(bytes);
    } catch (error) {
      return this.#fail(error);
    }
    this.#receivedBytes += bytes.length;
    this.#writer.write(bytes);
    this.#meter?.waits(this.#writer.congested);
    if (checksInvariants) this.#checkInvariant();
  }

  #onWritten(): void {
    if (this.#closed) return; // given up: the file is about to be closed
    this.#meter?.waits(this.#writer.congested);
    if (checksInvariants) this.#checkInvariant();
    this.#syncIfDue();
    this.#options.onRoom();
  }

  /** Where a link stalls, nothing more is written that would call for it: so it is asked after each sync, too. */
  #syncIfDue(): void {
    const unsyncedBytes = this.#writer.writtenBytes - this.#syncedBytes;
    const isOver = this.#closed || this.#error !== undefined;
    if (isOver || this.#fsyncing !== undefined || unsyncedBytes < this.#options.syncBytes) return;
    this.#fsyncing = this.#sync()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#fsyncing = undefined;
        this.#syncIfDue();
      });
  }

  async #sync(): Promise<void> {
    const covered = this.#writer.writtenBytes;
    await this.#writer.sync();
    this.#syncedBytes = covered; // not writtenBytes: it has moved meanwhile
    if (checksInvariants) this.#checkInvariant();
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
   * Ends the payload: writes and syncs the rest, checks the whole, renames the file to `finalPath`, replacing
   * a file of that name, and syncs the folder. After this the snapshot survives a power cut.
   * @throws ReplicaError BAD_CHECKSUM, BAD_PAYLOAD, DISK_FULL, DISK_FAILED; STOPPED where it was abandoned
   * meanwhile. The caller then abandons it.
   */
  async finish(finalPath: string): Promise<RdbSummary> {
    await this.#fsyncing;
    if (this.#error !== undefined) throw this.#error;
    const summary = this.#checker.finish();
    this.#meter?.ending();
    try {
      await this.#writer.finish();
      // The kernel may have reported a failed write to the last periodic sync.
      await this.#fsyncing;
      if (this.#error !== undefined) throw this.#error;
      // Abandoned meanwhile: the temporary file is gone, and nothing may take the final name.
      if (this.#closed)
        throw new ReplicaError("STOPPED", { message: "the full resync was given up" });
      this.#syncedBytes = summary.bytes;
      this.#meter?.end(summary.bytes);
      const size = this.#disk.sizeOf(this.path);
      if (size !== summary.bytes) {
        throw new Error(
          `the file has ${counted(size, "byte")}, though ${counted(summary.bytes, "byte")} came`,
        );
      }
      this.#options.beforeNaming?.();
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

  /** Gives up and removes the temporary file. What is in flight ends without an event. */
  abandon(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#removeTemporary();
    this.#writer.abandon();
  }

  /** Where this fails, the next start removes it. */
  #removeTemporary(): void {
    try {
      this.#disk.remove(this.path);
    } catch {
      // The reason why it is removed is the one to report.
    }
  }
}
