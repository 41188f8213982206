import { basename } from "node:path";
import type { Output } from "../terminal/output.ts";
import { Progress } from "../terminal/progress.ts";

/** Smaller files are done before anybody has read the line. */
const WORTH_BYTES = 64 * 1024 * 1024;

/** Shows the progress of each large file; if several are in progress, that of the first. */
export function fileProgress(stderr: Output, enabled: boolean) {
  const progress = new Progress({ output: stderr, enabled });
  let shown = "";
  let isDone = true;
  return {
    /** @param totalBytes undefined: unknown; then a line comes once that much was read. */
    look: (file: string, bytes: number, totalBytes: number | undefined) => {
      if ((totalBytes ?? bytes) < WORTH_BYTES) return;
      if (file !== shown) {
        if (!isDone) return;
        progress.begin(basename(file), totalBytes);
        shown = file;
      }
      isDone = totalBytes !== undefined && bytes >= totalBytes;
      progress.update(bytes);
    },
    end: () => progress.end(),
  };
}
