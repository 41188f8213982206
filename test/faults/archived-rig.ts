import * as fs from "node:fs";
import { join } from "node:path";
import { isLeftover, FileStore } from "../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { Archiver } from "../../src/archive/writer/archiver.ts";
import { DirectorySource } from "../../src/archive/writer/directory-source.ts";
import { realClock } from "../../src/base/clock.ts";
import type { Offset } from "../../src/base/history.ts";
import { Random } from "../../src/demo/random.ts";
import { LedgerReader } from "../../src/store/ledger/ledger-reader.ts";
import { PauseClock, readArchive } from "../archive/writer/rig.ts";
import { PowerCutDisk } from "../support/power-cut-disk.ts";
import { until } from "../support/wait.ts";
import { HEADER, type Mode, type Promised, Rig, stream } from "./power-cut-rig.ts";

/** The most turns of the event loop between two pieces of the stream. */
const MOST_TURNS = 12;
/** The most turns that a slow sync takes. */
const SLOW_SYNC_TURNS = 2_000;

/** A disk on which a sync of the database sometimes takes so long that an object is stored meanwhile. */
export class SlowSyncDisk extends PowerCutDisk {
  readonly #turns: Random;
  readonly #database = new Set<number>();

  constructor(root: string, databaseDir: string, seed: number) {
    super(root, databaseDir, seed);
    this.#turns = new Random(seed);
  }

  override openExisting(path: string): number {
    const fd = super.openExisting(path);
    if (path.includes("replica.db")) this.#database.add(fd);
    return fd;
  }

  override close(fd: number): void {
    this.#database.delete(fd);
    super.close(fd);
  }

  override async syncData(fd: number): Promise<void> {
    if (this.#database.has(fd) && this.#turns.below(4) === 0)
      for (let left = this.#turns.below(SLOW_SYNC_TURNS); left > 0; left--) await nextTurn();
    await super.syncData(fd);
  }
}

/** The archive in a disk's root. */
export const archiveIn = (root: string): string => join(root, "archive");

/**
 * The replica's side of a link, with an archiver that carries what is kept to a folder of the same disk. Which of its
 * calls come between which of the replica's is up to the thread pool: what must hold, holds in any order.
 */
export class ArchivedRig extends Rig {
  readonly archiver: Archiver;
  readonly #clock: PauseClock;
  readonly #ledger: LedgerReader;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #failure: unknown;
  /** What was durable at its end. A mark whose sync failed may be there, too; it counts from the next start on. */
  durableAtEnd: Offset | undefined;

  constructor(root: string, path: string, disk: PowerCutDisk, mode: Mode, before?: Promised) {
    super(path, disk, mode, before);
    this.#clock = new PauseClock(disk.syncs + 1);
    this.#ledger = new LedgerReader(join(path, "replica.db"));
    const store = new FileStore(archiveIn(root), disk, this.#clock);
    this.archiver = new Archiver({
      store,
      // The root of a disk after a cut has another name.
      archive: "file:///archive",
      source: new DirectorySource(this.directory, this.#ledger, this.#clock),
      disk,
      clock: this.#clock,
      writer: { codec: "none", encryption: undefined },
      everyMs: 1_000,
      program: "replica 0.1.0",
      onMoved: () => this.directory.holdings.onArchived(),
    });
    this.directory.holdings.carrier = this.archiver;
    this.directory.keeping.archived = this.archiver;
    this.#running = this.archiver.run(this.#stop.signal).catch((error: unknown) => {
      this.#failure = error;
    });
  }

  protected override async between(random: Random): Promise<void> {
    if (random.below(12) === 0) await this.whole();
    else for (let left = random.below(MOST_TURNS); left > 0; left--) await nextTurn();
    this.#throwFailure();
  }

  override async close(): Promise<void> {
    // As the program does: what the last sync made durable may be archived still.
    await this.keeper.close();
    this.durableAtEnd = this.directory.durableOffset;
    await this.whole();
    this.#stop.abort(new Error("the test stops it"));
    await this.#running;
    this.#throwFailure();
    this.#ledger[Symbol.dispose]();
    this.directory.close();
  }

  /** Resolves once the archive lacks nothing that is durable. */
  async whole(): Promise<void> {
    const isWhole = () => {
      this.#throwFailure();
      const { lagBytes, lagBaseBytes } = this.archiver.status();
      if (lagBytes + lagBaseBytes === 0) return this.#clock.waiting > 0;
      // As the program does each second: the last mark of a pause is settled by that.
      this.keeper.tick();
      return false;
    };
    await until(isWhole, { what: "the archive to be whole", everyMs: 1 });
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Up to where an archive holds each generation of a data directory, by its number. */
export type ArchivedEnds = ReadonlyMap<
  number,
  { readonly end: Offset; readonly isSealed: boolean }
>;

/**
 * Reads the archive that a cut has left.
 * @throws Error where it holds what is no beginning of the primary's history.
 */
export async function archivedEnds(root: string, promised: Promised): Promise<ArchivedEnds> {
  const store = new FileStore(archiveIn(root), realFolderDisk, realClock);
  const ends = new Map<number, { end: Offset; isSealed: boolean }>();
  for (const read of await readArchive(store)) {
    const { document, base, log, sealed } = read;
    const id = document.lineage!.generation;
    if (read.baseDocument === undefined) {
      if (log.length > 0 || sealed !== undefined)
        throw new Error(`${read.name} has more than pieces, but no base.json`);
      continue;
    }
    const { baseOffset } = document;
    const snapshot = promised.snapshots.get(id);
    if (snapshot === undefined || !base.equals(snapshot.rdb) || snapshot.baseOffset !== baseOffset)
      throw new Error(`${read.name} is not the snapshot of generation ${id}`);
    const end = baseOffset + Math.max(0, log.length - HEADER.length);
    const wanted = Buffer.concat([HEADER, stream(baseOffset, end)]);
    if (log.length > 0 && !log.equals(wanted))
      throw new Error(`${read.name} is no beginning of the stream`);
    if (sealed !== undefined && sealed.endOffset !== end)
      throw new Error(`${read.name} is sealed at ${sealed.endOffset}, and ends at ${end}`);
    const before = ends.get(id);
    if (before === undefined || before.end < end)
      ends.set(id, { end, isSealed: sealed !== undefined });
  }
  return ends;
}

/** Files that a cut has left have other inodes than before: what remembers its own is told. */
export function tellInodes(path: string): void {
  const generations = join(path, "generations");
  if (!fs.existsSync(generations)) return;
  for (const name of fs.readdirSync(generations)) {
    const file = join(generations, name, "archive.jsonl");
    if (!fs.existsSync(file)) continue;
    const [head = "", ...lines] = fs.readFileSync(file, "utf8").split("\n");
    const { ino, birthtimeNs } = fs.lstatSync(file, { bigint: true });
    const told = head.replace(/"file":"\d+\.\d+"/, `"file":"${ino}.${birthtimeNs}"`);
    fs.writeFileSync(file, [told, ...lines].join("\n"));
  }
}

/** What no reader counts in the folders of an archive. */
export function leftoversIn(root: string): string[] {
  const found = fs.readdirSync(archiveIn(root), { recursive: true, encoding: "utf8" });
  return found.filter((name) => isLeftover(name.split("/").at(-1)!));
}
