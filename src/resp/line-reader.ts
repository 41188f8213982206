import { ReplicaError } from "../base/errors.ts";

const LF = 0x0a;
const CR = 0x0d;
const EMPTY = new Uint8Array(0);
const FIRST_PARTIAL_BYTES = 128;

/**
 * Splits a peer's bytes into lines. Both `\r\n` and a bare `\n` end one, as for Redis's replicas ("Redis,
 * syncio.c": syncReadLine).
 *
 * A line is a view into the chunk it came in, and a copy only where a chunk's end splits it. A chunk must
 * not change while views into it are in use.
 */
export class LineReader {
  readonly #maxLineBytes: number;
  /** Chunks that still have unread bytes, oldest first. */
  #chunks: Uint8Array[] = [];
  /** How much of the oldest chunk is read. */
  #position = 0;
  /** The beginning of an unfinished line, copied from earlier chunks. */
  #partial: Uint8Array = EMPTY;
  #partialBytes = 0;

  /** @param options.maxLineBytes the longest line that is accepted, without its line end. */
  constructor(options: { maxLineBytes: number }) {
    this.#maxLineBytes = options.maxLineBytes;
  }

  /** Adds a chunk after what is still unread. */
  push(chunk: Uint8Array): void {
    if (chunk.length > 0) this.#chunks.push(chunk);
  }

  /**
   * Takes the next line, without its line end; an empty line (a keepalive) is an empty view.
   * @returns `undefined` where its end has not come yet.
   * @throws ReplicaError PROTOCOL for a line longer than `maxLineBytes`, whether its end has come or not;
   * every later call throws it again.
   */
  next(): Uint8Array | undefined {
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      const end = chunk.indexOf(LF, this.#position);
      const piece = chunk.subarray(this.#position, end === -1 ? chunk.length : end);
      this.#checkLength(piece);
      if (end === -1) {
        this.#keep(piece);
        this.#dropChunk();
        continue;
      }
      if (end + 1 === chunk.length) this.#dropChunk();
      else this.#position = end + 1;
      if (this.#partialBytes === 0) return withoutCR(piece);
      this.#keep(piece);
      return withoutCR(this.#takePartial());
    }
    return undefined;
  }

  /** Passes over the empty lines that come next, which are keepalives: millions of them cost no more than a few. */
  skipEmpty(): void {
    if (this.#partialBytes > 0) return;
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      let at = this.#position;
      for (;;) {
        if (chunk[at] === LF) at += 1;
        else if (chunk[at] === CR && chunk[at + 1] === LF) at += 2;
        else break;
      }
      this.#position = at;
      if (at < chunk.length) return;
      this.#dropChunk();
    }
  }

  /** Takes all unread bytes and leaves the reader empty: what follows isn't lines. */
  rest(): Uint8Array {
    const pieces = this.#chunks;
    if (pieces.length > 0) pieces[0] = pieces[0]!.subarray(this.#position);
    if (this.#partialBytes > 0) pieces.unshift(this.#takePartial());
    this.#chunks = [];
    this.#position = 0;
    return pieces.length > 1 ? Buffer.concat(pieces) : (pieces[0] ?? EMPTY);
  }

  /** The number of bytes that were pushed and not taken. */
  get pendingBytes(): number {
    let bytes = this.#partialBytes - this.#position;
    for (const chunk of this.#chunks) bytes += chunk.length;
    return bytes;
  }

  #checkLength(piece: Uint8Array): void {
    const bytes = this.#partialBytes + piece.length;
    if (bytes <= this.#maxLineBytes) return;
    // The one byte too many may be the \r of the line end.
    const last = piece.length > 0 ? piece.at(-1) : this.#partial[this.#partialBytes - 1];
    if (bytes === this.#maxLineBytes + 1 && last === CR) return;
    throw new ReplicaError("PROTOCOL", {
      message: `got a line longer than ${this.#maxLineBytes} bytes: is this a Redis port?`,
    });
  }

  #keep(piece: Uint8Array): void {
    const bytes = this.#partialBytes + piece.length;
    if (bytes > this.#partial.length) {
      // Doubling keeps the cost linear for a line that comes byte by byte.
      const grown = new Uint8Array(
        Math.min(
          Math.max(bytes, 2 * this.#partial.length, FIRST_PARTIAL_BYTES),
          this.#maxLineBytes + 1,
        ),
      );
      grown.set(this.#partial.subarray(0, this.#partialBytes));
      this.#partial = grown;
    }
    this.#partial.set(piece, this.#partialBytes);
    this.#partialBytes = bytes;
  }

  /** Hands over the buffer: the line is a view into it, so it must not be reused. */
  #takePartial(): Uint8Array {
    const partial = this.#partial.subarray(0, this.#partialBytes);
    this.#partial = EMPTY;
    this.#partialBytes = 0;
    return partial;
  }

  #dropChunk(): void {
    this.#chunks.shift();
    this.#position = 0;
  }
}

function withoutCR(line: Uint8Array): Uint8Array {
  return line.at(-1) === CR ? line.subarray(0, -1) : line;
}
