import { ReplicaError } from "../base/errors.ts";
import { Crc64 } from "./crc64.ts";
import { MAX_HEADER_BYTES, parseRdbHeader, type RdbHeader } from "./header.ts";
import { hex64 } from "../base/hex64.ts";

const OPCODE_EOF = 0xff;
const CHECKSUM_BYTES = 8;
/** The last opcode and the checksum behind it. */
const TRAILER_BYTES = 1 + CHECKSUM_BYTES;
/** Older RDBs end with the last opcode. */
const FIRST_VERSION_WITH_CHECKSUM = 5;
const EMPTY = new Uint8Array(0);

/** What a whole, sound RDB was found to be. */
export interface RdbSummary {
  readonly header: RdbHeader;
  readonly bytes: number;
  /** Computed over everything before the checksum; with `checksum: false`, as the RDB states it. */
  readonly crc64: bigint;
  /** Whether it was compared with the RDB's own. */
  readonly checked: boolean;
}

/**
 * Checks an RDB while it passes, without holding it: that it begins as one, ends as one, and has the
 * checksum that it states ("Redis, rdb.c": rdbLoadRioWithLoadingCtx). What lies between stays opaque.
 */
export class RdbChecker {
  readonly #checksum: boolean;
  readonly #crc = new Crc64();
  #bytes = 0;
  /** What came before the header was whole. */
  #head: Uint8Array = EMPTY;
  #header: RdbHeader | undefined;
  /** The last bytes so far, not yet in #crc: they may be the trailer. */
  readonly #tail = new Uint8Array(TRAILER_BYTES);
  #tailBytes = 0;

  /** @param options.checksum whether to compute it, some 0.15 ms of a core per MB; true by default. */
  constructor(options: { checksum?: boolean } = {}) {
    this.#checksum = options.checksum ?? true;
  }

  /**
   * Takes the RDB's next bytes; nothing keeps a view of them.
   * @throws ReplicaError BAD_PAYLOAD where they can't be an RDB's beginning.
   */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#bytes += bytes.length;
    if (this.#header === undefined) this.#parseHeader(bytes);
    this.#keepTail(bytes);
  }

  /** As soon as it has come whole. */
  get header(): RdbHeader | undefined {
    return this.#header;
  }

  /**
   * To be called once, when the RDB has ended. A primary whose checksums are off states 0; an RDB of
   * a version below 5 states none: neither can be checked.
   * @throws ReplicaError BAD_PAYLOAD for one that was cut short; BAD_CHECKSUM for one that changed on
   * its way.
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
    const summary = { header, bytes: this.#bytes };
    if (!this.#checksum) return { ...summary, crc64: stated, checked: false };
    this.#crc.update(this.#tail.subarray(0, checksumAt));
    const crc64 = this.#crc.value;
    if (stated === 0n) return { ...summary, crc64, checked: false };
    if (stated !== crc64) {
      throw new ReplicaError("BAD_CHECKSUM", {
        message: `the snapshot of ${this.#bytes} bytes states the checksum ${hex64(stated)}, but has ${hex64(crc64)}`,
      });
    }
    return { ...summary, crc64, checked: true };
  }

  #parseHeader(bytes: Uint8Array): void {
    // More than this is never needed, so that a large chunk isn't copied behind a small one.
    const missing = bytes.subarray(0, MAX_HEADER_BYTES + 1 - this.#head.length);
    const head = this.#head.length === 0 ? missing : Buffer.concat([this.#head, missing]);
    this.#header = parseRdbHeader(head);
    // A copy, because the chunk isn't ours to keep.
    if (this.#header !== undefined) this.#head = EMPTY;
    else this.#head = head === missing ? Uint8Array.from(head) : head;
  }

  /** Feeds all but the last bytes to the checksum, and keeps those. */
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
      message: `the snapshot ends after ${this.#bytes} bytes, ${where}`,
    });
  }
}
