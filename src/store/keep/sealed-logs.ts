import type { Disk } from "../disk/disk.ts";
import type { SealedGeneration } from "../ledger/keep-tables.ts";
import { isBlankLog } from "./blank-log.ts";

export interface SealedLog {
  /** The length of its file. */
  readonly bytes: number;
  /** Whether neither it nor the snapshot before it holds anything. */
  readonly isBlank: boolean;
}

export interface SealedLogsOptions {
  readonly disk: Disk;
  /** The path of a generation's log. */
  readonly logPath: (id: number) => string;
}

/** The logs of sealed generations, each looked at once: it doesn't change any more. */
export class SealedLogs {
  readonly #options: SealedLogsOptions;
  /** By the generation's id. */
  readonly #known = new Map<number, SealedLog>();

  constructor(options: SealedLogsOptions) {
    this.#options = options;
  }

  of({ id, isEmpty: holdsNoKey, logHeaderBytes }: SealedGeneration): SealedLog {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    const { disk, logPath } = this.#options;
    const path = logPath(id);
    let bytes: number;
    try {
      bytes = disk.sizeOf(path);
    } catch {
      // What can't be looked at now gives no room.
      return { bytes: 0, isBlank: false };
    }
    const log = { bytes, isBlank: holdsNoKey && isBlankLog(path, logHeaderBytes) };
    this.#known.set(id, log);
    return log;
  }

  /** The length of a log that was looked at; 0 of another. */
  knownBytes(id: number): number {
    return this.#known.get(id)?.bytes ?? 0;
  }

  /** Forgets all generations but these. */
  forgetOthers(sealed: readonly SealedGeneration[]): void {
    const ids = new Set(sealed.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
  }

  /** Bytes of these logs, as they are now; what can't be looked at counts nothing. */
  bytes(sealed: readonly SealedGeneration[]): number {
    const { disk, logPath } = this.#options;
    return sealed.reduce((sum, { id }) => {
      try {
        return sum + disk.sizeOf(logPath(id));
      } catch {
        return sum;
      }
    }, 0);
  }
}
