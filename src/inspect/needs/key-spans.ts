/** Some keys of one command, as parts of its bytes: nothing is made for those that nobody wants, and millions come. */
export class KeySpans {
  bytes: Uint8Array = new Uint8Array(0);
  length = 0;
  /** Where each begins, and where it ends. */
  readonly #bounds: number[] = [];

  /** Forgets what was here. @param bytes those of a command. */
  begin(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.length = 0;
  }

  /** Adds a key: the bytes from one on to another one. */
  add(from: number, to: number): void {
    this.#bounds[2 * this.length] = from;
    this.#bounds[2 * this.length + 1] = to;
    this.length++;
  }

  from(nth: number): number {
    return this.#bounds[2 * nth]!;
  }

  to(nth: number): number {
    return this.#bounds[2 * nth + 1]!;
  }

  /** Whether a test holds for any of them, or for one by its number. */
  some(
    test: (bytes: Uint8Array, from: number, to: number) => boolean,
    of: "all" | number,
  ): boolean {
    if (of !== "all") return test(this.bytes, this.from(of), this.to(of));
    for (let nth = 0; nth < this.length; nth++) {
      if (test(this.bytes, this.from(nth), this.to(nth))) return true;
    }
    return false;
  }

  view(nth: number): Uint8Array {
    return this.bytes.subarray(this.from(nth), this.to(nth));
  }

  views(): Uint8Array[] {
    return Array.from({ length: this.length }, (_, nth) => this.view(nth));
  }
}
