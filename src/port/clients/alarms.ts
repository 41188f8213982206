import { logger } from "../../base/logger.ts";

/** A page, or a scanner, may try as often as it likes. */
const ALARM_EVERY_MS = 60_000;

/** Warnings about clients, each logged at most once a minute. */
export class Alarms {
  /** When each warning was logged last. */
  readonly #loggedAtMs = new Map<string, number>();

  /** @param warning one of a fixed number: never with a client's own words. @param client its address. */
  warn(warning: string, client: string): void {
    const nowMs = Date.now();
    if (nowMs - (this.#loggedAtMs.get(warning) ?? 0) < ALARM_EVERY_MS) return;
    this.#loggedAtMs.set(warning, nowMs);
    logger.warn(warning, { client });
  }
}
