import type { ReplicaError } from "../../base/errors.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import type { Offset } from "../../base/history.ts";
import type { Segment } from "../ledger/ledger.ts";
import { type LogBeginning, positionIn } from "./layout.ts";
import { closeQuietly, type Disk, diskError, giveBack, PIECE_BYTES } from "../disk/disk.ts";
import type { OpenFile } from "../disk/open-file.ts";

export interface StreamLogOptions extends LogBeginning {
  /** The last byte that the file holds, and the last that a mark covers. */
  readonly writtenOffset: Offset;
  readonly durableOffset: Offset;
  readonly fsync: "always" | "everysec" | "no";
  readonly maxQueuedBytes: number;
  /** What lies before `writtenOffset` and no mark covers; nothing, unless a kill left it. */
  readonly unmarked: { readonly fromOffset: Offset; readonly crc: Crc64 };
  /**
   * Commits a mark, durably; only then the durable offset moves. The segment ends at the durable
   * offset; it is undefined where that one doesn't move.
   */
  readonly commitMark: (
    writtenOffset: Offset,
    durableOffset: Offset,
    segment: Segment | undefined,
  ) => Promise<void>;
  /** Asked with each mark, and in pauses: whether its segment is long enough, so that the next begins one. */
  readonly segmentEnds: () => boolean;
  /** Called when the written or the durable offset has moved. */
  readonly onMoved: () => void;
  /** Called once where a write, a sync or a mark failed; the log takes nothing more. */
  readonly onFailed: (error: ReplicaError, log: StreamLog) => void;
}

/** So much goes to the disk in one call. */
const BATCH_BYTES = 2 * 1024 * 1024;

/**
 * The append-only log of the stream, byte for byte. durable <= written <= received, always: received
 * are the bytes that were handed over, written those that the kernel has, durable those that a
 * committed mark covers.
 */
export class StreamLog {
  readonly #disk: Disk;
  readonly #file: OpenFile;
  readonly #options: StreamLogOptions;
  #queue: Uint8Array[] = [];
  /** Written, and not in the segment's checksum yet. */
  #uncounted: Uint8Array[] = [];
  #segment: { readonly fromOffset: Offset; readonly crc: Crc64 };
  #receivedOffset: Offset;
  #writtenOffset: Offset;
  #durableOffset: Offset;
  #writing: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  #marks: boolean;
  #markedOffset: Offset;
  #marking = false;
  /** A sync failed: what it should have covered is lost, whatever a later one says. */
  #syncFailed = false;
  #error: ReplicaError | undefined;
  #closed = false;

