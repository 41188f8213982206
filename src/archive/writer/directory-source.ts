import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import type { LedgerReader } from "../../store/ledger/ledger-reader.ts";
import type { ArchiveSource, LocalGeneration, LocalMark } from "./archive-source.ts";

/** In a generation's folder: where it is archived. */
const MEMORY_FILE = "archive.jsonl";

/** What is read of `replica.db`. */
export type LedgerView = Pick<
  LedgerReader,
  "generations" | "markRange" | "momentsFrom" | "replicationIds"
>;

/** What is asked of the data directory: its files, and what is durable of the log that is followed. */
export type DirectoryView = Pick<
  DataDirectory,
  "current" | "durableOffset" | "generationDir" | "basePath" | "logPath" | "pin" | "holdings"
>;

/** The generations of a data directory, for the archiver. */
export class DirectorySource implements ArchiveSource {
  readonly #directory: DirectoryView;
  readonly #ledger: LedgerView;
  readonly #clock: Pick<Clock, "now">;

  constructor(directory: DirectoryView, ledger: LedgerView, clock: Pick<Clock, "now">) {
    this.#directory = directory;
    this.#ledger = ledger;
    this.#clock = clock;
  }

  generations(): readonly LocalGeneration[] {
    return this.#ledger.generations().flatMap((record) => {
      const { id, state, sealedReason, baseOffset } = record;
      const range = this.#ledger.markRange(id);
      // Its marks are being deleted.
      if (range === undefined) return [];
      const { first, last } = range;
      // While its log is being closed, a last mark of it may come.
      const isSealed = state === "sealed" && !this.#directory.holdings.isOpen(id);
      return {
        ...record,
        startedMs: first.atMs,
        durableOffset: Math.max(baseOffset, this.#durableOffset(id) ?? range.durableOffset),
        sealed: isSealed ? { atMs: last.atMs, reason: sealedReason ?? "" } : undefined,
        ...this.#pathsOf(id),
      };
    });
  }

  arriving(): LocalGeneration | undefined {
    const { holdings, current } = this.#directory;
    const { arriving } = holdings;
    if (arriving === undefined || arriving.id === current?.id) return undefined;
    const { id, primaryName, position, writer } = arriving;
    return {
      id,
      arriving: position.replid,
      startedMs: this.#clock.now(),
      primaryName,
      baseOffset: position.offset,
      durableOffset: position.offset,
      rdbBytes: writer.syncedBytes,
      rdbCrc64: "",
      logHeaderBytes: 0,
      sealed: undefined,
      ...this.#pathsOf(id),
      basePath: writer.path,
    };
  }

  #pathsOf(id: number): Pick<LocalGeneration, "basePath" | "logPath" | "memoryPath"> {
    return {
      basePath: this.#directory.basePath(id),
      logPath: this.#directory.logPath(id),
      memoryPath: join(this.#directory.generationDir(id), MEMORY_FILE),
    };
  }

  /** A mark that was read may not be synced yet: of the log that is followed, the directory knows what is. */
  #durableOffset(id: number): Offset | undefined {
    const { current, durableOffset } = this.#directory;
    return current?.id === id ? durableOffset : undefined;
  }

  marks(id: number, from: Offset, to: Offset, most: number): readonly LocalMark[] {
    const found: LocalMark[] = [];
    for (let next = from; found.length < most;) {
      const page = this.#ledger.momentsFrom(id, next);
      for (const { atMs, offset } of page) {
        if (offset > to || found.length === most) return found;
        found.push({ timeMs: atMs, offset });
      }
      const last = page.at(-1);
      if (last === undefined) break;
      next = Math.max(next, last.offset) + 1;
    }
    return found;
  }

  histories(id: number): readonly ReplicationIdFrom[] {
    return this.#ledger.replicationIds(id);
  }

  pin(id: number): () => void {
    return this.#directory.pin(id);
  }
}
