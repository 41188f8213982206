import { logger } from "../base/logger.ts";

/** Begins a new snapshot at each SIGUSR1, from its construction until it is disposed of. */
export class RenewalSignal implements Disposable {
  #begin: ((by: string) => void) | undefined;

  constructor() {
    process.on("SIGUSR1", this.#onSignal);
  }

  /** @param begin begins a snapshot and throws if it can't; until it is given, signals are refused. */
  begins(begin: (by: string) => void): void {
    this.#begin = begin;
  }

  [Symbol.dispose](): void {
    process.off("SIGUSR1", this.#onSignal);
  }

  readonly #onSignal = (): void => {
    if (this.#begin === undefined) {
      logger.warn("SIGUSR1: no new snapshot, the replica is still starting");
      return;
    }
    try {
      this.#begin("SIGUSR1");
    } catch (refused) {
      logger.warn(`SIGUSR1: ${refused instanceof Error ? refused.message : String(refused)}`);
    }
  };
}
