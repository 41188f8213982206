import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { crc64, crc64OfBoth } from "../../rdb/crc64.ts";
import { MAX_HEADER_BYTES, parseRdbHeader } from "../../rdb/header.ts";
import { closeQuietly, type Disk, diskError } from "../../store/disk/disk.ts";
import type { LogEnd } from "../format/chain.ts";
import type { SegmentName } from "../format/names.ts";
import { PIECE_BYTES, type SegmentHeader, SEGMENT_BYTES } from "../format/objects.ts";
import type { ArchiveSource, LocalGeneration } from "./archive-source.ts";

/** The most marks in a segment: they take some 50 bytes each of the 8 MiB that a segment's header may have. */
const MAX_MARKS = 100_000;
/** An RDB ends with its checksum. */
const TRAILER_BYTES = 8;
/** What a server calls its version; whoever made the snapshot chose it. */
const VERSION = /^[\w.+-]{1,40}$/;

/** A part of a generation's log, ready to be archived. The data is a view that the next read overwrites. */
export interface CutSegment {
  readonly header: SegmentHeader;
  readonly data: Uint8Array;
}

/** Reads a generation's base and log for the archive, one piece in memory at a time. */
export class LocalFiles {
  readonly #disk: Disk;
  readonly #source: ArchiveSource;
  /** Used for piece after piece: the garbage collector would let many of them pile up. */
  #buffer = new Uint8Array(0);

  constructor(disk: Disk, source: ArchiveSource) {
    this.#disk = disk;
    this.#source = source;
  }

  /** Reads a piece of the base, counted from 0. @throws ReplicaError DISK_FAILED. */
  async piece({ basePath, rdbBytes }: LocalGeneration, index: number): Promise<Uint8Array> {
    const from = index * PIECE_BYTES;
    return await this.#read(basePath, from, Math.min(PIECE_BYTES, rdbBytes - from));
  }

  /**
   * The server that made a base, as that says: `valkey 9.1.0`. Undefined where it doesn't, or too little of it is there.
   * @throws ReplicaError DISK_FAILED.
   */
  async madeBy({ basePath, rdbBytes }: LocalGeneration): Promise<string | undefined> {
    const head = await this.#read(basePath, 0, Math.min(MAX_HEADER_BYTES, rdbBytes));
    try {
      const aux = parseRdbHeader(head)?.aux;
      const valkey = aux?.get("valkey-ver");
      const version = valkey ?? aux?.get("redis-ver");
      if (version === undefined || !VERSION.test(version)) return undefined;
      return `${valkey === undefined ? "redis" : "valkey"} ${version}`;
    } catch (error) {
      if (error instanceof ReplicaError && error.code === "BAD_PAYLOAD") return undefined;
      throw error;
    }
  }

  /**
   * Whether a base is the snapshot that was received.
   * @param whole the CRC64 of all of its bytes.
   * @throws ReplicaError DISK_FAILED.
   */
  async isSound(generation: LocalGeneration, whole: bigint): Promise<boolean> {
    const { basePath, rdbBytes, rdbCrc64 } = generation;
    const bytes = Math.min(TRAILER_BYTES, rdbBytes);
    const trailer = await this.#read(basePath, rdbBytes - bytes, bytes);
    return crc64OfBoth(BigInt(`0x${rdbCrc64}`), crc64(trailer), bytes) === whole;
  }

  /**
   * Reads what follows `from` in a log, up to where the marks are settled, or as much of it as a segment may have.
   * @throws ReplicaError DISK_FAILED; of the ledger.
   */
  async segment(generation: LocalGeneration, from: LogEnd): Promise<CutSegment> {
    const { id, baseOffset, settledOffset } = generation;
    const most = Math.min(settledOffset, from.offset + SEGMENT_BYTES);
    const isFirst = from.offset === baseOffset;
    const first = isFirst ? baseOffset : from.offset + 1;
    const found = this.#source.marks(id, first, most, MAX_MARKS);
    const isCut = found.length === MAX_MARKS && found.at(-1)!.offset > from.offset;
    const to = isCut ? found.at(-1)!.offset : most;
    let last = from.offset;
    // Whoever could write the database chose what is in it.
    const marks = found.filter(({ offset }) => {
      if (offset < last || offset > to) return false;
      last = offset;
      return true;
    });
    const data = await this.#log(generation, from.offset, to);
    const header = {
      from: from.offset,
      to,
      crcFrom: from.crc,
      crcTo: crc64OfBoth(from.crc, crc64(data), data.length),
      bytes: data.length,
      marks: marks.map(({ timeMs, offset }) => ({ timeMs, offset })),
      histories: this.#historiesWithin(id, baseOffset, from.offset, to),
    };
    return { header, data };
  }

  /** Those that begin at `from` or later, before `to`: one that begins at `to` may not be known yet. */
  #historiesWithin(
    id: number,
    baseOffset: Offset,
    from: Offset,
    to: Offset,
  ): SegmentHeader["histories"] {
    let last = from;
    return this.#source.histories(id).filter(({ fromOffset }) => {
      // The one that the base is in stands in the generation's own document.
      if (fromOffset <= baseOffset || fromOffset < last || fromOffset >= to) return false;
      last = fromOffset;
      return true;
    });
  }

  /** Whether a segment holds the bytes of this log. @throws ReplicaError DISK_FAILED. */
  async isOf(
    generation: LocalGeneration,
    { from, to, crc }: SegmentName,
    crcBefore: bigint,
  ): Promise<boolean> {
    if (to > generation.durableOffset || to - from > SEGMENT_BYTES) return false;
    const data = await this.#log(generation, from, to);
    return crc64OfBoth(crcBefore, crc64(data), data.length) === crc;
  }

  /** The bytes of the log after offset `from` up to `to`; from its beginning on, with the SELECT. */
  async #log(
    { baseOffset, logHeaderBytes, logPath }: LocalGeneration,
    from: Offset,
    to: Offset,
  ): Promise<Uint8Array> {
    const begin = from === baseOffset ? 0 : from - baseOffset + logHeaderBytes;
    return await this.#read(logPath, begin, to - baseOffset + logHeaderBytes - begin);
  }

  async #read(path: string, from: number, bytes: number): Promise<Uint8Array> {
    if (this.#buffer.length < bytes) this.#buffer = new Uint8Array(bytes);
    const buffer = this.#buffer.subarray(0, bytes);
    try {
      const fd = this.#disk.openToRead(path);
      try {
        for (let at = 0; at < bytes;) {
          const read = await this.#disk.read(fd, buffer.subarray(at), from + at);
          if (read === 0) throw tooShort(path, from + at);
          at += read;
        }
      } finally {
        closeQuietly(this.#disk, fd);
      }
    } catch (cause) {
      throw diskError(`reading byte ${from} and later of`, path, cause);
    }
    return buffer;
  }
}

function tooShort(path: string, bytes: number): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} ends after ${bytes} bytes, before its last durable one: it was cut short`,
  });
}
