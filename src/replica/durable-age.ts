import type { Settings } from "../config/settings.ts";
import type { Offset } from "../base/history.ts";

/** An hour of them; a disk that is further behind is as far behind as that. */
const MAX_MARKS = 3_600;

/** What is looked at of a log. */
interface Cursors {
  readonly receivedOffset: Offset;
  readonly writtenOffset: Offset;
  readonly durableOffset: Offset;
}

/** For how long the oldest byte of the log that is not durable (`--fsync no`: not written) has been here. */
export class DurableAge {
  readonly #nowMs: () => number;
  /** Once a second: how far the stream had come, as long as that is not kept. */
  #marks: { readonly offset: Offset; readonly atMs: number }[] = [];
  #of: Cursors | undefined;

  readonly #kept: "writtenOffset" | "durableOffset";

  /**
   * @param nowMs milliseconds of a clock that never runs backwards.
   * @param fsync with `no` nothing is synced while it runs: what is written is all that is promised.
   */
  constructor(nowMs: () => number, fsync: Settings["fsync"]) {
    this.#nowMs = nowMs;
    this.#kept = fsync === "no" ? "writtenOffset" : "durableOffset";
  }

  /** To be told once a second where the log stands; marks of another log say nothing of this one. */
  sample(log: Cursors | undefined): void {
    this.#forgetKept(log);
    if (log === undefined || log.receivedOffset <= (this.#marks.at(-1)?.offset ?? -1)) return;
    this.#marks.push({ offset: log.receivedOffset, atMs: this.#nowMs() });
    this.#forgetKept(log);
  }

  /** To the second; 0 where all is kept. */
  seconds(log: Cursors | undefined): number {
    this.#forgetKept(log);
    const [oldest] = this.#marks;
    return oldest === undefined ? 0 : (this.#nowMs() - oldest.atMs) / 1000;
  }

  #forgetKept(log: Cursors | undefined): void {
    // One that failed is away until it is opened again: what waited there still does.
    if (log === undefined) return;
    if (log !== this.#of) this.#marks = [];
    this.#of = log;
    const kept = log[this.#kept];
    while (this.#marks.length > MAX_MARKS || (this.#marks[0]?.offset ?? Infinity) <= kept) {
      this.#marks.shift();
    }
  }
}
