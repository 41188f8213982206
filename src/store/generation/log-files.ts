import type { Offset } from "../../base/history.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import { OpenFile } from "../disk/open-file.ts";
import type { Ledger, Mark } from "../ledger/ledger.ts";
import type { Holdings } from "./holdings.ts";
import type { LogBeginning } from "./layout.ts";
import type { MarkClock, WallClock } from "./mark-clock.ts";
import type { RecoveredLog } from "./recovery.ts";
import { StreamLog, type StreamLogOptions } from "./stream-log.ts";

export type LogCallbacks = Pick<
  StreamLogOptions,
  "fsync" | "maxQueuedBytes" | "onMoved" | "onFailed"
>;

/** `--fsync always` makes hundreds of marks a second: those within this time share one row. */
const SEGMENT_MS = 500;

export interface LogFilesOptions {
  readonly disk: Disk;
  readonly ledger: Ledger;
  readonly clock: WallClock;
  readonly markClock: MarkClock;
  readonly logPath: (id: number) => string;
  /** @throws ReplicaError DIRECTORY_LOST once the data directory was moved or removed. */
  readonly refuseLost: () => void;
  /** Told of each mark that is durable. */
  readonly holdings: Holdings;
}

/** Opens and creates the logs of generations, and commits their marks. */
export class LogFiles {
  readonly #options: LogFilesOptions;
  /** For each log that is open: whether its path still leads to it. */
  readonly #isThere = new Map<number, () => boolean>();

  constructor(options: LogFilesOptions) {
    this.#options = options;
  }

  /** Opens the log of the current generation at its end. @throws Error of the disk. */
  open(
    id: number,
    beginning: LogBeginning,
    recovered: RecoveredLog,
    callbacks: LogCallbacks,
  ): StreamLog {
    const { disk, logPath } = this.#options;
    const file = OpenFile.openExisting(disk, logPath(id));
    try {
      return this.#log(file, id, beginning, { ...recovered, marks: true }, callbacks);
    } catch (cause) {
      file.closeQuietly();
      throw cause;
    }
  }

  /**
   * Creates the log of a generation that isn't current yet: the SELECT, then the stream.
   * @throws ReplicaError DISK_FULL, DISK_FAILED.
   */
  async create(
    id: number,
    baseOffset: Offset,
    header: Uint8Array,
    callbacks: LogCallbacks,
  ): Promise<StreamLog> {
    const { disk, ledger, logPath } = this.#options;
    const path = logPath(id);
    let file: OpenFile | undefined;
    try {
      const created = (file = OpenFile.create(disk, path));
      await created.use(() => created.write([header], 0));
      ledger.lay(id, baseOffset, header.length);
      const beginning = { baseOffset, logHeaderBytes: header.length };
      const at = {
        writtenOffset: baseOffset,
        durableOffset: baseOffset,
        unmarked: { fromOffset: baseOffset, crc: new Crc64() },
        marks: false,
      };
      return this.#log(created, id, beginning, at, callbacks);
    } catch (cause) {
      file?.closeQuietly();
      throw diskError("creating the log", path, cause);
    }
  }

  #log(
    file: OpenFile,
    id: number,
    beginning: LogBeginning,
    at: RecoveredLog & { readonly marks: boolean },
    callbacks: LogCallbacks,
  ): StreamLog {
    const { disk, clock, holdings } = this.#options;
    let segmentBeganAtMs = clock.now();
    this.#isThere.set(id, file.watch());
    const log = new StreamLog(disk, file, {
      ...callbacks,
      ...beginning,
      ...at,
      monotonicMs: () => performance.now(),
      commitMark: (writtenOffset, durableOffset, segment) =>
        this.#mark(id, { writtenOffset, durableOffset, segment }),
      onSettled: () => holdings.settled(id),
      onClosed: () => holdings.closed(id, log),
      segmentEnds: () => {
        const sinceMs = clock.now() - segmentBeganAtMs;
        if (sinceMs >= 0 && sinceMs < SEGMENT_MS) return false;
        segmentBeganAtMs += sinceMs;
        return true;
      },
    });
    holdings.opened(id, log);
    return log;
  }

  async #mark(id: number, mark: Omit<Mark, "atMs">): Promise<void> {
    const { ledger, markClock, refuseLost, holdings } = this.#options;
    const made = await ledger.durably(() => {
      refuseLost();
      const made = { atMs: markClock.now(), ...mark };
      ledger.mark(id, made);
      return made;
    });
    holdings.add(id, made);
  }

  /** Makes durable what is written of a log that isn't current yet. @throws ReplicaError DISK_FULL, DISK_FAILED. */
  async sync(id: number): Promise<void> {
    const { disk, logPath } = this.#options;
    const path = logPath(id);
    try {
      const fd = disk.openExisting(path);
      try {
        await disk.syncData(fd);
      } finally {
        disk.close(fd);
      }
    } catch (cause) {
      throw diskError("syncing", path, cause);
    }
  }

  /** Whether the path of an open log now leads somewhere else. @throws ReplicaError DISK_FAILED. */
  isMoved(id: number): boolean {
    return this.#isThere.get(id)?.() === false;
  }

  /** Forgets the logs of all other generations. */
  keepOnly(id: number): void {
    for (const other of this.#isThere.keys()) {
      if (other !== id) this.#isThere.delete(other);
    }
  }
}
