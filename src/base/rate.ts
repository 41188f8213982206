/** The period that a rate is averaged over, unless another one is asked for. */
const WINDOW_MS = 5_000;

/** How fast a number of bytes has grown over the last five seconds. */
export class Rate {
  readonly #nowMs: () => number;
  readonly #windowMs: number;
  #of: unknown;
  #samples: { readonly atMs: number; readonly bytes: number }[] = [];

  /**
   * @param nowMs a monotonic clock, in milliseconds.
   * @param windowMs the period to average over.
   */
  constructor(nowMs: () => number, windowMs = WINDOW_MS) {
    this.#nowMs = nowMs;
    this.#windowMs = windowMs;
  }

  /** Records the current total. If it has shrunk, or counts something else (`of`), the rate starts over. */
  sample(bytes: number, of?: unknown): void {
    if (of !== this.#of || bytes < (this.#samples.at(-1)?.bytes ?? 0)) this.#samples = [];
    this.#of = of;
    const atMs = this.#nowMs();
    this.#samples.push({ atMs, bytes });
    // Keep the oldest sample until the next one is old enough to replace it.
    while ((this.#samples[1]?.atMs ?? Infinity) <= atMs - this.#windowMs) this.#samples.shift();
  }

  /** Bytes per second between the oldest sample and the last one; 0 until there are two. */
  get bytesPerSecond(): number {
    const [oldest] = this.#samples;
    const last = this.#samples.at(-1);
    if (oldest === undefined || last === undefined || last.atMs <= oldest.atMs) return 0;
    return ((last.bytes - oldest.bytes) / (last.atMs - oldest.atMs)) * 1000;
  }
}
