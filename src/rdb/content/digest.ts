import { createHash, type Hash } from "node:crypto";

/** Half of SHA-256: two values that differ have the same one by chance only among 2^64. */
export const DIGEST_BYTES = 16;

const WORDS = 8;
/** Small parts are gathered up to this size: a call of the hash costs more than a few bytes. */
const GATHERED_BYTES = 16 * 1024;

/** Digests parts in their order; where one ends counts, too. */
export class OrderedDigest {
  /** Only where more than fits has come. */
  #hash: Hash | undefined;
  readonly #gathered = new Uint8Array(GATHERED_BYTES);
  readonly #view = new DataView(this.#gathered.buffer);
  #filled = 0;

  /** Forgets what it holds, and begins anew. */
  reset(): void {
    this.#filled = 0;
    this.#hash = undefined;
  }

  /** Adds a part. */
  add(part: Uint8Array): void {
    this.number(part.length);
    this.bytes(part);
  }

  /** Adds a number: whole, 0 or more. */
  number(value: number): void {
    if (this.#filled + 8 > GATHERED_BYTES) this.#flush();
    this.#view.setFloat64(this.#filled, value, true);
    this.#filled += 8;
  }

  /** Adds bytes of a part whose length was added before. */
  bytes(part: Uint8Array): void {
    if (part.length > GATHERED_BYTES) {
      this.#flush().update(part);
      return;
    }
    if (this.#filled + part.length > GATHERED_BYTES) this.#flush();
    this.#gathered.set(part, this.#filled);
    this.#filled += part.length;
  }

  /** The digest of all parts; then it begins anew. */
  finish(): Uint8Array {
    return this.#whole().subarray(0, DIGEST_BYTES);
  }

  /** Adds what it holds to a sum, and begins anew. */
  finishInto(sum: UnorderedDigest): void {
    sum.add(this.#whole());
  }

  #whole(): Buffer {
    const digest = this.#flush().digest();
    this.reset();
    return digest;
  }

  #flush(): Hash {
    this.#hash ??= createHash("sha256");
    this.#hash.update(this.#gathered.subarray(0, this.#filled));
    this.#filled = 0;
    return this.#hash;
  }
}

/** Digests parts in whatever order they come, as the sum of their digests. */
export class UnorderedDigest {
  readonly #sum = new Uint32Array(WORDS);
  #count = 0;

  /** @param digest of a part, 32 bytes. */
  add(digest: Buffer): void {
    for (let word = 0; word < WORDS; word++) this.#sum[word]! += digest.readUInt32LE(4 * word);
    this.#count++;
  }

  finish(into: OrderedDigest): Uint8Array {
    into.number(this.#count);
    for (const word of this.#sum) into.number(word);
    return into.finish();
  }
}
