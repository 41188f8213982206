import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { BufferedWriter } from "./buffered-writer.ts";
import { ALIGN_BYTES, alignedBytes, DirectWriter } from "./direct-writer.ts";
import { type Disk, diskError } from "./disk.ts";
import { IoChoice } from "./io-choice.ts";
import { Meter } from "./meter.ts";
import { OpenFile } from "./open-file.ts";
import { Reservation } from "./reservation.ts";
import type { Io, PayloadWriter, WriterEvents } from "./payload-writer.ts";

/** The file that a payload is written to, and which way. */
export interface PayloadFile {
  readonly path: string;
  readonly file: OpenFile;
  readonly io: Io;
  /** Measures how it gets to the disk, where somebody wants to know. */
  readonly meter?: Meter;
}

const TRIES = 5;
const BETWEEN_TRIES_MS = 1000;

/** The errors of open(2), or of the first write, on a file system without O_DIRECT. */
const REFUSALS = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP"]);

/**
 * Creates the file of a payload: a buffered one where the file system refuses direct I/O. The result says
 * which.
 * @throws Error of the disk.
 */
export async function createPayloadFile(disk: Disk, path: string, io: Io): Promise<PayloadFile> {
  if (io === "direct") {
    let file: OpenFile | undefined;
    try {
      const opened = (file = OpenFile.createDirect(disk, path));
      // Some file systems accept the flag and refuse the writes.
      await opened.use(() => opened.write([alignedBytes(ALIGN_BYTES)], 0));
      opened.truncate(0);
      return { path, file, io };
    } catch (error) {
      file?.closeQuietly();
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      // Some create the file and refuse all the same; it is ours, because it did not exist before.
      if (file !== undefined || REFUSALS.has(code)) disk.remove(path);
      if (!REFUSALS.has(code)) throw error;
    }
  }
  return { path, file: OpenFile.create(disk, path), io: "buffered" };
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
      const opened = await createPayloadFile(disk, path, io);
      if (!signal.aborted) return opened;
      opened.file.closeQuietly();
      disk.remove(path);
    } catch (error) {
      failure = error;
    }
  }
  if (signal.aborted)
    throw new ReplicaError("STOPPED", { message: "the full resync was given up" });
  throw diskError("opening the temporary file", path, failure);
}

/**
 * Returns the writer for a payload's file.
 * @param totalBytes the length of the payload; undefined where it isn't known.
 */
export function openWriter(
  { file, io }: PayloadFile,
  totalBytes: number | undefined,
  maxQueuedBytes: number,
  events: WriterEvents,
): PayloadWriter {
  const reservation = new Reservation(file, totalBytes);
  return io === "direct"
    ? new DirectWriter(file, reservation, events)
    : new BufferedWriter(file, reservation, maxQueuedBytes, events);
}

interface TemporaryClock {
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/**
 * Opens the temporary files of snapshots, to be written as `--io` says: with `auto` as `IoChoice` does. Where the file
 * system refuses to be written past the page cache, all of them go through it.
 */
export class PayloadFiles {
  readonly #disk: Disk;
  readonly #clock: TemporaryClock & Pick<Clock, "monotonicMs">;
  readonly #choice: IoChoice | undefined;
  /** What nothing can change. */
  #io: Io | undefined;

  constructor(disk: Disk, clock: Clock, io: Io | "auto") {
    this.#disk = disk;
    this.#clock = clock;
    if (io === "auto") this.#choice = new IoChoice();
    else this.#io = io;
  }

  /**
   * Opens the temporary file of a snapshot in `dir`.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; STOPPED on abort.
   */
  async open(dir: string, signal: AbortSignal): Promise<PayloadFile> {
    const io = this.#io ?? this.#choice?.io;
    const opened = await openTemporary(this.#disk, dir, this.#clock, signal, io);
    if (opened.io !== io) {
      this.#io = opened.io;
      logger.info(
        `the file system of ${dir} refuses direct I/O: snapshots are written through the page cache`,
      );
    }
    const choice = this.#choice;
    if (choice === undefined || this.#io !== undefined) return opened;
    const nowMs = () => this.#clock.monotonicMs();
    const meter = new Meter(nowMs, (transfer) => {
      const change = choice.took(opened.io, transfer);
      if (change !== undefined) logger.info(change);
    });
    return { ...opened, meter };
  }
}
