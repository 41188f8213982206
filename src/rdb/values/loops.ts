/** Loops within loops: the entries that a consumer of a group of a stream has not acknowledged. */
const MAX_DEPTH = 4;

/** The bodies of a program that are being repeated. */
export class Loops {
  readonly #left = new Float64Array(MAX_DEPTH);
  readonly #bodies = new Uint8Array(MAX_DEPTH);
  #depth = 0;

  clear(): void {
    this.#depth = 0;
  }

  /**
   * Begins a body.
   * @param bodyLength of its steps, without the one that ends it.
   * @returns the next step: that behind the body where it isn't to be taken at all.
   */
  enter(body: number, bodyLength: number, times: number): number {
    if (times === 0) return body + bodyLength + 1;
    this.#left[this.#depth] = times;
    this.#bodies[this.#depth] = body;
    this.#depth++;
    return body;
  }

  /** Ends a body. @param place of the step that ends it. @returns the next step. */
  again(place: number): number {
    const inner = this.#depth - 1;
    const left = this.#left[inner]! - 1;
    if (left > 0) {
      this.#left[inner] = left;
      return this.#bodies[inner]!;
    }
    this.#depth = inner;
    return place + 1;
  }
}
