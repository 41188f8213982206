import * as fs from "node:fs";

/** Gives what tells whether `path` leads to the file that is open, or was moved, removed or replaced since. */
export function stillThere(fd: number, path: string): () => boolean {
  const { dev, ino } = fs.fstatSync(fd);
  return () => {
    const there = fs.statSync(path, { throwIfNoEntry: false });
    return there?.dev === dev && there.ino === ino;
  };
}
