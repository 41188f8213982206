import { logger } from "../../base/logger.ts";
import type { Offset } from "../../base/history.ts";
import { counted } from "../../base/quantity.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import { closeQuietly, type Disk, diskError } from "../disk/disk.ts";
import { OpenFile } from "../disk/open-file.ts";
import type { Generation, Ledger } from "../ledger/ledger.ts";
import { countsPastLastMark, currentBootId, type Trust } from "../ledger/trust.ts";
import { offsetOfByte, fileByteOf } from "./layout.ts";
import type { StreamLog } from "./stream-log.ts";

/** How much of the log past its last mark a start reads for its checksum, in pieces. */
const MAX_UNMARKED_BYTES = 64 * 1024 * 1024;
/** How much of it a start writes again: more than comes while a sync is waited for. */
const MAX_AGAIN_BYTES = 1024 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;

/** The cursors of a log before it is written again. */
export interface RecoveredLog {
  readonly writtenOffset: Offset;
  readonly durableOffset: Offset;
  /** The bytes that no mark covers yet: after a kill, those past the last mark. */
  readonly unmarked: { readonly fromOffset: Offset; readonly crc: Crc64 };
}

export interface RecoveryOptions {
  readonly disk: Disk;
  readonly ledger: Ledger;
  readonly logPath: (id: number) => string;
  /** @throws ReplicaError DIRECTORY_LOST once the data directory was moved or removed. */
  readonly refuseLost: () => void;
  /** Records a cut for people who look later. @throws ReplicaError of the ledger. */
  readonly onCutBack: (what: string) => void;
}

/**
 * Decides how much of a log counts after a crash. After a kill, all of it: the kernel has every byte that
 * was written. After a power cut, a clean stop or a failed fsync, what the last mark covers; the rest is
 * cut off.
 */
