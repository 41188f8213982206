import { type ReplicaError, unreachable } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { State } from "../../session/state.ts";
import type { Offset } from "../../base/history.ts";

/** The phases in which a break costs the primary a fork, or may cost one. */
export type CostlyPhase = "receive-psync" | "receive-bulk-header" | "transfer" | "connected";

/** The figures of a resync whose link broke. */
export interface ResyncFigures {
  /** The last byte of the stream that came, or that the snapshot covers; undefined where none was granted. */
  readonly offset: Offset | undefined;
  /** How far the bulk payload was, where the link broke during it. */
  readonly transfer:
    { readonly readBytes: number; readonly totalBytes: number | undefined } | undefined;
  /** How long the last state lasted. */
  readonly seconds: number;
  /** How long the link was paused because received bytes still waited for the disk. */
  readonly pausedSeconds: number;
}

/** After so many breaks in the same phase, attempts wait longer than the back-off's ceiling. */
const STORM_BREAKS = 3;
/** Each attempt costs the primary a fork: in a storm, the ceiling is raised by at most this factor. */
const STORM_FACTOR = 12;
/** Paused for more than this share of a transfer, the link was waiting for the disk. */
const SLOW_DISK_SHARE = 0.2;

/** Counts consecutive breaks in the same phase of a resync. */
export class Breaks {
  #phase = "";
  #count = 0;

  /** One more break in `phase`. */
  add(phase: string): void {
    this.#count = phase === this.#phase ? this.#count + 1 : 1;
    this.#phase = phase;
  }

  /** The link held: the next break begins a new count. */
  clear(): void {
    this.#count = 0;
  }

  get count(): number {
    return this.#count;
  }

  /** The factor by which the back-off's ceiling is raised now; 1 to 12. */
  get factor(): number {
    return Math.min(STORM_FACTOR, 2 ** Math.max(0, this.#count - STORM_BREAKS + 1));
  }
}

/**
 * The phase in which a link broke, where that cost the primary a fork; else undefined.
 * @param isFull whether the attempt got a full resync.
 */
export function costlyPhase(
  error: ReplicaError,
  state: State,
  isFull: boolean,
): CostlyPhase | undefined {
  switch (state.at) {
    case "receive-psync":
      // An error reply means that nothing was forked; silence may mean a fork.
      return error.code === "TIMED_OUT" || error.code === "LINK_LOST" ? state.at : undefined;
    case "receive-bulk-header":
    case "transfer":
      return state.at;
    case "connected":
      return isFull ? state.at : undefined;
    case "none":
    case "connect":
    case "connecting":
    case "receive-pong":
    case "receive-auth":
    case "receive-port":
    case "receive-ip":
    case "receive-capa":
    case "receive-version":
      return undefined;
    default:
      return unreachable(state);
  }
}

/** What was seen of a resync that broke: how far it came, how fast, and how long the disk here held it up. */
export function describeFigures({ transfer, seconds, pausedSeconds }: ResyncFigures): string {
  const paused =
    pausedSeconds > seconds * SLOW_DISK_SHARE
      ? `, of which the link waited ${pausedSeconds.toFixed(1)} s for the disk here`
      : "";
  if (transfer === undefined) return `after ${seconds.toFixed(1)} s${paused}`;
  const { readBytes, totalBytes } = transfer;
  const rate = readBytes / Math.max(seconds, 0.001);
  const of = totalBytes === undefined ? "" : ` of ${formatBytes(totalBytes)}`;
  const took = `in ${seconds.toFixed(1)} s, ${formatBytes(rate)}/s`;
  return `after ${formatBytes(readBytes)}${of} ${took}${paused}`;
}

/** Whether an attempt that ended in this state was taking two links for a full sync. */
export function tookTwo(from: State): boolean {
  return "first" in from && from.first !== undefined;
}

/**
 * Whether a primary, or what is between, doesn't do with two links. Once the snapshot is granted, a break or our own
 * trouble is no sign of that.
 */
export function refusesTwo({ code }: ReplicaError, { at }: State): boolean {
  const isAnswer = code === "PRIMARY_REFUSED" || code === "PROTOCOL" || code === "AUTH_FAILED";
  const isOfLink = code === "CONNECT_FAILED" || code === "LINK_LOST" || code === "TIMED_OUT";
  return isAnswer || (at === "receive-psync" && (isOfLink || code === "TLS_FAILED"));
}
