import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { BufferedWriter } from "./buffered-writer.ts";
import { ALIGN_BYTES, alignedBytes, DirectWriter } from "./direct-writer.ts";
import { closeQuietly, type Disk, diskError } from "./disk.ts";
import type { Io, PayloadWriter, WriterEvents } from "./payload-writer.ts";

/** A file that a payload goes to, and which way. */
export interface PayloadFile {
  readonly path: string;
  readonly fd: number;
  readonly io: Io;
}

const TRIES = 5;
const BETWEEN_TRIES_MS = 1000;

/** What open(2), or a first write, says where the file system knows no O_DIRECT. */
const REFUSALS = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP"]);

/**
 * Creates a file for a payload. A file system that refuses to be written past the page cache gets
 * a buffered one; the answer says so.
 * @throws Error of the disk.
 */
export async function createPayloadFile(disk: Disk, path: string, io: Io): Promise<PayloadFile> {
  if (io === "direct") {
    let fd: number | undefined;
    try {
      fd = disk.createDirect(path);
      // Some systems take the flag and refuse the writes.
      await disk.write(fd, [alignedBytes(ALIGN_BYTES)], 0);
      disk.truncate(path, 0);
      return { path, fd, io };
    } catch (error) {
      if (fd !== undefined) closeQuietly(disk, fd);
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      // Some make the file though they refuse; it is ours, since it was not there before.
      if (fd !== undefined || REFUSALS.has(code)) disk.remove(path);
      if (!REFUSALS.has(code)) throw error;
    }
  }
  return { path, fd: disk.create(path), io: "buffered" };
}

/**
 * Opens the temporary file of a snapshot: `temp-<unixtime>.<pid>.rdb`, never one that exists, five
 * tries a second apart (Redis 7.2, replication.c, syncWithMaster).
 * @throws ReplicaError DISK_FULL, DISK_FAILED with the reason of the last try; STOPPED on abort.
 */
export async function openTemporary(
  disk: Disk,
  dir: string,
  clock: TemporaryClock,
  signal: AbortSignal,
  io: Io = "buffered",
): Promise<PayloadFile> {
  let failure: unknown;
  let path = dir;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    if (attempt > 0) await clock.sleep(BETWEEN_TRIES_MS, signal);
    if (signal.aborted) break;
    path = join(dir, `temp-${Math.floor(clock.now() / 1000)}.${process.pid}.rdb`);
    try {
      const file = await createPayloadFile(disk, path, io);
      if (!signal.aborted) return file;
      closeQuietly(disk, file.fd);
      disk.remove(path);
    } catch (error) {
      failure = error;
    }
  }
  if (signal.aborted) throw new ReplicaError("STOPPED", { message: "the sync was given up" });
  throw diskError("opening the temporary file", path, failure);
}

/** The writer that goes a file's way. */
export function openWriter(
  disk: Disk,
  { path, fd, io }: PayloadFile,
  maxQueuedBytes: number,
  events: WriterEvents,
): PayloadWriter {
  return io === "direct"
    ? new DirectWriter(disk, path, fd, events)
    : new BufferedWriter(disk, fd, maxQueuedBytes, events);
}

interface TemporaryClock {
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/**
 * Opens the temporary files of snapshots, each to be written the way that `--io` says. `auto` goes
 * past the page cache, which `bun run bench transfer` finds to be the faster way by far, and through it
 * where the file system refuses.
 */
export class PayloadFiles {
  readonly #disk: Disk;
  readonly #clock: TemporaryClock;
  #io: Io;

  constructor(disk: Disk, clock: TemporaryClock, io: Io | "auto") {
    this.#disk = disk;
    this.#clock = clock;
    this.#io = io === "auto" ? "direct" : io;
  }

  /**
   * Opens the temporary file of a snapshot in `dir`.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; STOPPED on abort.
   */
  async open(dir: string, signal: AbortSignal): Promise<PayloadFile> {
    const file = await openTemporary(this.#disk, dir, this.#clock, signal, this.#io);
    if (file.io !== this.#io) {
      this.#io = file.io;
      logger.info(
        `the file system of ${dir} can't be written past the page cache: snapshots go through it`,
      );
    }
    return file;
  }
}
