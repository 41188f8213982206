const search = Buffer.prototype.indexOf;

/** How many bytes a needle has at least: shorter ones stand everywhere. */
const LEAST_BYTES = 3;
/** With more needles than this, looking for each in every block costs more than looking at the commands. */
const MOST_NEEDLES = 8;

/**
 * Tells which commands of a block contain one of some runs of bytes. Each is searched for through the block at once, so the
 * commands that have none of them are never looked at.
 */
export class NeedleSearch {
  readonly #needles: readonly Uint8Array[];
  #block: Uint8Array = new Uint8Array(0);
  /** Of each needle the next place in the block, from the last command on that was asked for; Infinity: there is none. */
  readonly #next: number[];

  private constructor(needles: readonly Uint8Array[]) {
    this.#needles = needles;
    this.#next = needles.map(() => 0);
  }

  /** @returns undefined where these needles spare nothing. */
  static of(needles: readonly Uint8Array[]): NeedleSearch | undefined {
    const isWorth =
      needles.length > 0 &&
      needles.length <= MOST_NEEDLES &&
      needles.every(({ length }) => length >= LEAST_BYTES);
    return isWorth ? new NeedleSearch(needles) : undefined;
  }

  /** Begins with another block, which must not change meanwhile. */
  begin(block: Uint8Array): void {
    this.#block = block;
    this.#next.fill(-1);
  }

  /** Whether a part of the block contains a needle. The parts are asked for in their order. */
  isIn(start: number, end: number): boolean {
    for (let index = 0; index < this.#needles.length; index++) {
      const needle = this.#needles[index]!;
      let next = this.#next[index]!;
      if (next < start) {
        next = search.call(this.#block, needle, start);
        if (next === -1) next = Infinity;
        this.#next[index] = next;
      }
      if (next + needle.length <= end) return true;
    }
    return false;
  }
}
