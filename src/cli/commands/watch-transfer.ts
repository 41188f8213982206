import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { State } from "../../session/state.ts";
import type { Output } from "../terminal/output.ts";
import type { Progress } from "../terminal/progress.ts";

const EVERY_MS = 100;
/** Without a terminal, a long transfer is logged at this interval. */
const LOG_EVERY_MS = 10_000;

/**
 * Shows the progress of each bulk payload: as a progress line on a terminal, as log lines elsewhere.
 * @returns a function that ends it.
 */
export function watchTransfer(state: () => State, stderr: Output, enabled: boolean): () => void {
  if (!enabled || !stderr.isTty) return logTransfer(state);
  let progress: Progress | undefined;
  let drawing = false;
  // Only for a terminal: it brings Node's streams with it, and a service has to start quickly.
  void import("../terminal/progress.ts").then((drawn) => {
    progress = new drawn.Progress({ output: stderr, enabled });
  });
  const look = () => {
    if (progress === undefined) return;
    const now = state();
    if (now.at === "transfer") {
      if (!drawing) progress.begin("snapshot", now.totalBytes);
      drawing = true;
      progress.update(now.readBytes);
    } else if (drawing) {
      drawing = false;
      progress.end();
    }
  };
  const timer = setInterval(look, EVERY_MS);
  return () => {
    clearInterval(timer);
    if (drawing) progress?.end();
  };
}

function logTransfer(state: () => State): () => void {
  let lastBytes = 0;
  const timer = setInterval(() => {
    const now = state();
    if (now.at !== "transfer") {
      lastBytes = 0;
      return;
    }
    const rate = (Math.max(0, now.readBytes - lastBytes) / LOG_EVERY_MS) * 1000;
    lastBytes = now.readBytes;
    const of = now.totalBytes === undefined ? "" : ` of ${formatBytes(now.totalBytes)}`;
    logger.info(`snapshot: ${formatBytes(now.readBytes)}${of}, ${formatBytes(rate)}/s`);
  }, LOG_EVERY_MS);
  return () => clearInterval(timer);
}
