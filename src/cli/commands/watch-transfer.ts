import { logger } from "../../base/logger.ts";
import { formatAge, formatProgress } from "../../base/quantity.ts";
import { Rate } from "../../base/rate.ts";
import type { Replica } from "../../replica/replica.ts";
import { progressOf, type TransferProgress } from "../../replica/transfer-progress.ts";
import type { State } from "../../session/state.ts";
import type { Output } from "../terminal/output.ts";
import type { Progress } from "../terminal/progress.ts";

const EVERY_MS = 100;
const SECOND_MS = 1_000;
/** Without a terminal, a long transfer is logged at this interval. */
const LOG_EVERY_MS = 10_000;

/** What takes a snapshot. */
export interface Watched {
  readonly state: State;
  /** How large it is likely to be, where the primary doesn't tell; undefined where nothing tells. */
  expectedBytes(): number | undefined;
}

/** What is to be shown of it; `preparing`: it is granted, and nothing of it has come. */
type Look =
  | { readonly at: "rest" }
  | { readonly at: "preparing" }
  | ({ readonly at: "transfer" } & TransferProgress);

const PREPARING = "the primary is preparing it (fork)";

/** The snapshot that a replica takes now: of a renewal, else of a full resync. */
export function snapshotOf({ renewal, state, upkeep }: Replica): Watched {
  const isRenewal = renewal.state.at === "transfer" || renewal.state.at === "receive-bulk-header";
  return isRenewal
    ? { state: renewal.state, expectedBytes: () => upkeep.expectedRenewalBytes() }
    : { state, expectedBytes: () => upkeep.expectedResyncBytes() };
}

/**
 * Shows the progress of each bulk payload, and that the primary is preparing it: as a progress line on a terminal, as log
 * lines elsewhere.
 * @returns a function that ends it.
 */
export function watchTransfer(
  watched: () => Watched,
  stderr: Output,
  enabled: boolean,
): () => void {
  if (!enabled || !stderr.isTty) return logTransfer(watched);
  let progress: Progress | undefined;
  let drawn: Look["at"] = "rest";
  // Only for a terminal: it brings Node's streams with it, and a service has to start quickly.
  void import("../terminal/progress.ts").then(({ Progress }) => {
    progress = new Progress({ output: stderr, enabled });
  });
  const draw = () => {
    if (progress === undefined) return;
    const now = lookAt(watched());
    if (now.at !== drawn) {
      if (now.at === "rest") progress.end();
      if (now.at === "preparing") progress.wait(`snapshot: ${PREPARING}`);
      if (now.at === "transfer") progress.begin("snapshot", now.totalBytes);
      drawn = now.at;
    }
    if (now.at === "transfer") progress.update(now.readBytes, now.expectedBytes);
  };
  const timer = setInterval(draw, EVERY_MS);
  return () => {
    clearInterval(timer);
    if (drawn !== "rest") progress?.end();
  };
}

function lookAt(watched: Watched): Look {
  const { state } = watched;
  if (state.at === "receive-bulk-header") return { at: "preparing" };
  const progress = progressOf(state, () => watched.expectedBytes());
  return progress === undefined ? { at: "rest" } : { at: "transfer", ...progress };
}

function logTransfer(watched: () => Watched): () => void {
  const log = new TransferLog(watched, () => performance.now());
  const timer = setInterval(() => log.tick(), SECOND_MS);
  return () => clearInterval(timer);
}

/** Tells of a long transfer in lines of the log, and of a long wait for its beginning. */
export class TransferLog {
  readonly #watched: () => Watched;
  readonly #nowMs: () => number;
  #at: Look["at"] = "rest";
  #sinceMs = 0;
  #toldMs = 0;
  #rate: Rate;

  /** @param nowMs a monotonic clock. */
  constructor(watched: () => Watched, nowMs: () => number) {
    this.#watched = watched;
    this.#nowMs = nowMs;
    this.#rate = new Rate(nowMs, LOG_EVERY_MS);
  }

  /** Call it once a second. */
  tick(): void {
    const now = lookAt(this.#watched());
    const nowMs = this.#nowMs();
    if (now.at !== this.#at) {
      this.#at = now.at;
      this.#sinceMs = this.#toldMs = nowMs;
      this.#rate = new Rate(this.#nowMs, LOG_EVERY_MS);
    }
    if (now.at === "transfer") this.#rate.sample(now.readBytes);
    if (now.at === "rest" || nowMs - this.#toldMs < LOG_EVERY_MS) return;
    this.#toldMs = nowMs;
    logger.info(`snapshot: ${this.#describe(now, (nowMs - this.#sinceMs) / 1000)}`);
  }

  #describe(now: Exclude<Look, { at: "rest" }>, seconds: number): string {
    if (now.at === "preparing") return `${PREPARING}, for ${formatAge(seconds)} so far`;
    const { readBytes, totalBytes, expectedBytes } = now;
    const rate = this.#rate.bytesPerSecond;
    const figures = formatProgress(readBytes, totalBytes, rate, expectedBytes);
    return figures.trimStart().replaceAll("  ", ", ");
  }
}
