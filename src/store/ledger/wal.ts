import * as fs from "node:fs";
import { diskError } from "../disk/disk.ts";

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** With this magic the checksum reads words as big-endian, with the one below it as little-endian. */
const MAGIC_BIG = 0x377f0683;
const LOOKS = 2;
const LOOK_EVERY_MS = 50;
/** SQLite checkpoints long before; this program wrote no larger one. */
const MAX_BYTES = 256 * 1024 * 1024;

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
  let bytes: Buffer;
  try {
    const size = fs.statSync(wal, { throwIfNoEntry: false })?.size ?? 0;
    if (size < HEADER_BYTES || size > MAX_BYTES) return undefined;
    bytes = fs.readFileSync(wal);
  } catch (cause) {
    throw diskError("reading", wal, cause);
  }
  const magic = bytes.readUInt32BE(0);
  const pageBytes = bytes.readUInt32BE(8);
  const salts = bytes.subarray(16, 24);
  if ((magic | 1) >>> 0 !== MAGIC_BIG || pageBytes < 512 || pageBytes > 65_536) return undefined;
  const read = magic === MAGIC_BIG ? bytes.readUInt32BE : bytes.readUInt32LE;
  const sum = new Checksum(bytes, read);
  sum.add(0, 24);
  if (!sum.is(24)) return 0;
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  let damaged: number | undefined;
  for (let at = HEADER_BYTES; at + frameBytes <= bytes.length; at += frameBytes) {
    // Other salts mean frames from before the WAL was started over; none of this round follows them.
    const isOfThisRound = bytes.subarray(at + 8, at + 16).equals(salts);
    const isCommit = bytes.readUInt32BE(at + 4) !== 0;
    if (damaged === undefined && isOfThisRound) {
      sum.add(at, 8);
      sum.add(at + FRAME_HEADER_BYTES, pageBytes);
      if (!sum.is(at + 16)) damaged = at;
    } else if (damaged === undefined) {
      damaged = at;
    } else if (isOfThisRound && isCommit) {
      return damaged;
    }
  }
  return undefined;
}

/** The WAL's running checksum: two sums over pairs of words. */
class Checksum {
  readonly #bytes: Buffer;
  readonly #read: (at: number) => number;
  #first = 0;
  #second = 0;

  constructor(bytes: Buffer, read: (at: number) => number) {
    this.#bytes = bytes;
    this.#read = read.bind(bytes);
  }

  add(from: number, length: number): void {
    for (let at = from; at < from + length; at += 8) {
      this.#first = (this.#first + this.#read(at) + this.#second) >>> 0;
      this.#second = (this.#second + this.#read(at + 4) + this.#first) >>> 0;
    }
  }

  /** Whether the two words at this position, always big-endian, equal the sums so far. */
  is(at: number): boolean {
    const { first, second } = { first: this.#first, second: this.#second };
    return this.#bytes.readUInt32BE(at) === first && this.#bytes.readUInt32BE(at + 4) === second;
  }
}