  /** `marks: false` for the log of a generation that isn't current yet: it is written, never promised. */
  constructor(disk: Disk, file: OpenFile, options: StreamLogOptions & { marks: boolean }) {
    this.#disk = disk;
    this.#file = file;
    this.#options = options;
    this.#marks = options.marks;
    this.#segment = options.unmarked;
    this.#receivedOffset = options.writtenOffset;
    this.#writtenOffset = options.writtenOffset;
    this.#durableOffset = options.durableOffset;
    this.#markedOffset = options.writtenOffset;
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

  /** Length of the file in bytes, the SELECT before the stream included. */
  get fileBytes(): number {
    return this.#position(this.#writtenOffset);
  }

  /** True while so much waits for the disk that the link should pause. */
  get congested(): boolean {
    const waitingBytes = this.#receivedOffset - this.#writtenOffset;
    return waitingBytes + this.#queue.length * PIECE_BYTES > this.#options.maxQueuedBytes;
  }

  /** From now on marks may be committed: the generation is current, and one of them says so much. */
  beginMarks(durableOffset: Offset = this.#durableOffset): void {
    this.#marks = true;
    this.#durableOffset = durableOffset;
    if (durableOffset === this.#writtenOffset) this.#beginSegment();
  }

  /** The segment that ends with what is written. */
  get segment(): Segment {
    this.#count();
    return { fromOffset: this.#segment.fromOffset, crc64: this.#segment.crc.value };
  }

  #beginSegment(): void {
    this.#count();
    this.#segment = { fromOffset: this.#writtenOffset, crc: new Crc64() };
  }

  #count(): void {
    for (const piece of this.#uncounted) {
      this.#segment.crc.update(piece);
      giveBack(piece);
    }
    this.#uncounted = [];
  }

  /**
   * Takes the next bytes of the stream over: a buffer that they fill may be freed once they are
   * written. Failures come by `onFailed`, never from here.
   */
  append(bytes: Uint8Array): void {
    if (this.#error !== undefined || this.#closed || bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#receivedOffset += bytes.length;
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    this.#file.hold();
    try {
      while (this.#queue.length > 0 && this.#error === undefined) {
        const batch = this.#takeBatch();
        const position = this.#position(this.#writtenOffset);
        const writing = this.#file.write(batch.pieces, position);
        // While the disk is at it.
        this.#count();
        await writing;
        this.#writtenOffset += batch.bytes;
        this.#uncounted = batch.pieces;
        if (this.#options.fsync === "always") void this.sync();
        this.#options.onMoved();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#count();
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
   * Takes over what `before` holds behind this log's last byte, up to what that one has written.
   * @param check throws where it is to end: it is asked before each piece.
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
        if (read === 0) throw new Error("the file ends before what was written");
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
    return positionIn(this.#options, offset);
  }

  /**
   * Once a second: the data sync of `--fsync everysec`; with `no` a mark that only says when so much
   * was written.
   */
  tick(): void {
    // What comes after a pause takes nobody's row: the mark before it tells what was there meanwhile.
    const isIdle = this.#marks && this.#durableOffset === this.#writtenOffset;
    if (isIdle && this.#options.segmentEnds()) this.#beginSegment();
    if (this.#options.fsync === "everysec") void this.sync();
    if (this.#options.fsync === "no") void this.#markWritten();
  }

  async #markWritten(): Promise<void> {
    if (!this.#marks || this.#marking || this.#error !== undefined || this.#closed) return;
    // A sync under way commits one itself, and of a durable offset that is not known here yet.
    if (this.#syncing !== undefined) return;
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
   * Makes durable what is written. One sync is in flight at a time; what comes meanwhile is covered
   * by the next, which follows at once where somebody asked for it. Failures come by `onFailed`.
   */
  async sync(): Promise<void> {
    const wanted = this.#writtenOffset;
    while (
      this.#durableOffset < wanted &&
      this.#marks &&
      this.#error === undefined &&
      !this.#closed
    ) {
      this.#syncing ??= this.#syncOnce();
      await this.#syncing;
    }
  }

  async #syncOnce(): Promise<void> {
    const covered = this.#writtenOffset;
    const { segment } = this;
    if (this.#options.segmentEnds()) this.#beginSegment();
    try {
      await this.#file.sync();
      this.#markedOffset = this.#writtenOffset;
      await this.#options.commitMark(this.#writtenOffset, covered, segment);
      this.#durableOffset = covered; // not writtenOffset: it has moved meanwhile
    } catch (error) {
      this.#syncFailed = true;
      this.#fail(error);
    } finally {
      this.#syncing = undefined;
    }
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

  /** Resolves once everything that was received is written, or failed. */
  async flushed(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Writes, syncs and marks what is left, then closes the file; what failed was said by `onFailed`. */
  async close(): Promise<void> {
    await this.flushed();
    await this.sync();
    this.#closed = true;
    await this.#syncing;
    this.#file.closeQuietly();
  }

  /**
   * Gives up. Where a write failed, what was written before it is still good: it is synced and marked.
   * After a failed sync nothing more is promised.
   */
  async abandon(): Promise<void> {
    this.#closed = true;
    this.#queue = [];
    await this.#writing;
    await this.#syncing;
    const isGood = this.#error !== undefined && !this.#syncFailed && this.#marks;
    if (isGood && this.#file.isOpen && this.#durableOffset < this.#writtenOffset) {
      this.#syncing = this.#syncOnce();
      await this.#syncing;
    }
    this.#file.closeQuietly();
  }
}
