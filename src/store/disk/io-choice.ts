import type { Io } from "./payload-writer.ts";

/** Smaller payloads tell little of a disk. */
const LEAST_BYTES = 64 * 1024 * 1024;
/** Where the link waited for less than this share of the time, the primary or the network decided how long it took. */
const WAITED_SHARE = 0.5;
/** A way must be so much faster than the one that is taken: single transfers differ by chance. */
const FASTER = 1.15;
/** After so many snapshots the other way is tried again: disks change, and what else is written to them. */
const AGAIN_AFTER = 10;

/** How one payload went to the disk. */
export interface Transfer {
  readonly bytes: number;
  /** From the opening of its file until all of it was durable, in milliseconds. */
  readonly ms: number;
  /** For how much of that the disk was waited for, in milliseconds. */
  readonly waitedMs: number;
}

/**
 * Chooses for `--io auto` how the next snapshot is written, by how those before went to the disk at hand: past the page cache,
 * which takes less CPU time and leaves the cache to others, unless the disk was what was waited for, and
 * going through the cache was faster. It knows of this process's snapshots only.
 */
export class IoChoice {
  /** Bytes a second, as the last snapshot of each way had them for which the disk was waited for. */
  readonly #rates: Partial<Record<Io, number>> = {};
  #io: Io = "direct";
  /** Snapshots since the other way was tried. */
  #since = 0;

  /** How the next snapshot is written. */
  get io(): Io {
    const other = this.#io === "direct" ? "buffered" : "direct";
    // Past the cache, nothing is to be gained until the disk was waited for.
    const mayGain = this.#io === "buffered" || this.#rates.direct !== undefined;
    const isUntried = this.#io === "direct" && this.#rates.buffered === undefined;
    return mayGain && (isUntried || this.#since >= AGAIN_AFTER) ? other : this.#io;
  }

  /**
   * A snapshot of so many bytes was written this way.
   * @returns what is to be said where that changes the choice, with the figures; undefined where it doesn't.
   */
  took(io: Io, { bytes, ms, waitedMs }: Transfer): string | undefined {
    const isTrial = io !== this.#io;
    this.#since = isTrial ? 0 : this.#since + 1;
    // A trial that shows nothing counts, so that it is not made again at once.
    if (isTrial) this.#rates[io] ??= 0;
    if (bytes < LEAST_BYTES) return undefined;
    const keptUp = waitedMs < WAITED_SHARE * ms;
    if (keptUp && io === "direct")
      return isTrial ? this.#take("direct", "the disk keeps up") : undefined;
    // What the other way could do is at least what it did.
    if (keptUp && !isTrial) return undefined;
    this.#rates[io] = (bytes / ms) * 1000;
    const { direct = 0, buffered = 0 } = this.#rates;
    const figures = `${mega(buffered)} through it, ${mega(direct)} past it`;
    if (this.#io === "direct")
      return buffered > FASTER * direct ? this.#take("buffered", figures) : undefined;
    return direct > FASTER * buffered ? this.#take("direct", figures) : undefined;
  }

  #take(io: Io, why: string): string {
    this.#io = io;
    this.#since = 0;
    const way = io === "direct" ? "past" : "through";
    return `snapshots are written ${way} the page cache from now on: ${why}`;
  }
}

function mega(bytesPerSecond: number): string {
  return `${Math.round(bytesPerSecond / 1e6)} MB/s`;
}
