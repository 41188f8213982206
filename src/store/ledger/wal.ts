import * as fs from "node:fs";
import { diskError, openToRead } from "../disk/disk.ts";

export const WAL_HEADER_BYTES = 32;
export const FRAME_HEADER_BYTES = 24;
/** With this magic the checksum reads words as big-endian, with the one below it as little-endian. */
const MAGIC_BIG = 0x377f0683;
const LOOKS = 2;
const LOOK_EVERY_MS = 50;
/** How much is read at once: a WAL may be longer than memory, where a reader kept it from being started over. */
const PIECE_BYTES = 1024 * 1024;

/**
 * Looks for damage in SQLite's WAL, which SQLite does not report: it ignores everything from the first frame
 * on whose checksum does not match ("SQLite, WAL file format").
 * @param path of the database.
 * @returns the position in the WAL of a damaged frame that a whole transaction follows; undefined where there
 * is none. After a power cut such a frame may never have been synced.
 * @throws ReplicaError DISK_FAILED.
 */
export function walDamage(path: string): number | undefined {
  const found = look(path);
  // A writer may just have started the WAL over; real damage stays where it is.
  for (let turn = 0; found !== undefined && turn < LOOKS; turn++) {
    Bun.sleepSync(LOOK_EVERY_MS);
    if (look(path) !== found) return undefined;
  }
  return found;
}

function look(path: string): number | undefined {
  const wal = `${path}-wal`;
  let fd: number | undefined;
  try {
    if (!fs.existsSync(wal)) return undefined;
    fd = openToRead(wal);
    return damageIn(fd);
  } catch (cause) {
    throw diskError("reading", wal, cause);
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function damageIn(fd: number): number | undefined {
  const header = Buffer.alloc(WAL_HEADER_BYTES);
  if (fs.readSync(fd, header, 0, WAL_HEADER_BYTES, 0) < WAL_HEADER_BYTES) return undefined;
  const magic = header.readUInt32BE(0);
  const pageBytes = header.readUInt32BE(8);
  const salts = header.subarray(16, 24);
  if ((magic | 1) >>> 0 !== MAGIC_BIG || pageBytes < 512 || pageBytes > 65_536) return undefined;
  const sum = new Checksum(magic === MAGIC_BIG);
  sum.add(header.subarray(0, 24));
  if (!sum.is(header, 24)) return 0;
  let damaged: number | undefined;
  for (const { frame, at } of framesOf(fd, FRAME_HEADER_BYTES + pageBytes)) {
    // Other salts mean frames from before the WAL was started over; none of this round follows them.
    const isOfThisRound = frame.subarray(8, 16).equals(salts);
    const isCommit = frame.readUInt32BE(4) !== 0;
    if (damaged === undefined && isOfThisRound) {
      sum.add(frame.subarray(0, 8));
      sum.add(frame.subarray(FRAME_HEADER_BYTES));
      if (!sum.is(frame, 16)) damaged = at;
    } else if (damaged === undefined) {
      damaged = at;
    } else if (isOfThisRound && isCommit) {
      return damaged;
    }
  }
  return undefined;
}

/** The whole frames of a WAL, in order: views that hold until the next one is taken. */
function* framesOf(fd: number, frameBytes: number): Generator<{ frame: Buffer; at: number }> {
  const piece = Buffer.alloc(frameBytes * Math.ceil(PIECE_BYTES / frameBytes));
  for (let from = WAL_HEADER_BYTES; ;) {
    const bytes = fs.readSync(fd, piece, 0, piece.length, from);
    for (let at = 0; at + frameBytes <= bytes; at += frameBytes) {
      yield { frame: piece.subarray(at, at + frameBytes), at: from + at };
    }
    if (bytes < piece.length) return;
    from += bytes;
  }
}

/** The WAL's running checksum: two sums over pairs of words. */
class Checksum {
  readonly #isBigEndian: boolean;
  #first = 0;
  #second = 0;

  constructor(isBigEndian: boolean) {
    this.#isBigEndian = isBigEndian;
  }

  add(bytes: Buffer): void {
    const read = this.#isBigEndian ? bytes.readUInt32BE : bytes.readUInt32LE;
    for (let at = 0; at < bytes.length; at += 8) {
      this.#first = (this.#first + read.call(bytes, at) + this.#second) >>> 0;
      this.#second = (this.#second + read.call(bytes, at + 4) + this.#first) >>> 0;
    }
  }

  /** Whether the two words at this position, always big-endian, equal the sums so far. */
  is(bytes: Buffer, at: number): boolean {
    const { first, second } = { first: this.#first, second: this.#second };
    return bytes.readUInt32BE(at) === first && bytes.readUInt32BE(at + 4) === second;
  }
}
