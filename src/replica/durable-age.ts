import type { Settings } from "../config/settings.ts";
import type { Offset } from "../base/history.ts";

/** An hour of samples, one a second. A longer lag is reported as an hour. */
const MAX_SAMPLES = 3_600;

/** The cursors of a log. */
interface Cursors {
  readonly receivedOffset: Offset;
  readonly writtenOffset: Offset;
  readonly durableOffset: Offset;
}

/** Measures how long the oldest received byte has not been durable; with `--fsync no`, not written. */
export class DurableAge {
  readonly #nowMs: () => number;
  /** How far the stream had been received at each second, as far as that is not kept yet. */
  #samples: { readonly offset: Offset; readonly atMs: number }[] = [];
  /** The log that the samples belong to. */
  #log: Cursors | undefined;
  readonly #kept: "writtenOffset" | "durableOffset";

  /**
   * @param nowMs milliseconds of a monotonic clock.
   * @param fsync with `no`, nothing is synced while the program runs, so a byte counts as kept once it is written.
   */
  constructor(nowMs: () => number, fsync: Settings["fsync"]) {
    this.#nowMs = nowMs;
    this.#kept = fsync === "no" ? "writtenOffset" : "durableOffset";
  }

  /** Call once a second with the current log. Another log starts new samples. */
  sample(log: Cursors | undefined): void {
    this.#forgetKept(log);
    if (log === undefined || log.receivedOffset <= (this.#samples.at(-1)?.offset ?? -1)) return;
    this.#samples.push({ offset: log.receivedOffset, atMs: this.#nowMs() });
    this.#forgetKept(log);
  }

  /** The age in seconds, to the precision of the samples; 0 where everything is kept. */
  seconds(log: Cursors | undefined): number {
    this.#forgetKept(log);
    const [oldest] = this.#samples;
    return oldest === undefined ? 0 : (this.#nowMs() - oldest.atMs) / 1000;
  }

  #forgetKept(log: Cursors | undefined): void {
    // A log that failed is undefined until it is opened again. Its bytes are still not kept.
    if (log === undefined) return;
    if (log !== this.#log) this.#samples = [];
    this.#log = log;
    const kept = log[this.#kept];
    while (this.#samples.length > MAX_SAMPLES || (this.#samples[0]?.offset ?? Infinity) <= kept) {
      this.#samples.shift();
    }
  }
}
