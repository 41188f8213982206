import { ReplicaError } from "../base/errors.ts";
import { printableAscii } from "../base/printable.ts";
import { Needle } from "./needle.ts";

const DOLLAR = 0x24;
const EOF_PREFIX = "$EOF:";
/** CONFIG_RUN_ID_SIZE in Redis's server.h. */
const DELIMITER_BYTES = 40;
const EMPTY = new Uint8Array(0);

/** How a payload ends: after its length, or at the delimiter that `$EOF:` announced. */
export type BulkForm = { kind: "length"; bytes: number } | { kind: "eof"; delimiter: Uint8Array };

/**
 * Parses the line before a snapshot, without its line end: `$<length>`, or `$EOF:<40 bytes>` from a
 * primary that doesn't know the length yet ("Redis, replication.c": readSyncBulkPayload).
 * @throws ReplicaError PROTOCOL for anything else, and for a length past 2^53 - 1.
 */
export function parseBulkHeader(line: Uint8Array): BulkForm {
  const text = Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString("latin1");
  if (line[0] !== DOLLAR) {
    throw malformed("a snapshot begins with $<length> or $EOF:<delimiter>", text);
  }
  if (text.startsWith(EOF_PREFIX)) {
    if (line.length !== EOF_PREFIX.length + DELIMITER_BYTES) {
      throw malformed(`a snapshot's EOF delimiter has ${DELIMITER_BYTES} bytes`, text);
    }
    return { kind: "eof", delimiter: line.slice(EOF_PREFIX.length) };
  }
  const digits = text.slice(1);
  const bytes = Number(digits);
  if (!/^\d+$/.test(digits) || !Number.isSafeInteger(bytes)) {
    throw malformed("a snapshot's length is a whole number up to 2^53", text);
  }
  return { kind: "length", bytes };
}

function malformed(rule: string, line: string): ReplicaError {
  return new ReplicaError("PROTOCOL", {
    message: `${rule}, not '${printableAscii(line, 100)}'`,
  });
}

/**
 * Separates a snapshot from the stream that follows it, without copying either.
 *
 * A delimiter ends the payload at its first occurrence, and isn't part of it. Bytes that may be the
 * beginning of it, at most 39, are withheld.
 */
export class BulkReader {
  readonly #form: BulkForm;
  readonly #needle: Needle | undefined;
  /** How many of the delimiter's first bytes the input ends with: received, not delivered. */
  #withheld = 0;
  #payloadBytes = 0;
  #complete: boolean;

  constructor(form: BulkForm) {
    this.#form = form;
    this.#needle = form.kind === "eof" ? new Needle(form.delimiter) : undefined;
    this.#complete = form.kind === "length" && form.bytes === 0;
  }

  /**
   * Separates a chunk. Payload goes to `onPayload` in order, as read-only views.
   * @returns `undefined` while the payload goes on; once it is complete, a view of the stream after it,
   * perhaps empty. A chunk pushed after that is returned whole.
   */
  push(chunk: Uint8Array, onPayload: (bytes: Uint8Array) => void): Uint8Array | undefined {
    if (this.#complete) return chunk;
    return this.#form.kind === "length"
      ? this.#pushCounted(chunk, this.#form.bytes, onPayload)
      : this.#pushDelimited(chunk, this.#needle!, onPayload);
  }

  /** The number of payload bytes delivered so far. */
  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  /** Whether the payload has ended; at once, for a length of 0. */
  get complete(): boolean {
    return this.#complete;
  }

  get form(): BulkForm {
    return this.#form;
  }

  #pushCounted(
    chunk: Uint8Array,
    totalBytes: number,
    onPayload: (bytes: Uint8Array) => void,
  ): Uint8Array | undefined {
    const missingBytes = totalBytes - this.#payloadBytes;
    if (chunk.length < missingBytes) {
      this.#deliver(chunk, onPayload);
      return undefined;
    }
    this.#complete = true;
    this.#deliver(chunk.subarray(0, missingBytes), onPayload);
    return chunk.subarray(missingBytes);
  }

  #pushDelimited(
    chunk: Uint8Array,
    needle: Needle,
    onPayload: (bytes: Uint8Array) => void,
  ): Uint8Array | undefined {
    const before = this.#withheld;
    let withheld = before;
    let at = 0;
    // A delimiter that may have begun in an earlier chunk: byte by byte, at most 40 of them.
    while (withheld > at && at < chunk.length) {
      withheld = needle.step(withheld, chunk[at++]!);
      if (withheld === DELIMITER_BYTES) {
        this.#deliver(needle.bytes.subarray(0, before + at - DELIMITER_BYTES), onPayload);
        return this.#end(chunk.subarray(at));
      }
    }
    // Withheld bytes equal the delimiter's own, so its copy stands in for them.
    const released = Math.min(before, before + at - withheld);
    this.#deliver(needle.bytes.subarray(0, released), onPayload);
    if (withheld > at) {
      this.#withheld = withheld;
      return undefined;
    }
    const from = at - withheld;
    const delimiterAt = needle.indexIn(chunk, from);
    if (delimiterAt !== -1) {
      this.#deliver(chunk.subarray(0, delimiterAt), onPayload);
      return this.#end(chunk.subarray(delimiterAt + DELIMITER_BYTES));
    }
    this.#withheld = needle.matchLengthAtEnd(chunk, from);
    this.#deliver(chunk.subarray(0, chunk.length - this.#withheld), onPayload);
    return undefined;
  }

  #deliver(bytes: Uint8Array, onPayload: (bytes: Uint8Array) => void): void {
    if (bytes.length === 0) return;
    this.#payloadBytes += bytes.length;
    onPayload(bytes);
  }

  #end(rest: Uint8Array): Uint8Array {
    this.#complete = true;
    this.#withheld = 0;
    return rest.length === 0 ? EMPTY : rest;
  }
}
