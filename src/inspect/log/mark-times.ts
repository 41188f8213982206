import type { Offset } from "../../base/history.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import type { KeptLog } from "./kept-log.ts";

/** When the log held which offset, as its marks tell, for offsets that rise. */
export class MarkTimes {
  #moments: readonly Moment[] = [];
  #at = 0;

  /** Reads the marks of the log after one offset, as far as there are any, up to the first one that covers another one. */
  async reach(log: KeptLog, after: Offset, upTo: Offset, signal: AbortSignal): Promise<void> {
    for (;;) {
      const last = this.#moments.at(-1);
      if (last !== undefined && last.offset >= upTo) return;
      const page = await log.momentsFrom(Math.max(after, last?.offset ?? 0) + 1, signal);
      if (page.length === 0) return;
      this.#moments = [...this.#moments.slice(this.#at), ...page];
      this.#at = 0;
    }
  }

  /** The first time at which the log held an offset, which is none before the last one asked for. */
  at(offset: Offset): number | undefined {
    while (this.#at < this.#moments.length && this.#moments[this.#at]!.offset < offset) this.#at++;
    return this.#moments[this.#at]?.atMs;
  }
}
