import ms from "ms";
import type { Settings } from "../config/settings.ts";
import { logger } from "../base/logger.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Clock } from "../base/clock.ts";

/** How often to look at old generations and at the free room, when nothing else calls for it. */
const EVERY_MS = 10_000;

export interface RetentionOptions {
  readonly directory: DataDirectory;
  readonly clock: Clock;
  readonly settings: Pick<Settings, "keep" | "keepForMs">;
}

/** Removes sealed generations that no setting keeps, and thins out old marks. */
export class Retention {
  readonly #options: RetentionOptions;
  #running: Promise<void> | undefined;
  #seenGeneration: number | undefined;
  #nextMs = 0;
  #failure = "";

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** Once a second: thins out some marks; looks at the rest when a generation has become current, and every 10 s. */
  tick(): void {
    const { clock, directory } = this.#options;
    directory.keeping.tick();
    directory.thinning.tick(clock.monotonicMs());
    const generation = directory.current?.id;
    const isDue = generation !== this.#seenGeneration || clock.monotonicMs() >= this.#nextMs;
    if (this.#running !== undefined || !isDue) return;
    this.#seenGeneration = generation;
    this.#nextMs = clock.monotonicMs() + EVERY_MS;
    this.#running = this.#retain().finally(() => {
      this.#running = undefined;
    });
  }

  async #retain(): Promise<void> {
    const { directory, settings } = this.#options;
    const { keep, keepForMs } = settings;
    try {
      const gone = await directory.keeping.retain(keep, keepForMs);
      if (gone.length > 0) {
        const keepFor = keepForMs === undefined ? "" : `, --keep-for ${ms(keepForMs)}`;
        const generations = gone.length === 1 ? "generation" : "generations";
        const what = `removed ${generations} ${gone.join(", ")} (--keep ${keep}${keepFor})`;
        logger.info(what);
        directory.note("retention", what);
      }
      this.#failure = "";
    } catch (error) {
      // The next look tries again; following goes on meanwhile.
      const message = error instanceof Error ? error.message : String(error);
      if (message !== this.#failure) logger.warn(message);
      this.#failure = message;
    }
  }

  /** Resolves once nothing is being removed. */
  async stop(): Promise<void> {
    await this.#running;
  }
}
