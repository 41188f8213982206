import type { Clock } from "../../base/clock.ts";
import type { Link } from "./link.ts";

/** The longest rest: what comes meanwhile is read with one wake-up. Nobody waits for it, and a sync comes once a second. */
const REST_MS = 50;
/** A shorter one costs more than it saves. */
const LEAST_REST_MS = 5;
/** Chunks that come so close behind each other promise more within a rest than it costs. */
const CLOSE_MS = 16;
/** The most that should wait in the socket: well below what a TCP socket holds, so that the primary never has to wait. */
const GATHERED_BYTES = 32 * 1024;
/** So long after a GETACK somebody may still wait for answers: `WAIT` on the primary, a failover, a shutdown. */
const AWAITED_MS = 600_000;
/** Within this time the event loop reads what waits in the socket. */
const READ_MS = 5;
/** A rest is too short to be broken off. */
const WHOLE = new AbortController().signal;

/** The link, as far as it can rest: be read no more until it goes on. */
export interface Resting {
  readonly isResting: boolean;
  rest(): void;
  goOn(): void;
}

/**
 * Lets a link that is followed rest after small chunks, so that the next ones come together. A wake-up costs ten times
 * what the bytes of a small command do.
 *
 * Only a steady stream of small chunks is gathered: a single one is read as it comes, and so is a fast stream, which
 * comes in large chunks anyway.
 */
export class Gathering {
  readonly #clock: Pick<Clock, "monotonicMs" | "sleep">;
  /** When bytes last came. */
  #lastMs = -Infinity;
  #awaitedUntilMs = -Infinity;

  constructor(clock: Pick<Clock, "monotonicMs" | "sleep">) {
    this.#clock = clock;
  }

  /** The primary has asked for an ACK. */
  asked(): void {
    this.#awaitedUntilMs = this.#clock.monotonicMs() + AWAITED_MS;
  }

  /** So many bytes came over this link, for which nobody waits. */
  after(bytes: number, link: Resting): void {
    const restMs = this.#restMs(bytes);
    if (restMs === 0) return;
    link.rest();
    void this.#clock.sleep(restMs, WHOLE).then(() => link.goOn());
  }

  /** Ends a rest: resolves once what had come by then is read. Undefined where the link doesn't rest. */
  end(link: Resting): Promise<void> | undefined {
    if (!link.isResting) return undefined;
    link.goOn();
    return this.#clock.sleep(READ_MS, WHOLE);
  }

  #restMs(bytes: number): number {
    const nowMs = this.#clock.monotonicMs();
    const sinceLastMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    // What was gathered comes long after the chunk before it: the next one tells whether the stream is still as dense.
    if (sinceLastMs >= CLOSE_MS || nowMs < this.#awaitedUntilMs) return 0;
    const restMs = Math.min(REST_MS, (GATHERED_BYTES * sinceLastMs) / bytes);
    return restMs < LEAST_REST_MS ? 0 : restMs;
  }
}

/** A link that is paused now and then, and how long it has waited for the disk. */
export class PacedLink {
  readonly link: Link;
  readonly #clock: Pick<Clock, "monotonicMs">;
  #isPaused = false;
  #isForDisk = false;
  #pausedAtMs = 0;
  #pausedMs = 0;

  constructor(link: Link, clock: Pick<Clock, "monotonicMs">) {
    this.link = link;
    this.#clock = clock;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Whether it waits for the disk. */
  get isForDisk(): boolean {
    return this.#isForDisk;
  }

  /** How long it has been paused for the disk so far, in milliseconds. */
  get pausedMs(): number {
    return this.#pausedMs + (this.#isForDisk ? this.#clock.monotonicMs() - this.#pausedAtMs : 0);
  }

  /**
   * Reads no more, or goes on.
   * @param forDisk whether it is the disk that is waited for.
   */
  pause(pause: boolean, forDisk = pause): void {
    if (forDisk !== this.#isForDisk) {
      this.#pausedMs = this.pausedMs;
      this.#pausedAtMs = this.#clock.monotonicMs();
      this.#isForDisk = forDisk;
    }
    if (pause === this.#isPaused) return;
    this.#isPaused = pause;
    if (pause) this.link.pause();
    else this.link.resume();
  }
}
