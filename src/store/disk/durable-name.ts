import * as fs from "node:fs";
import { dirname } from "node:path";
import type { Disk } from "./disk.ts";

/** That the name of a folder, and of those above that were made for it, survives a power cut. */
export class DurableName {
  readonly #disk: Disk;
  readonly #path: string;
  #isDurable = false;

  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
  }

  /** Once it has succeeded, nothing is done any more. @throws Error of the disk. */
  async sync(): Promise<void> {
    if (this.#isDurable) return;
    for (const folder of foldersAbove(this.#path)) {
      try {
        await this.#disk.syncDir(folder);
      } catch (cause) {
        // A folder that we may not even read is none that we made a name in.
        if (!(cause instanceof Error && "code" in cause && cause.code === "EACCES")) throw cause;
      }
    }
    this.#isDurable = true;
  }
}

/**
 * The folders in which the names stand that lead to `path`, nearest first, as far as its own file
 * system reaches: what lies above was there when it was mounted.
 */
function foldersAbove(path: string): string[] {
  const above: string[] = [];
  const real = fs.realpathSync(path);
  const { dev } = fs.statSync(real);
  for (let at = real; dirname(at) !== at;) {
    at = dirname(at);
    if (fs.statSync(at).dev !== dev) break;
    above.push(at);
  }
  return above;
}
