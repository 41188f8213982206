import { type ReplicaError, unreachable } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { State } from "../../session/state.ts";

/** Where a sync may break that has cost the primary a fork by then, or may have. */
export type CostlyPhase = "receive-psync" | "receive-bulk-header" | "transfer" | "connected";

/** What was seen of a sync until its link broke. */
export interface SyncFigures {
  /** Of the bulk payload, where the link broke in its midst. */
  readonly transfer:
    { readonly readBytes: number; readonly totalBytes: number | undefined } | undefined;
  /** Time in the last state. */
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

/**
 * In which phase a link broke, if that cost the primary a fork; else undefined.
 * @param isFull whether the attempt got a full resync.
 */
export function costlyPhase(
  error: ReplicaError,
  state: State,
  isFull: boolean,
): CostlyPhase | undefined {
  switch (state.at) {
    case "receive-psync":
      // An answer, such as "not now", is no fork; one that doesn't come may be one.
      return error.code === "TIMED_OUT" || error.code === "LINK_LOST" ? state.at : undefined;
    case "receive-bulk-header":
    case "transfer":
      return state.at;
    case "connected":
      return isFull ? state.at : undefined;
    default:
      return undefined;
  }
}

/** The likely cause of a break in the midst of a sync, with what was seen and what to set. */
export function likelyCause(phase: CostlyPhase, error: ReplicaError, seen: SyncFigures): string {
  const figures = figuresOf(seen);
  const stalls = "a primary or a network that stalls: see the primary's log, or raise --timeout";
  const buffer =
    "the primary's output buffer limit (client-output-buffer-limit replica) or its repl-timeout: see its log, and raise the one that it names";
  // Behind a sentence of its own: "make room after 0.0 s" would be another advice.
  if (error.code !== "TIMED_OUT" && error.code !== "LINK_LOST") return `(${figures})`;
  const because = (cause: string) => `${figures}; the likely cause is ${cause}`;
  switch (phase) {
    case "receive-psync":
      return error.code === "TIMED_OUT"
        ? because("a primary that forks slowly: raise --sync-timeout")
        : because("on the primary, which closed the link instead of answering: see its log");
    case "receive-bulk-header":
      return error.code === "TIMED_OUT"
        ? because(stalls)
        : because("on the primary, whose snapshot failed before it was sent: see its log");
    case "transfer":
    case "connected":
      if (error.code === "TIMED_OUT") return because(stalls);
      if (seen.pausedSeconds <= seen.seconds * SLOW_DISK_SHARE) return because(buffer);
      return because(
        `the disk here: for ${seen.pausedSeconds.toFixed(1)} s the link waited for it, while the stream piled up in the primary; use a faster disk, or raise client-output-buffer-limit replica there`,
      );
    default:
      return unreachable(phase);
  }
}

function figuresOf({ transfer, seconds }: SyncFigures): string {
  if (transfer === undefined) return `after ${seconds.toFixed(1)} s`;
  const { readBytes, totalBytes } = transfer;
  const rate = readBytes / Math.max(seconds, 0.001);
  const of = totalBytes === undefined ? "" : ` of ${formatBytes(totalBytes)}`;
  return `after ${formatBytes(readBytes)}${of} in ${seconds.toFixed(1)} s, ${formatBytes(rate)}/s`;
}
