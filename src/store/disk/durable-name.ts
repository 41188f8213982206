import * as fs from "node:fs";
import { dirname } from "node:path";
import type { Disk } from "./disk.ts";

/** Makes the name of a folder durable, with those of the folders above that were created for it. */
export class DurableName {
  readonly #disk: Disk;
  readonly #path: string;
  #isDurable = false;

  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
  }

  /** Syncs the folders above; does nothing once that has succeeded. @throws Error of the disk. */
  async sync(): Promise<void> {
    if (this.#isDurable) return;
    for (const folder of foldersAbove(this.#path)) {
      try {
        await this.#disk.syncDir(folder);
      } catch (cause) {
        // This process created no name in a folder that it may not even read.
        if (!(cause instanceof Error && "code" in cause && cause.code === "EACCES")) throw cause;
      }
    }
    this.#isDurable = true;
  }
}

/**
 * The folders above `path`, nearest first, on its own file system: those above its mount point were there
 * before.
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
