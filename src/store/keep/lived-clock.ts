import * as os from "node:os";
import type { LivedMoment } from "../ledger/keep-tables.ts";
import { currentBootId } from "../ledger/trust.ts";

/** The machine's own notion of time, which nobody sets. */
export interface Machine {
  readonly bootId: string;
  /** Since it was booted, sleep included; milliseconds, or whole seconds of them. */
  uptimeMs(): number;
}

export const thisMachine: Machine = {
  bootId: currentBootId(),
  uptimeMs: () => os.uptime() * 1000,
};

/**
 * Lived time: what really passed for this data directory, by a clock that nobody sets. It goes on while the machine
 * is up, between two processes too; the time until it was booted again doesn't count, since only the wall clock
 * could tell it. So it may fall behind the wall clock, and what is removed by it stays longer, never shorter.
 */
export class LivedClock {
  /** How much of it passed between the last process's last word and the start. */
  readonly betweenMs: number;
  readonly #machine: Machine;
  #livedMs: number;
  #uptimeMs: number;

  /**
   * @param kept what the last process kept; undefined where none did.
   * @param beginMs where to begin then. Any number will do; a time makes it readable.
   */
  constructor(machine: Machine, kept: LivedMoment | undefined, beginMs: number) {
    this.#machine = machine;
    this.#uptimeMs = machine.uptimeMs();
    const passedMs = kept?.bootId === machine.bootId ? this.#uptimeMs - kept.uptimeMs : 0;
    this.betweenMs = Math.max(0, passedMs);
    this.#livedMs = (kept?.livedMs ?? beginMs) + this.betweenMs;
  }

  /** Milliseconds; it never goes back. */
  now(): number {
    const uptimeMs = this.#machine.uptimeMs();
    this.#livedMs += Math.max(0, uptimeMs - this.#uptimeMs);
    this.#uptimeMs = uptimeMs;
    return Math.floor(this.#livedMs);
  }

  /** For the next process. */
  get moment(): LivedMoment {
    const livedMs = this.now();
    return { livedMs, bootId: this.#machine.bootId, uptimeMs: Math.floor(this.#uptimeMs) };
  }
}
