import { hex64 } from "../../base/hex64.ts";
import { Crc64 } from "../crc64.ts";
import type { RdbHandlers, RdbReaderOptions, RdbReaderSummary } from "./entry.ts";
import { RdbError } from "./rdb-error.ts";
import { Records } from "./records.ts";

/** More bytes than any step looks at at once: a node of a list that is compressed takes the most. */
const MAX_STEP_BYTES = 64;

/**
 * Reads the structure of an RDB as its bytes come: every key with its type, encoding, expiry and count of elements.
 * Values are passed over, never built, so memory stays flat whatever they hold; only keys are held, one at a time, and
 * the values that `wants` asks for, as they stand. It reads what Redis 2.4 to 8.10 and Valkey to 9 write ("Redis, rdb.c":
 * rdbLoadRioWithLoadingCtx).
 */
export class RdbReader {
  readonly #records: Records;
  readonly #crc: Crc64 | undefined;
  #bytes = 0;
  /** The beginning of a step whose other bytes have not come. */
  readonly #seam = new Uint8Array(2 * MAX_STEP_BYTES);
  #seamBytes = 0;

  constructor(handlers: RdbHandlers, options: RdbReaderOptions = {}) {
    this.#records = new Records(handlers, options);
    this.#crc = options.checksum === false ? undefined : new Crc64();
  }

  /** `REDIS0011`, `VALKEY080`; undefined until it has come. */
  get format(): string | undefined {
    return this.#records.format;
  }

  /** The version in the RDB's head, which RESTORE wants behind a value; undefined until it has come. */
  get version(): number | undefined {
    return this.#records.header?.version;
  }

  /**
   * Takes the RDB's next bytes, and keeps no view of them.
   * @throws RdbError BAD_PAYLOAD for what is malformed or unknown, with the byte; what a handler throws. After an
   * error nothing more may be pushed.
   */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    const records = this.#records;
    const begins = this.#bytes;
    this.#bytes += chunk.length;
    const from = this.#closeSeam(chunk, begins);
    if (from >= 0) {
      records.bufferByte = begins;
      const at = records.run(chunk, from, chunk.length, chunk.length);
      records.leave(chunk, at, 0);
      this.#seam.set(chunk.subarray(at));
      this.#seamBytes = chunk.length - at;
    }
    const summed = Math.min(chunk.length, records.summedBytes - begins);
    if (summed > 0) this.#crc?.update(summed === chunk.length ? chunk : chunk.subarray(0, summed));
  }

  /**
   * Ends the reading; call it once, after the last byte.
   * @throws RdbError BAD_PAYLOAD where the RDB ends too early, BAD_CHECKSUM where it was changed.
   */
  finish(): RdbReaderSummary {
    const { header, format, isWhole, stated, summedBytes, keys, expires, libraries } =
      this.#records;
    if (!isWhole || header === undefined || format === undefined) {
      throw new RdbError("BAD_PAYLOAD", { byte: this.#bytes, format }, "the RDB ends too early");
    }
    const crc64 = this.#crc?.value ?? stated;
    const checked = this.#crc !== undefined && stated !== 0n;
    if (checked && stated !== crc64) {
      const what = `the RDB states the checksum ${hex64(stated)}, but has ${hex64(crc64)}`;
      throw new RdbError("BAD_CHECKSUM", { byte: summedBytes, format }, what);
    }
    return {
      format,
      version: header.version,
      bytes: this.#bytes,
      keys,
      expires,
      functionLibraries: libraries,
      crc64,
      checked,
    };
  }

  /**
   * Takes the step whose beginning came before this chunk.
   * @returns where in the chunk the next step begins; -1 where the whole chunk went into the seam.
   */
  #closeSeam(chunk: Uint8Array, begins: number): number {
    const before = this.#seamBytes;
    if (before === 0) return 0;
    const added = Math.min(MAX_STEP_BYTES, chunk.length);
    this.#seam.set(chunk.subarray(0, added), before);
    this.#records.bufferByte = begins - before;
    const at = this.#records.run(this.#seam, 0, before + added, before);
    if (at < before) {
      this.#records.leave(this.#seam, at, 0);
      this.#seam.copyWithin(0, at, before + added);
      this.#seamBytes = before + added - at;
      return -1;
    }
    this.#records.leave(this.#seam, at, at - before);
    this.#seamBytes = 0;
    return at - before;
  }
}
