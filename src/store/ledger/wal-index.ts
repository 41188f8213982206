import * as fs from "node:fs";
import { FRAME_HEADER_BYTES, WAL_HEADER_BYTES } from "./wal.ts";

/** Where the index says what ("SQLite, WAL-mode File Format", 2.1), in the byte order of the processor. */
const VERSION_AT = 0;
const VERSION = 3_007_000;
const PAGE_BYTES_AT = 14;
const FRAMES_AT = 16;
const HEADER_BYTES = 48;
/** How many frames of the WAL are in the database. */
const MOVED_AT = 96;
const NONE = Buffer.alloc(4);

/**
 * `replica.db-shm`, SQLite's index of its WAL, of a database that is open in WAL mode. Close it after the database:
 * a process that closes a descriptor of a file loses all of its locks on it, SQLite's too.
 */
export class WalIndex {
  readonly #fd: number;

  /**
   * @param path of the database.
   * @throws Error of the disk; Error where what is read here is not what SQLite maps into memory, or is in a form of a
   * later SQLite.
   */
  constructor(path: string) {
    this.#fd = fs.openSync(`${path}-shm`, fs.constants.O_RDWR);
    if (this.#header.readUInt32LE(VERSION_AT) === VERSION) return;
    throw new Error(
      "it can't be read while SQLite has it in memory: choose a --dir on another file system",
    );
  }

  get #header(): Buffer {
    const header = Buffer.alloc(HEADER_BYTES);
    fs.readSync(this.#fd, header, 0, HEADER_BYTES, 0);
    return header;
  }

  /**
   * Says that no frame is in the database yet. That is always safe: what reads or moves the frames does so once
   * more. SQLite starts a WAL over only where all of it is in the database, so it does not do that by itself.
   * @throws Error of the disk.
   */
  forgetMoved(): void {
    fs.writeSync(this.#fd, NONE, 0, NONE.length, MOVED_AT);
  }

  /**
   * How much of the WAL holds commits, in bytes. What follows is left from one that failed, or from before the WAL was
   * started over, and the next commit is written over it. @throws Error of the disk.
   */
  get committedBytes(): number {
    const header = this.#header;
    const frames = header.readUInt32LE(FRAMES_AT);
    const pageBytes = header.readUInt16LE(PAGE_BYTES_AT);
    // Sixteen bits are too few for the largest.
    const frameBytes = FRAME_HEADER_BYTES + (pageBytes === 1 ? 65_536 : pageBytes);
    return frames === 0 ? 0 : WAL_HEADER_BYTES + frames * frameBytes;
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}