export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #bootId = currentBootId();
  #trust: Trust | undefined;
  /** The last cut: one at the same place is no news, however often a full disk fails the log there. */
  #cut: { readonly id: number; readonly offset: Offset } | undefined;

  /** @throws ReplicaError of the ledger. */
  constructor(options: RecoveryOptions) {
    this.#options = options;
    this.#trust = options.ledger.trust();
  }

  get #onlyMarksCount(): boolean {
    return !countsPastLastMark(this.#trust, this.#bootId);
  }

  /** What the ledger is to hold while this process follows. */
  get running(): Trust {
    return { kind: "running", bootId: this.#bootId };
  }

  /** A promotion has committed `running`. */
  promoted(): void {
    this.#trust = this.running;
  }

  #setTrust(trust: Trust): void {
    this.#options.ledger.setTrust(trust);
    this.#trust = trust;
  }

  /** The last durable offset of a generation: its last mark's. */
  durableOffset(generation: Generation): Offset {
    return this.#options.ledger.lastMark(generation.id)?.durableOffset ?? generation.baseOffset;
  }

  /** The offset at which a generation's log would be opened; nothing is changed. @throws ReplicaError. */
  endOf(generation: Generation): Offset {
    if (this.#onlyMarksCount) return this.durableOffset(generation);
    const path = this.#options.logPath(generation.id);
    try {
      return offsetOfByte(generation, this.#options.disk.sizeOf(path));
    } catch (cause) {
      throw diskError("checking", path, cause);
    }
  }

  /**
   * Cuts a generation's log back to its last mark where only marks count, and returns its cursors.
   * @throws ReplicaError of the ledger; Error of the disk.
   */
  async recover(generation: Generation): Promise<RecoveredLog> {
    const { disk, ledger, logPath } = this.#options;
    const path = logPath(generation.id);
    // A kill, or the disk, may have kept the last mark from being synced: it counts from now on.
    await ledger.sync();
    const durableOffset = this.durableOffset(generation);
    if (this.#onlyMarksCount) {
      this.#cutBack(generation, durableOffset);
      // After the cut: a start that ends before it must cut again.
      this.#setTrust(this.running);
    }
    const writtenOffset = offsetOfByte(generation, disk.sizeOf(path));
    const crc = new Crc64();
    // A log that was never synced may have any length: one too long stays without a checksum.
    const unmarkedBytes = writtenOffset - durableOffset;
    const isSummed = unmarkedBytes <= MAX_UNMARKED_BYTES;
    if (unmarkedBytes > 0 && unmarkedBytes <= MAX_AGAIN_BYTES) {
      const from = fileByteOf(generation, durableOffset);
      const to = fileByteOf(generation, writtenOffset);
      await this.#takeOver(path, from, to, isSummed ? crc : undefined);
    }
    const fromOffset = isSummed ? durableOffset : writtenOffset;
    return { writtenOffset, durableOffset, unmarked: { fromOffset, crc } };
  }

  /**
   * Sums what no mark covers, and writes it over itself. A sync of it may have failed amid a kill: the kernel reports that
   * to the process that is gone, takes the pages for written, and no later sync would write them.
   */
  async #takeOver(path: string, from: number, to: number, crc: Crc64 | undefined): Promise<void> {
    const { disk } = this.#options;
    const file = OpenFile.openExisting(disk, path);
    try {
      const fd = disk.openToRead(path);
      try {
        for (let at = from; at < to;) {
          const room = new Uint8Array(Math.min(READ_BYTES, to - at));
          const bytes = await disk.read(fd, room, at);
          if (bytes === 0) throw new Error("the file became shorter while it was read");
          const piece = room.subarray(0, bytes);
          crc?.update(piece);
          await writeAgain(file, piece, at);
          at += bytes;
        }
      } finally {
        closeQuietly(disk, fd);
      }
    } finally {
      file.closeQuietly();
    }
  }

  #cutBack(generation: Generation, durableOffset: Offset): void {
    const { disk, logPath, onCutBack } = this.#options;
    const path = logPath(generation.id);
    const durableBytes = fileByteOf(generation, durableOffset);
    const cutBytes = disk.sizeOf(path) - durableBytes;
    disk.truncate(path, durableBytes);
    if (cutBytes === 0) return;
    const what = `the log is cut back to its last mark, offset ${durableOffset}: what came after it (${counted(cutBytes, "byte")}) was never durable`;
    const { id } = generation;
    const isAgain = this.#cut?.id === id && this.#cut.offset === durableOffset;
    this.#cut = { id, offset: durableOffset };
    if (isAgain) return logger.debug(what);
    logger.warn(what);
    onCutBack(what);
  }

  /**
   * A write or an fsync of the log failed: from now on only marks count, and a kill before the cut must not
   * make the next start trust the rest.
   */
  distrust(): void {
    this.#trust = { kind: "distrusted" };
    try {
      this.#options.ledger.setTrust(this.#trust);
    } catch {
      // The disk that failed the log may fail this too: the cut that follows has the same effect.
    }
  }

  /** Cuts off what no mark covers, after `distrust`; the log must be closed. Where that fails, `recover` does it. */
  cutDistrusted(generation: Generation): void {
    if (!this.#onlyMarksCount) return;
    try {
      this.#options.refuseLost();
      this.#cutBack(generation, this.durableOffset(generation));
    } catch (cause) {
      const path = this.#options.logPath(generation.id);
      logger.warn(diskError("cutting back", path, cause).message);
    }
  }

  /**
   * A log was closed for good. Where marks cover all of it, bytes past them that the next start finds are
   * someone else's. Otherwise the next start keeps them, as after a kill.
   */
  stopped({ durableOffset, writtenOffset }: StreamLog): void {
    if (durableOffset !== writtenOffset || this.#onlyMarksCount) return;
    try {
      this.#setTrust({ kind: "stopped" });
    } catch (error) {
      logger.warn(error instanceof Error ? error.message : String(error));
    }
  }
}

async function writeAgain(file: OpenFile, piece: Uint8Array, at: number): Promise<void> {
  try {
    await file.use(() => file.write([piece], at));
  } catch (cause) {
    // A file system that never writes in place may have no room for it, and then nothing could make room.
    if (diskError("writing", file.path, cause).code !== "DISK_FULL") throw cause;
  }
}
