import * as fs from "node:fs";
import { diskError } from "./disk.ts";

/**
 * Gives what tells whether `path` leads to the file that is open, or was moved, removed or replaced since; that
 * throws ReplicaError DISK_FAILED where it can't be told just now.
 */
export function stillThere(fd: number, path: string): () => boolean {
  const { dev, ino } = fs.fstatSync(fd);
  return () => {
    try {
      const there = fs.statSync(path, { throwIfNoEntry: false });
      return there?.dev === dev && there.ino === ino;
    } catch (cause) {
      throw diskError("looking at", path, cause);
    }
  };
}
