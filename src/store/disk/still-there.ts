import * as fs from "node:fs";
import { diskError } from "./disk.ts";

/**
 * Returns a check whether `path` still leads to the open file: false once that was moved, removed or replaced.
 * The check throws ReplicaError DISK_FAILED where it can't tell right now.
 */
export function stillThere(fd: number, path: string): () => boolean {
  const { dev, ino } = fs.fstatSync(fd);
  return () => {
    try {
      const there = fs.statSync(path, { throwIfNoEntry: false });
      return there?.dev === dev && there.ino === ino;
    } catch (cause) {
      throw diskError("checking", path, cause);
    }
  };
}
