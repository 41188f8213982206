import { mkdirSync, symlinkSync } from "node:fs";
import type { TempDir } from "./temp.ts";

/**
 * Makes a folder that holds these programs of the machine and nothing else, and returns its path: for a PATH on
 * which no server and no Bun is, wherever the machine has its own. A program comes once, whatever its name is
 * linked to.
 * @throws Error if the machine lacks one of them.
 */
export function folderOf(dir: TempDir, programs: readonly string[], name = "programs"): string {
  mkdirSync(dir.file(name));
  for (const program of programs) {
    const path = Bun.which(program);
    if (path === null) throw new Error(`this machine has no ${program} on the PATH`);
    symlinkSync(path, dir.file(name, program));
  }
  return dir.file(name);
}
