import { invariant, ReplicaError } from "../base/errors.ts";
import { counted } from "../base/quantity.ts";
import { Crc64 } from "./crc64.ts";
import { MAX_HEADER_BYTES, parseRdbHeader, type RdbHeader } from "./header.ts";
import { hex64 } from "../base/hex64.ts";
import { type FirstDatabase, FirstDatabaseReader } from "./first-database.ts";

const OPCODE_EOF = 0xff;
const CHECKSUM_BYTES = 8;
/** The EOF opcode and the checksum after it. */
const TRAILER_BYTES = 1 + CHECKSUM_BYTES;
/** Older RDBs end with the EOF opcode. */
const FIRST_VERSION_WITH_CHECKSUM = 5;
const EMPTY = new Uint8Array(0);

/** The result of checking a whole, sound RDB. */
export interface RdbSummary {
  readonly header: RdbHeader;
  readonly bytes: number;
  /** Computed over everything before the checksum; with `checksum: false`, the one that the RDB states. */
  readonly crc64: bigint;
  /** Whether it was compared with the one that the RDB states. */
  readonly checked: boolean;
  /** Undefined where the RDB doesn't say. */
  readonly firstDatabase: FirstDatabase | undefined;
}

/**
 * Checks an RDB as its bytes pass, without holding it: that it begins and ends as an RDB does, and matches the
 * checksum that it states ("Redis, rdb.c": rdbLoadRioWithLoadingCtx). Of what lies between it reads no more than the
 * size of the first database.
 */
export class RdbChecker {
  readonly #checksum: boolean;
  readonly #crc = new Crc64();
  #bytes = 0;
  /** The bytes so far, until the header is whole. */
  #head: Uint8Array = EMPTY;
  #header: RdbHeader | undefined;
  readonly #databases = new FirstDatabaseReader();
  /** The last bytes so far, which #crc leaves out: they may be the trailer. */
  readonly #tail = new Uint8Array(TRAILER_BYTES);
  #tailBytes = 0;

  /** @param options.checksum whether to compute the checksum, some 0.15 ms of CPU per MB; true by default. */
  constructor(options: { checksum?: boolean } = {}) {
    this.#checksum = options.checksum ?? true;
  }

  /**
   * Takes the RDB's next bytes, and keeps no view of them.
   * @throws ReplicaError BAD_PAYLOAD where they can't be the beginning of an RDB.
   */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#bytes += bytes.length;
    if (this.#header === undefined) this.#parseHeader(bytes);
    else if (!this.#databases.isDone) this.#databases.push(bytes);
    this.#keepTail(bytes);
  }

  /**
   * Takes the RDB's next `bytes` bytes by their CRC64 alone, which somebody else has computed. Only once
   * `isHeadRead`; and the end of the RDB, of 9 bytes at least, must be pushed.
   */
  pushSummed(crc64: bigint, bytes: number): void {
    invariant(this.isHeadRead, "the bytes of the head are looked at");
    this.#bytes += bytes;
    if (this.#checksum) {
      this.#crc.update(this.#tail.subarray(0, this.#tailBytes));
      this.#crc.append(crc64, bytes);
    }
    this.#tailBytes = 0;
  }

  /** Whether all is read that is looked at before the end: the header, and the size of the first database. */
  get isHeadRead(): boolean {
    return this.#header !== undefined && this.#databases.isDone;
  }

  /** The header, once it has come whole. */
  get header(): RdbHeader | undefined {
    return this.#header;
  }

  /**
   * Ends the check; call it once, after the last byte. Neither an RDB of a version below 5, which states no
   * checksum, nor one of a primary with rdbchecksum off, which states 0, can be compared.
   * @throws ReplicaError BAD_PAYLOAD for a truncated RDB; BAD_CHECKSUM for a changed one.
   */
  finish(): RdbSummary {
    const header = this.#header;
    if (header === undefined) throw this.#cutShort("inside its header");
    const hasChecksum = header.magic === "VALKEY" || header.version >= FIRST_VERSION_WITH_CHECKSUM;
    const trailerBytes = hasChecksum ? TRAILER_BYTES : 1;
    const checksumAt = this.#tailBytes - (trailerBytes - 1);
    if (this.#bytes < header.headerBytes + trailerBytes) throw this.#cutShort("before its end");
    if (this.#tail[checksumAt - 1] !== OPCODE_EOF) throw this.#cutShort("without its last opcode");
    const stated = hasChecksum
      ? new DataView(this.#tail.buffer).getBigUint64(checksumAt, true)
      : 0n;
    const summary = { header, bytes: this.#bytes, firstDatabase: this.#databases.found };
    if (!this.#checksum) return { ...summary, crc64: stated, checked: false };
    this.#crc.update(this.#tail.subarray(0, checksumAt));
    const crc64 = this.#crc.value;
    if (stated === 0n) return { ...summary, crc64, checked: false };
    if (stated !== crc64) {
      throw new ReplicaError("BAD_CHECKSUM", {
        message: `the snapshot of ${counted(this.#bytes, "byte")} states the checksum ${hex64(stated)}, but has ${hex64(crc64)}`,
      });
    }
    return { ...summary, crc64, checked: true };
  }

  #parseHeader(bytes: Uint8Array): void {
    // No more than a header can need: don't copy a large chunk after a small one.
    const missing = bytes.subarray(0, MAX_HEADER_BYTES + 1 - this.#head.length);
    const head = this.#head.length === 0 ? missing : Buffer.concat([this.#head, missing]);
    const before = this.#head.length;
    this.#header = parseRdbHeader(head);
    if (this.#header !== undefined)
      this.#databases.push(bytes.subarray(this.#header.headerBytes - before));
    // A copy: the chunk belongs to the caller.
    if (this.#header !== undefined) this.#head = EMPTY;
    else this.#head = head === missing ? Uint8Array.from(head) : head;
  }

  /** Adds all but the last bytes to the checksum, and keeps those. */
  #keepTail(bytes: Uint8Array): void {
    if (bytes.length >= TRAILER_BYTES) {
      const body = bytes.subarray(0, bytes.length - TRAILER_BYTES);
      if (this.#checksum) {
        this.#crc.update(this.#tail.subarray(0, this.#tailBytes));
        this.#crc.update(body);
      }
      this.#tail.set(bytes.subarray(body.length));
      this.#tailBytes = TRAILER_BYTES;
      return;
    }
    const overflow = Math.max(0, this.#tailBytes + bytes.length - TRAILER_BYTES);
    if (this.#checksum) this.#crc.update(this.#tail.subarray(0, overflow));
    this.#tail.copyWithin(0, overflow, this.#tailBytes);
    this.#tail.set(bytes, this.#tailBytes - overflow);
    this.#tailBytes += bytes.length - overflow;
  }

  #cutShort(where: string): ReplicaError {
    return new ReplicaError("BAD_PAYLOAD", {
      message: `the snapshot ends after ${counted(this.#bytes, "byte")}, ${where}`,
    });
  }
}
