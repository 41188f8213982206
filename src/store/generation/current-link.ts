import * as fs from "node:fs";
import { join } from "node:path";
import { type Disk, diskError } from "../disk/disk.ts";
import { CURRENT, generationPath } from "./layout.ts";

/** The link `current` of a data directory. It is for people and stock servers: the ledger decides. */
export class CurrentLink {
  readonly #disk: Disk;
  readonly #path: string;

  constructor(disk: Disk, dir: string) {
    this.#disk = disk;
    this.#path = join(dir, CURRENT);
  }

  /** Points it at a generation, or removes it where `id` is undefined. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  pointAt(id: number | undefined): void {
    const temporary = `${this.#path}.tmp`;
    try {
      if (id === undefined) return this.#disk.remove(this.#path);
      this.#disk.remove(temporary);
      this.#disk.linkTo(generationPath(id), temporary);
      // By rename, so that it points at one of the two at any moment.
      this.#disk.rename(temporary, this.#path);
    } catch (cause) {
      throw diskError("changing the link", this.#path, cause);
    }
  }
}

/** What the link of a data directory points at; undefined where there is none. */
export function linkTarget(dir: string): string | undefined {
  try {
    return fs.readlinkSync(join(dir, CURRENT));
  } catch {
    return undefined;
  }
}
