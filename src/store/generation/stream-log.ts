/*
 * Invariant: settled ≤ durable ≤ written ≤ received. Received are the bytes that were handed over, written those
 * that the kernel has, durable those that a committed mark covers, settled those whose marks no later one replaces.
 */
import { invariant, type ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { checksInvariants } from "../../base/invariants.ts";
import type { Segment } from "../ledger/ledger.ts";
import { type LogBeginning, fileByteOf } from "./layout.ts";
import { closeQuietly, type Disk, diskError, PIECE_BYTES } from "../disk/disk.ts";
import type { OpenFile } from "../disk/open-file.ts";
import { LogSegments, type LogSegmentsOptions } from "./log-segments.ts";

export interface StreamLogOptions extends LogBeginning, LogSegmentsOptions {
  /** The last offset that the file holds. */
  readonly writtenOffset: Offset;
  readonly fsync: "always" | "everysec" | "no";
  readonly maxQueuedBytes: number;
  /**
   * Commits a mark, durably; only then does the durable offset move. The segment ends at the durable
   * offset; it is undefined where that does not move, and where nothing was written before it.
   */
  readonly commitMark: (
    writtenOffset: Offset,
    durableOffset: Offset,
    segment: Segment | undefined,
  ) => Promise<void>;
  /** Monotonic milliseconds. */
  readonly monotonicMs: () => number;
  /** Called after the written or the durable offset moved, also while `append` runs. */
  readonly onMoved: () => void;
  /** Called once after a write, a sync or a mark failed; the log takes nothing more. */
  readonly onFailed: (error: ReplicaError, log: StreamLog) => void;
  /** Called once the file is closed: no further mark comes. */
  readonly onClosed: () => void;
}

/** The most that one write takes. */
const BATCH_BYTES = 2 * 1024 * 1024;
/**
 * The most that is written on the event loop. The way to the thread pool and back costs some 40 µs of CPU time and two
 * wake-ups; a write of so many bytes to the page cache costs less than that.
 */
const AT_ONCE_BYTES = 64 * 1024;
/** A page cache that took so long for a write holds up the event loop. */
const SLOW_MS = 10;

/** The append-only log of the replication stream, byte for byte. */
export class StreamLog {
  readonly #disk: Disk;
  readonly #file: OpenFile;
  readonly #options: StreamLogOptions;
  #queue: Uint8Array[] = [];
  readonly #segments: LogSegments;
  #receivedOffset: Offset;
  #writtenOffset: Offset;
  #durableOffset: Offset;
  #writing: Promise<void> | undefined;
  #fsyncing: Promise<void> | undefined;
  #marks: boolean;
  #markedOffset: Offset;
  #marking = false;
  /** A sync failed: the bytes that it should have covered may be lost, whatever a later one says. */
  #syncFailed = false;
  #error: ReplicaError | undefined;
  #closed = false;
  /** The last write took long: the next ones wait on the thread pool, until one doesn't. */
  #isSlow = false;

  /** @param options.marks false for the log of a generation that isn't current yet: it is written, but no mark covers it. */
  constructor(disk: Disk, file: OpenFile, options: StreamLogOptions & { marks: boolean }) {
    this.#disk = disk;
    this.#file = file;
    this.#options = options;
    this.#marks = options.marks;
    this.#segments = new LogSegments(options);
    this.#receivedOffset = options.writtenOffset;
    this.#writtenOffset = options.writtenOffset;
    this.#durableOffset = options.durableOffset;
    this.#markedOffset = options.writtenOffset;
    if (checksInvariants) this.#checkInvariant();
  }

  #checkInvariant(): void {
    const { settledOffset: settled, durableOffset: durable } = this;
    const { writtenOffset: written, receivedOffset: received } = this;
    invariant(
      settled <= durable && durable <= written && written <= received,
      `${this.#file.path}: settled ${settled} ≤ durable ${durable} ≤ written ${written} ≤ received ${received}`,
    );
  }

  get receivedOffset(): Offset {
    return this.#receivedOffset;
  }

  get writtenOffset(): Offset {
    return this.#writtenOffset;
  }

  get durableOffset(): Offset {
    return this.#durableOffset;
  }

  /** Up to here, no later mark replaces one. */
  get settledOffset(): Offset {
    return this.#segments.settledOffset;
  }

  /** Length of the file, in bytes, with the SELECT before the stream. */
  get fileBytes(): number {
    return this.#position(this.#writtenOffset);
  }

  /** True while the queue is so long that the link should pause. */
  get congested(): boolean {
    const waitingBytes = this.#receivedOffset - this.#writtenOffset;
    return waitingBytes + this.#queue.length * PIECE_BYTES > this.#options.maxQueuedBytes;
  }

  /** Begins to commit marks: the generation is current, and a mark at `durableOffset` says so. */
  beginMarks(durableOffset: Offset = this.#durableOffset): void {
    this.#marks = true;
    this.#durableOffset = durableOffset;
    if (checksInvariants) this.#checkInvariant();
    if (durableOffset === this.#writtenOffset) {
      this.#segments.mark(durableOffset);
      this.#segments.marked();
    }
    this.#segments.end(durableOffset);
  }

  /** Settles the marks up to `offset` as soon as that is durable, however short their segment is. */
  settle(offset: Offset): void {
    this.#segments.want(offset);
    this.#settleWanted();
  }

  #settleWanted(): void {
    // Its mark may yet replace the last one.
    if (this.#fsyncing !== undefined) return;
    if (this.#segments.isWanted(this.#durableOffset)) this.#segments.end(this.#durableOffset);
  }

  /** The segment that ends with what is written. */
  get segment(): Segment {
    return this.#segments.open(this.#writtenOffset);
  }

  /**
   * Takes over the next bytes of the stream; a buffer that they fill may be freed once they are written.
   * Failures are reported by `onFailed`, never thrown here.
   */
  append(bytes: Uint8Array): void {
    if (this.#error !== undefined || this.#closed || bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#receivedOffset += bytes.length;
    if (checksInvariants) this.#checkInvariant();
    if (this.#writing !== undefined || this.#writeAtOnce(bytes)) return;
    this.#writing = this.#write();
  }

  /** Takes over many pieces that came one after another: by the thread pool, since together they would take long. */
  appendAll(pieces: readonly Uint8Array[]): void {
    if (this.#error !== undefined || this.#closed || pieces.length === 0) return;
    for (const piece of pieces) {
      this.#queue.push(piece);
      this.#receivedOffset += piece.length;
    }
    this.#writing ??= this.#write();
  }

  /**
   * Writes a small chunk on the event loop, where that is cheap, and not while a sync of the log is in flight, which may
   * hold the file system's journal.
   * @returns false where the thread pool must write it, or say why it can't be written.
   */
  #writeAtOnce(bytes: Uint8Array): boolean {
    // The checksum frees what it has counted.
    const { length } = bytes;
    if (length > AT_ONCE_BYTES || this.#isSlow || this.#fsyncing !== undefined) return false;
    const beganMs = this.#options.monotonicMs();
    try {
      const taken = this.#file.writeAtOnce(bytes, this.#position(this.#writtenOffset));
      if (taken < length) return false;
    } catch {
      return false;
    }
    this.#queue.pop();
    this.#tookMs(this.#options.monotonicMs() - beganMs);
    this.#segments.wrote([bytes]);
    this.#segments.count();
    this.#wrote(length);
    return true;
  }

  #tookMs(ms: number): void {
    this.#isSlow = ms > SLOW_MS;
  }

  #wrote(bytes: number): void {
    this.#writtenOffset += bytes;
    if (checksInvariants) this.#checkInvariant();
    if (this.#options.fsync === "always") void this.sync();
    this.#options.onMoved();
  }

  async #write(): Promise<void> {
    this.#file.hold();
    try {
      while (this.#queue.length > 0 && this.#error === undefined) {
        const batch = this.#takeBatch();
        const position = this.#position(this.#writtenOffset);
        const beganMs = this.#options.monotonicMs();
        const writing = this.#file.write(batch.pieces, position);
        // While the disk works.
        this.#segments.count();
        await writing;
        this.#tookMs(this.#options.monotonicMs() - beganMs);
        this.#segments.wrote(batch.pieces);
        this.#wrote(batch.bytes);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#segments.count();
      this.#file.release();
      this.#writing = undefined;
    }
  }

  #takeBatch(): { pieces: Uint8Array[]; bytes: number } {
    let bytes = 0;
    let count = 0;
    while (count < this.#queue.length && bytes < BATCH_BYTES) bytes += this.#queue[count++]!.length;
    return { pieces: this.#queue.splice(0, count), bytes };
  }

  /**
   * Copies the bytes that `before` holds after this log's last byte, up to its written offset.
   * @param check is called before each piece; throws to stop the copy.
   * @throws ReplicaError DISK_FAILED; what `check` throws.
   */
  async copyFrom(before: StreamLog, check: () => void): Promise<void> {
    let fd: number | undefined;
    try {
      fd = this.#disk.openToRead(before.#file.path);
      while (this.#receivedOffset < before.writtenOffset) {
        check();
        const bytes = Math.min(BATCH_BYTES, before.writtenOffset - this.#receivedOffset);
        const piece = new Uint8Array(bytes);
        const position = before.#position(this.#receivedOffset);
        const read = await this.#disk.read(fd, piece, position);
        if (read === 0) throw new Error("the file ends before the last written byte");
        this.append(piece.subarray(0, read));
        await this.flushed();
      }
    } catch (cause) {
      throw diskError("copying the log", before.#file.path, cause);
    } finally {
      if (fd !== undefined) closeQuietly(this.#disk, fd);
    }
    check();
  }

  #position(offset: Offset): number {
    return fileByteOf(this.#options, offset);
  }

  /**
   * Call it once a second: it starts the data sync of `--fsync everysec`; with `no`, a mark that records
   * only how much was written.
   */
  tick(): void {
    // After a pause, begin a new segment; otherwise the next mark would overwrite the row that covers the pause.
    const isIdle = this.#marks && this.#durableOffset === this.#writtenOffset;
    if (isIdle && this.#options.segmentEnds()) this.#segments.end(this.#durableOffset);
    if (this.#options.fsync === "everysec") void this.sync();
    if (this.#options.fsync === "no") void this.#markWritten();
  }

  async #markWritten(): Promise<void> {
    if (!this.#marks || this.#marking || this.#error !== undefined || this.#closed) return;
    // A sync in flight commits a mark itself, with a durable offset that is not known here yet.
    if (this.#fsyncing !== undefined) return;
    // This mark comes after the last one of the segment, which none may replace then; and where none comes, no sync may.
    this.#segments.end(this.#durableOffset);
    if (this.#markedOffset === this.#writtenOffset) return;
    this.#marking = true;
    try {
      this.#markedOffset = this.#writtenOffset;
      await this.#options.commitMark(this.#writtenOffset, this.#durableOffset, undefined);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#marking = false;
    }
  }

  /**
   * Makes durable what is written. One sync is in flight at a time; the next one covers what comes
   * meanwhile, and follows at once where a caller waits for it. Failures are reported by `onFailed`.
   */
  async sync(): Promise<void> {
    const wanted = this.#writtenOffset;
    while (
      this.#durableOffset < wanted &&
      this.#marks &&
      this.#error === undefined &&
      !this.#closed
    ) {
      this.#fsyncing ??= this.#fsyncOnce();
      await this.#fsyncing;
    }
  }

  async #fsyncOnce(): Promise<void> {
    const covered = this.#writtenOffset;
    const made = this.#segments.mark(covered);
    // The next mark would replace that of an empty segment, however settled it is.
    const segment = made.fromOffset < covered ? made : undefined;
    const ends = this.#options.segmentEnds();
    try {
      await this.#file.sync();
      this.#markedOffset = this.#writtenOffset;
      await this.#options.commitMark(this.#writtenOffset, covered, segment);
      this.#durableOffset = covered; // not writtenOffset: it has moved meanwhile
      if (checksInvariants) this.#checkInvariant();
      this.#segments.marked();
      if (ends) this.#segments.end(covered);
    } catch (error) {
      this.#syncFailed = true;
      this.#fail(error);
    } finally {
      this.#fsyncing = undefined;
    }
    this.#settleWanted();
    this.#options.onMoved();
  }

  #fail(cause: unknown): void {
    if (this.#error !== undefined) return;
    this.#queue = [];
    this.#error = diskError(
      `writing the log at offset ${this.#writtenOffset + 1} in`,
      this.#file.path,
      cause,
    );
    if (!this.#closed) this.#options.onFailed(this.#error, this);
  }

  /** Resolves once every received byte is written, or a write failed. */
  async flushed(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Writes, syncs and marks the rest, then closes the file. Failures are reported by `onFailed`. */
  async close(): Promise<void> {
    await this.flushed();
    await this.sync();
    this.#closed = true;
    await this.#fsyncing;
    this.#end();
  }

  /**
   * Gives up. After a failed write the bytes written before it are good: it syncs and marks them. After a
   * failed sync it commits no further mark.
   */
  async abandon(): Promise<void> {
    this.#closed = true;
    this.#queue = [];
    await this.#writing;
    await this.#fsyncing;
    const isGood = this.#error !== undefined && !this.#syncFailed && this.#marks;
    if (isGood && this.#file.isOpen && this.#durableOffset < this.#writtenOffset) {
      this.#fsyncing = this.#fsyncOnce();
      await this.#fsyncing;
    }
    this.#end();
  }

  #end(): void {
    if (!this.#file.isOpen) return;
    this.#file.closeQuietly();
    this.#options.onClosed();
  }
}
