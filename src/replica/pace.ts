import type { Clock } from "../base/clock.ts";
import { Rate } from "../base/rate.ts";
import type { Settings } from "../config/settings.ts";
import type { State } from "../session/state.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import type { GenerationKeeper } from "../upstream/keeper.ts";
import { DurableAge } from "./durable-age.ts";

export interface BytesPerSecond {
  readonly received: number;
  readonly written: number;
  readonly durable: number;
}

/** How fast bytes come in and become durable, and how long the oldest one has been waiting for that. */
export class Pace {
  readonly #keeper: GenerationKeeper;
  readonly #age: DurableAge;
  readonly #received: Rate;
  readonly #written: Rate;
  readonly #durable: Rate;

  constructor(clock: Clock, fsync: Settings["fsync"], keeper: GenerationKeeper) {
    const nowMs = () => clock.monotonicMs();
    this.#keeper = keeper;
    this.#age = new DurableAge(nowMs, fsync);
    this.#received = new Rate(nowMs);
    this.#written = new Rate(nowMs);
    this.#durable = new Rate(nowMs);
  }

  /** Once a second, and whenever something else begins to become durable. */
  sample(state: State): void {
    const { log, receivedBytes, payloadBytes } = this.#keeper;
    this.#received.sample(receivedBytes.snapshot + receivedBytes.stream);
    // While a snapshot comes in, that is what becomes durable; else the log is.
    if (state.at === "transfer") {
      this.#written.sample(payloadBytes.written, state.file);
      this.#durable.sample(payloadBytes.synced, state.file);
    } else {
      this.#written.sample(log?.writtenOffset ?? 0, log);
      this.#durable.sample(log?.durableOffset ?? 0, log);
    }
  }

  /** Once a second. */
  sampleAge(): void {
    this.#age.sample(this.#log);
  }

  /** Over the last five seconds, snapshot and stream alike. */
  get bytesPerSecond(): BytesPerSecond {
    return {
      received: this.#received.bytesPerSecond,
      written: this.#written.bytesPerSecond,
      durable: this.#durable.bytesPerSecond,
    };
  }

  /** How long the oldest byte that isn't durable (`--fsync no`: not written) has been here; 0 where all is. */
  get durableAgeSeconds(): number {
    return this.#age.seconds(this.#log);
  }

  get #log(): StreamLog | undefined {
    return this.#keeper.log;
  }
}
