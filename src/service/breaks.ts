import type { ReplicaError } from "../errors.ts";
import { formatBytes } from "../quantity.ts";

/** What was seen of a bulk payload until its link broke. */
export interface TransferFigures {
  readonly readBytes: number;
  readonly totalBytes: number | undefined;
  readonly seconds: number;
  /** Seconds in which the link was paused, because what had come in still waited for the disk. */
  readonly pausedSeconds: number;
}

/** Breaks in the same phase after which the next attempts wait longer than the back-off's ceiling. */
const STORM_BREAKS = 3;
/** Each attempt costs the primary a fork: in a storm they come at most this much more seldom. */
const STORM_FACTOR = 12;
/** So long a share of a transfer in which the link was paused says that the disk is the slow part. */
const SLOW_DISK_SHARE = 0.2;

/** Counts the breaks that come again and again in the same phase of a sync. */
export class Breaks {
  #phase = "";
  #count = 0;

  /** One more break in `phase`. */
  add(phase: string): void {
    this.#count = phase === this.#phase ? this.#count + 1 : 1;
    this.#phase = phase;
  }

  /** The link held: what comes later is another matter. */
  clear(): void {
    this.#count = 0;
  }

  get count(): number {
    return this.#count;
  }

  /** By how much the ceiling of the back-off is raised now; 1 to 12. */
  get factor(): number {
    return Math.min(STORM_FACTOR, 2 ** Math.max(0, this.#count - STORM_BREAKS + 1));
  }
}

/** The likely cause of a break in the midst of a bulk payload, with what was seen and what to set. */
export function likelyCause(error: ReplicaError, seen: TransferFigures): string {
  const rate = seen.readBytes / Math.max(seen.seconds, 0.001);
  const of = seen.totalBytes === undefined ? "" : ` of ${formatBytes(seen.totalBytes)}`;
  const figures = `after ${formatBytes(seen.readBytes)}${of} in ${seen.seconds.toFixed(1)} s, ${formatBytes(rate)}/s`;
  if (error.code === "TIMED_OUT") {
    return `${figures}; the likely cause is a primary or a network that stalls: see the primary's log, or raise --timeout`;
  }
  if (error.code !== "LINK_LOST") return figures;
  if (seen.pausedSeconds > seen.seconds * SLOW_DISK_SHARE) {
    return `${figures}; the likely cause is the disk here: for ${seen.pausedSeconds.toFixed(1)} s the link waited for it, while the stream piled up in the primary; use a faster disk, or raise client-output-buffer-limit replica there`;
  }
  return `${figures}; the likely cause is the primary's output buffer limit (client-output-buffer-limit replica) or its repl-timeout: see its log, and raise the one that it names`;
}
