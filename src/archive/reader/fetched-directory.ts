import { dirname, join } from "node:path";
import type { Offset, ReplicationId } from "../../base/history.ts";
import { hex64 } from "../../base/hex64.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import type { RdbSummary } from "../../rdb/checker.ts";
import { type Disk, writeWhole } from "../../store/disk/disk.ts";
import { CurrentLink } from "../../store/generation/current-link.ts";
import { DATABASE, filesOf, generationPath } from "../../store/generation/layout.ts";
import { FETCHED } from "../../store/ledger/keep-tables.ts";
import { Ledger, type Mark } from "../../store/ledger/ledger.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import { currentBootId } from "../../store/ledger/trust.ts";
import type { SegmentHeader } from "../format/objects.ts";
import type { GenerationHead } from "./generation-head.ts";

/** The number of the first generation in a folder that was fetched; of the only one, mostly. */
export const FETCHED_ID = 1;

/** How many marks are committed at once. */
const MARKS_AT_ONCE = 4_000;

/** A generation of a folder that is being fetched: where its files are. */
export interface FetchedFiles {
  readonly dir: string;
  readonly base: string;
  readonly log: string;
}

/** Where a generation of a data directory lies. */
export function fetchedFiles(root: string, id: number): FetchedFiles {
  const dir = join(root, generationPath(id));
  const { base, log } = filesOf({ id, dir });
  return { dir, base, log };
}

/** A data directory that is being fetched: its database, and the link once all is there. */
export class FetchedDirectory {
  readonly disk: Disk;
  readonly root: string;
  readonly ledger: Ledger;
  #isClosed = false;

  /** @param root a new folder. @throws ReplicaError of the database. */
  constructor(disk: Disk, root: string) {
    this.disk = disk;
    this.root = root;
    this.ledger = new Ledger(join(root, DATABASE), disk, true);
  }

  /**
   * Ends the folder, durably but for its own name.
   * @param currentId the newest generation's number.
   * @throws ReplicaError DISK_FULL, DISK_FAILED, of the database.
   */
  async finish(currentId: number): Promise<void> {
    new CurrentLink(this.disk, this.root).pointAt(currentId);
    await this.disk.syncDir(dirname(fetchedFiles(this.root, currentId).dir));
    this.close();
    await this.disk.syncDir(this.root);
  }

  /** Closes the database. */
  close(): void {
    if (!this.#isClosed) this.ledger.close();
    this.#isClosed = true;
  }
}

/**
 * Writes what a data directory has beside the base and the log of a generation: the marks and the histories that the
 * segments tell, and the manifest. Each generation seals the one that was written before it.
 */
export class FetchedGeneration {
  readonly #directory: FetchedDirectory;
  readonly #ledger: Ledger;
  readonly #id: number;
  readonly #head: GenerationHead;
  readonly #marks: Mark[] = [];
  /** Where the last mark's bytes end, when it was, and the checksum of the bytes since. */
  #marked: Offset;
  #lastMs: number;
  #crc = new Crc64();
  /** The marks of the segment that are to come. */
  #coming: SegmentHeader["marks"] = [];
  #end: Offset;

  /** @param id its number, above those of the ones before it; its folder is there. */
  constructor(directory: FetchedDirectory, id: number, head: GenerationHead) {
    this.#directory = directory;
    this.#ledger = directory.ledger;
    this.#id = id;
    this.#head = head;
    this.#marked = this.#end = head.description.baseOffset;
    this.#lastMs = Date.parse(head.base.finished);
  }

  /** Records the snapshot. @param at when it was all there was. @throws ReplicaError of the database. */
  async keep(rdb: RdbSummary, streamDb: number, logHeaderBytes: number, at: Moment): Promise<void> {
    const { description, base } = this.#head;
    const { baseOffset, replid, primary } = description;
    this.#lastMs = at.atMs;
    await this.#ledger.durably(() => {
      this.#ledger.begin(primary, Date.parse(description.started), this.#id);
      this.#ledger.recent.event(FETCHED, String(this.#id), Date.now());
      this.#ledger.lay(this.#id, baseOffset, logHeaderBytes);
      const kept = {
        replid: replid as ReplicationId,
        baseOffset,
        streamDb,
        rdbBytes: base.rdbBytes,
        rdbCrc64: hex64(rdb.crc64),
        rdbChecked: rdb.checked,
        logHeaderBytes,
        firstDatabase: rdb.firstDatabase,
      };
      this.#ledger.promote(this.#id, kept, {
        sealReason: "a newer snapshot took its place",
        atMs: at.atMs,
        // What lies past the last mark isn't the archive's.
        trust: { kind: "stopped" },
        continued: undefined,
        worth: { guarded: undefined, smallBeside: undefined, well: [] },
        lived: { livedMs: at.atMs, bootId: currentBootId(), uptimeMs: 0 },
      });
    });
  }

  /** Records the histories of the next segment, whose bytes come next. @throws ReplicaError of the database. */
  begin({ histories, marks }: SegmentHeader): void {
    for (const { replid, fromOffset } of histories)
      this.#ledger.addReplicationId(this.#id, replid as ReplicationId, fromOffset);
    this.#coming = marks;
  }

  /**
   * Records the marks that lie in the next bytes of a segment.
   * @param data bytes of the stream, without the SELECT. @throws ReplicaError of the database.
   */
  async add(data: Uint8Array): Promise<void> {
    const from = this.#end;
    const to = from + data.length;
    const behind = this.#coming.findIndex(({ offset }) => offset > to);
    const within = behind === -1 ? this.#coming : this.#coming.slice(0, behind);
    this.#coming = this.#coming.slice(within.length);
    for (const { timeMs, offset } of within) {
      this.#sum(data, from, offset);
      this.#mark(timeMs, offset);
    }
    this.#sum(data, from, to);
    if (this.#marks.length >= MARKS_AT_ONCE) await this.#commit();
  }

  #sum(data: Uint8Array, from: Offset, to: Offset): void {
    this.#crc.update(data.subarray(this.#end - from, to - from));
    this.#end = to;
  }

  #mark(atMs: number, offset: Offset): void {
    const segment =
      offset > this.#marked ? { fromOffset: this.#marked, crc64: this.#crc.value } : undefined;
    this.#marks.push({ atMs, writtenOffset: offset, durableOffset: offset, segment });
    [this.#lastMs, this.#marked, this.#crc] = [atMs, offset, new Crc64()];
  }

  async #commit(): Promise<void> {
    const marks = this.#marks.splice(0);
    await this.#ledger.durably(() => {
      for (const mark of marks) this.#ledger.mark(this.#id, mark);
    });
  }

  /**
   * Ends the generation, durably but for its folder's own name.
   * @param endMs a time when the log's last byte was there; undefined where no mark tells one.
   * @throws ReplicaError DISK_FULL, DISK_FAILED, of the database.
   */
  async finish(endMs: number | undefined): Promise<void> {
    // What was archived after the last mark came later than that, and when is unknown.
    if (this.#end > this.#marked) this.#mark(endMs ?? this.#lastMs + 1, this.#end);
    await this.#commit();
    const { disk, root } = this.#directory;
    const { dir } = fetchedFiles(root, this.#id);
    const { manifest, manifestText } = filesOf({ id: this.#id, dir });
    await writeWhole(disk, manifest, new TextEncoder().encode(manifestText));
  }
}
