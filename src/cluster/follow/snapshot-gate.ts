/** Lets so many shards take a snapshot at a time: they compete for one disk. First come, first served. */
export class SnapshotGate {
  readonly #places: number;
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param places how many at a time. */
  constructor(places: number) {
    this.#places = places;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Waits for a place.
   * @returns what frees it, which may be called more than once; undefined once `signal` is aborted.
   */
  async enter(signal: AbortSignal): Promise<(() => void) | undefined> {
    if (signal.aborted) return undefined;
    if (this.#taken >= this.#places) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const leave = () => resolve();
      this.#waiting.push(leave);
      signal.addEventListener("abort", leave, { once: true });
      await promise;
      signal.removeEventListener("abort", leave);
      const at = this.#waiting.indexOf(leave);
      // Aborted before its turn came.
      if (at >= 0) {
        this.#waiting.splice(at, 1);
        return undefined;
      }
    } else this.#taken++;
    const free = this.#place();
    if (!signal.aborted) return free;
    free();
    return undefined;
  }

  /** The place passes to whoever waits longest. */
  #place(): () => void {
    let isFree = false;
    return () => {
      if (isFree) return;
      isFree = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#taken--;
      else next();
    };
  }
}
