import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { Crc64, crc64, crc64OfBoth } from "../../rdb/crc64.ts";
import { MAX_HEADER_BYTES, parseRdbHeader } from "../../rdb/header.ts";
import { formatOf, serverOf } from "../../rdb/made-by.ts";
import { closeQuietly, type Disk, diskError } from "../../store/disk/disk.ts";
import type { LogEnd } from "../format/chain.ts";
import type { GenerationDocument } from "../format/documents.ts";
import type { SegmentName } from "../format/names.ts";
import { PIECE_BYTES, type SegmentHeader, SEGMENT_BYTES } from "../format/objects.ts";
import type { PlainData } from "../format/zstd-frames.ts";
import type { ArchiveSource, LocalGeneration } from "./archive-source.ts";

/** The most marks in a segment: they take some 50 bytes each of the 8 MiB that a segment's header may have. */
const MAX_MARKS = 100_000;
/** An RDB ends with its checksum. */
const TRAILER_BYTES = 8;

/** What is read at once of a log that is only summed. */
const SUMMED_AT_ONCE_BYTES = 1024 * 1024;

/** Reads a generation's base and log for the archive, a part of a piece in memory at a time. */
export class LocalFiles {
  readonly #disk: Disk;
  readonly #source: ArchiveSource;

  constructor(disk: Disk, source: ArchiveSource) {
    this.#disk = disk;
    this.#source = source;
  }

  /**
   * Lets `use` read a piece of the base, counted from 0.
   * @throws what `use` throws; where it reads, ReplicaError DISK_FAILED.
   */
  async piece<T>(
    { basePath, rdbBytes }: LocalGeneration,
    index: number,
    use: (data: PlainData) => Promise<T>,
  ): Promise<T> {
    const from = index * PIECE_BYTES;
    return await this.#reading(basePath, from, Math.min(PIECE_BYTES, rdbBytes - from), use);
  }

  /**
   * The server that made a base, as that says, and the base's format: `valkey 9.1.0`, `VALKEY080`. Nothing where too little
   * of it is there.
   * @throws ReplicaError DISK_FAILED.
   */
  async madeBy({
    basePath,
    rdbBytes,
  }: LocalGeneration): Promise<Pick<GenerationDocument, "primaryVersion" | "rdbFormat">> {
    const head = await this.#read(basePath, 0, Math.min(MAX_HEADER_BYTES, rdbBytes));
    try {
      const header = parseRdbHeader(head);
      if (header === undefined) return {};
      const primaryVersion = serverOf(header);
      const rdbFormat = formatOf(header);
      return primaryVersion === undefined ? { rdbFormat } : { primaryVersion, rdbFormat };
    } catch (error) {
      if (error instanceof ReplicaError && error.code === "BAD_PAYLOAD") return {};
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
   * Lets `use` read what follows `from` in a log, up to where the marks are settled, or as much of it as a segment may have.
   * @throws what `use` throws; ReplicaError DISK_FAILED, where it reads; of the ledger.
   */
  async segment<T>(
    generation: LocalGeneration,
    from: LogEnd,
    use: (header: Omit<SegmentHeader, "crcTo">, data: PlainData) => Promise<T>,
  ): Promise<T> {
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
    const header = {
      from: from.offset,
      to,
      crcFrom: from.crc,
      marks: marks.map(({ timeMs, offset }) => ({ timeMs, offset })),
      histories: this.#historiesWithin(id, baseOffset, from.offset, to),
    };
    return await this.#log(generation, from.offset, to, (data) =>
      use({ ...header, bytes: data.bytes }, data),
    );
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
    return await this.#log(generation, from, to, async (data) => {
      const sum = new Crc64();
      const room = new Uint8Array(Math.min(SUMMED_AT_ONCE_BYTES, data.bytes));
      for (let at = 0; at < data.bytes; at += room.length) {
        const part = room.subarray(0, data.bytes - at);
        await data.read(at, part);
        sum.update(part);
      }
      return crc64OfBoth(crcBefore, sum.value, data.bytes) === crc;
    });
  }

  /** Lets `use` read the log after offset `from` up to `to`; from its beginning on, with the SELECT. */
  async #log<T>(
    { baseOffset, logHeaderBytes, logPath }: LocalGeneration,
    from: Offset,
    to: Offset,
    use: (data: PlainData) => Promise<T>,
  ): Promise<T> {
    const begin = from === baseOffset ? 0 : from - baseOffset + logHeaderBytes;
    const bytes = to - baseOffset + logHeaderBytes - begin;
    return await this.#reading(logPath, begin, bytes, use);
  }

  async #read(path: string, from: number, bytes: number): Promise<Uint8Array> {
    const room = new Uint8Array(bytes);
    await this.#reading(path, from, bytes, (data) => data.read(0, room));
    return room;
  }

  /** Opens a file while `use` reads so many bytes of it: a snapshot that is promoted gets another name. */
  async #reading<T>(
    path: string,
    from: number,
    bytes: number,
    use: (data: PlainData) => Promise<T>,
  ): Promise<T> {
    let fd: number;
    try {
      fd = this.#disk.openToRead(path);
    } catch (cause) {
      throw diskError(`reading byte ${from} and later of`, path, cause);
    }
    try {
      return await use({ bytes, read: (at, room) => this.#fill(path, fd, from + at, room) });
    } finally {
      closeQuietly(this.#disk, fd);
    }
  }

  async #fill(path: string, fd: number, from: number, room: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < room.length;) {
        const read = await this.#disk.read(fd, room.subarray(at), from + at);
        if (read === 0) throw tooShort(path, from + at);
        at += read;
      }
    } catch (cause) {
      throw diskError(`reading byte ${from} and later of`, path, cause);
    }
  }
}

function tooShort(path: string, bytes: number): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} ends after ${bytes} bytes, before its last durable one: it was cut short`,
  });
}
