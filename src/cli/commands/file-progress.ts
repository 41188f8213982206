import { basename } from "node:path";
import type { Output } from "../terminal/output.ts";
import { Progress } from "../terminal/progress.ts";

/** Below this a file is done before a person has read the line. */
const WORTH_BYTES = 64 * 1024 * 1024;

/** Shows how far each large file is that is read or written; of those at the same time the first one. */
export function fileProgress(stderr: Output, enabled: boolean) {
  const progress = new Progress({ output: stderr, enabled });
  let shown = "";
  let isDone = true;
  return {
    look: (file: string, bytes: number, totalBytes: number) => {
      if (totalBytes < WORTH_BYTES) return;
      if (file !== shown) {
        if (!isDone) return;
        progress.begin(basename(file), totalBytes);
        shown = file;
      }
      isDone = bytes >= totalBytes;
      progress.update(bytes);
    },
    end: () => progress.end(),
  };
}
