import type { State } from "../session/state.ts";
import type { Output } from "./output.ts";
import { Progress } from "./progress.ts";

const EVERY_MS = 100;

/**
 * Draws the progress line of each bulk payload that comes in, for as long as one does.
 * @returns what ends it.
 */
export function watchTransfer(state: () => State, stderr: Output, enabled: boolean): () => void {
  const progress = new Progress({ output: stderr, enabled });
  let drawing = false;
  const look = () => {
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
  if (!enabled) return () => undefined;
  const timer = setInterval(look, EVERY_MS);
  return () => {
    clearInterval(timer);
    if (drawing) progress.end();
  };
}
