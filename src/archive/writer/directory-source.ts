import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import type { GenerationRecord, LedgerReader } from "../../store/ledger/ledger-reader.ts";
import type { ArchiveSource, LocalGeneration, LocalMark } from "./archive-source.ts";

/** In a generation's folder: where it is archived. */
const MEMORY_FILE = "archive.jsonl";

/** What is read of `replica.db`. */
export type LedgerView = Pick<
  LedgerReader,
  "generations" | "markRange" | "momentOf" | "momentsFrom" | "replicationIds"
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
  /** Sealed generations that were looked at: nothing of them changes, and there may be a thousand. */
  readonly #sealed = new Map<number, LocalGeneration>();

  constructor(directory: DirectoryView, ledger: LedgerView, clock: Pick<Clock, "now">) {
    this.#directory = directory;
    this.#ledger = ledger;
    this.#clock = clock;
  }

  get isCertain(): boolean {
    return this.#directory.holdings.isCertain;
  }

  async ascertain(): Promise<void> {
    await this.#directory.holdings.ascertain();
  }

  generations(
    isLeftOut: (id: number) => boolean = () => false,
    most = Infinity,
  ): readonly LocalGeneration[] {
    const found: LocalGeneration[] = [];
    const records = this.#ledger.generations();
    this.#forgetRemoved(records);
    for (const record of records) {
      if (found.length >= most) break;
      const generation = isLeftOut(record.id) ? undefined : this.#lookAt(record);
      if (generation !== undefined) found.push(generation);
    }
    return found;
  }

  #forgetRemoved(records: readonly GenerationRecord[]): void {
    const ids = new Set(records.map(({ id }) => id));
    for (const id of this.#sealed.keys()) if (!ids.has(id)) this.#sealed.delete(id);
  }

  #lookAt(record: GenerationRecord): LocalGeneration | undefined {
    const { id } = record;
    // While its log is being closed, a last mark of it may come.
    const isSealed = record.state === "sealed" && !this.#directory.holdings.isOpen(id);
    const known = isSealed ? this.#sealed.get(id) : undefined;
    if (known !== undefined) return known;
    const generation = this.#generation(record, isSealed);
    if (isSealed && generation !== undefined) this.#sealed.set(id, generation);
    return generation;
  }

  #generation(record: GenerationRecord, isSealed: boolean): LocalGeneration | undefined {
    const { id, sealedReason, baseOffset } = record;
    const range = this.#ledger.markRange(id);
    // Its marks are being deleted.
    if (range === undefined) return undefined;
    const { first, last } = range;
    const durableOffset = Math.max(baseOffset, this.#durableOffset(id) ?? range.durableOffset);
    const settledOffset = this.#directory.holdings.settledOffset(id) ?? durableOffset;
    return {
      ...record,
      startedMs: first.atMs,
      durableOffset,
      settledOffset: Math.min(durableOffset, settledOffset),
      sealed: isSealed ? { atMs: last.atMs, reason: sealedReason ?? "" } : undefined,
      ...this.#pathsOf(id),
    };
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
      settledOffset: position.offset,
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
    if (most === 1) return this.#firstMark(id, from, to);
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

  /** A page of marks takes several times as long as a search for one, and one is asked for each second. */
  #firstMark(id: number, from: Offset, to: Offset): LocalMark[] {
    const first = this.#ledger.momentOf(id, from);
    return first === undefined || first.offset > to
      ? []
      : [{ timeMs: first.atMs, offset: first.offset }];
  }

  settle(id: number, offset: Offset): void {
    this.#directory.holdings.settle(id, offset);
  }

  histories(id: number): readonly ReplicationIdFrom[] {
    return this.#ledger.replicationIds(id);
  }

  pin(id: number): () => void {
    return this.#directory.pin(id);
  }
}
