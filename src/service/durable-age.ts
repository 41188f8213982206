import type { Offset } from "../replication.ts";

/** An hour of them; a disk that is further behind is as far behind as that. */
const MAX_MARKS = 3_600;

/** What is looked at of a log: how far it has come in, and how far it is kept. */
interface Cursors {
  readonly receivedOffset: Offset;
  readonly durableOffset: Offset;
}

/** For how long the oldest byte of the log that is not durable has been here. */
export class DurableAge {
  readonly #nowMs: () => number;
  /** Once a second: how far the stream had come, as long as that is not durable. */
  #marks: { readonly offset: Offset; readonly atMs: number }[] = [];
  #of: Cursors | undefined;

  /** @param nowMs milliseconds of a clock that never runs backwards. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** To be told once a second where the log stands; marks of another log say nothing of this one. */
  sample(log: Cursors | undefined): void {
    this.#forgetDurable(log);
    if (log === undefined || log.receivedOffset <= (this.#marks.at(-1)?.offset ?? -1)) return;
    this.#marks.push({ offset: log.receivedOffset, atMs: this.#nowMs() });
    this.#forgetDurable(log);
  }

  /** To the second; 0 where all is durable. */
  seconds(log: Cursors | undefined): number {
    this.#forgetDurable(log);
    const [oldest] = this.#marks;
    return oldest === undefined ? 0 : (this.#nowMs() - oldest.atMs) / 1000;
  }

  #forgetDurable(log: Cursors | undefined): void {
    // One that failed is away until it is opened again: what waited there still does.
    if (log === undefined) return;
    if (log !== this.#of) this.#marks = [];
    this.#of = log;
    const durable = log.durableOffset;
    while (this.#marks.length > MAX_MARKS || (this.#marks[0]?.offset ?? Infinity) <= durable) {
      this.#marks.shift();
    }
  }
}
