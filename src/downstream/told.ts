import type { Clock } from "../base/clock.ts";
import { logger } from "../base/logger.ts";

/** As many as a hundred replicas that all come and go within it. */
export const TOLD_LINES = 300;
export const TOLD_MS = 60_000;

/** The log about downstreams, with at most TOLD_LINES lines in TOLD_MS: anybody may attach, as often as they like. */
export class Told {
  readonly #clock: Clock;
  #sinceMs = -Infinity;
  #lines = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  info(message: string, properties: Readonly<Record<string, unknown>>): void {
    this.tick();
    if (this.#lines++ < TOLD_LINES) logger.info(message, properties);
  }

  /** Call once a second. Begins anew after TOLD_MS, and tells how many lines were left out. */
  tick(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs < TOLD_MS) return;
    const leftOut = this.#lines - TOLD_LINES;
    if (leftOut > 0) logger.info(`${leftOut} more lines about downstreams were left out`);
    this.#sinceMs = nowMs;
    this.#lines = 0;
  }
}
