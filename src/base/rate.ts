/** So far back a rate looks. */
const WINDOW_MS = 5_000;

/** How fast a total of bytes grows, over the last five seconds. */
export class Rate {
  readonly #nowMs: () => number;
  #of: unknown;
  #samples: { readonly atMs: number; readonly bytes: number }[] = [];

  /** @param nowMs milliseconds of a clock that never runs backwards. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Notes the total as it is now. One that has shrunk, or that is the total of something else (`of`), begins anew. */
  sample(bytes: number, of?: unknown): void {
    if (of !== this.#of || bytes < (this.#samples.at(-1)?.bytes ?? 0)) this.#samples = [];
    this.#of = of;
    const atMs = this.#nowMs();
    this.#samples.push({ atMs, bytes });
    // The oldest sample stays until the next one is old enough to take its place.
    while ((this.#samples[1]?.atMs ?? Infinity) <= atMs - WINDOW_MS) this.#samples.shift();
  }

  /** Bytes a second between the oldest sample and the last one; 0 before there are two. */
  get bytesPerSecond(): number {
    const [oldest] = this.#samples;
    const last = this.#samples.at(-1);
    if (oldest === undefined || last === undefined || last.atMs <= oldest.atMs) return 0;
    return ((last.bytes - oldest.bytes) / (last.atMs - oldest.atMs)) * 1000;
  }
}
