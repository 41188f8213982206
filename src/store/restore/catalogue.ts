import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { diskError } from "../disk/disk.ts";
import { lostIds } from "../generation/consistency.ts";
import { linkTarget } from "../generation/current-link.ts";
import { CURRENT, DATABASE, GENERATIONS, generationPath } from "../generation/layout.ts";
import { CLOCK_SET_BACK_MS } from "../generation/mark-clock.ts";
import {
  type GenerationRecord,
  type KnownSegment,
  LedgerReader,
  type Moment,
} from "../ledger/ledger-reader.ts";
import { walDamage } from "../ledger/wal.ts";
import type { Damage } from "./damage.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { generationsFromFiles } from "./without-database.ts";

/**
 * What a data directory holds, read without changing it: while a replica runs on it, or on a copy, with
 * its database or without.
 */
export class Catalogue implements Disposable {
  readonly path: string;
  /** Oldest first. */
  readonly generations: readonly KeptGeneration[];
  /** What is lost of the database, and what that means for a restore. */
  readonly losses: readonly Damage[];
  /** A generation that the link points at though it hasn't become current: see `cutShortNote`. */
  readonly cutShort: number | undefined;
  /** Undefined where the database is lost. */
  readonly #ledger: LedgerReader | undefined;

  /**
   * @throws ReplicaError USAGE for a folder that is not a data directory, DIRECTORY_TOO_NEW,
   * DIRECTORY_DAMAGED for a database that can't be read, DISK_FAILED.
   */
  constructor(dir: string) {
    this.path = resolve(dir);
    if (!isFolder(join(this.path, GENERATIONS))) {
      throw new ReplicaError("USAGE", {
        retry: "never",
        message: `${dir} isn't a replica data directory: it has no folder named ${GENERATIONS}`,
      });
    }
    const database = join(this.path, DATABASE);
    if (!fs.existsSync(database) || fs.statSync(database).size === 0) {
      const { generations, unreadable } = generationsFromFiles(this.path);
      this.generations = generations;
      const meaning =
        "offsets are read from the files instead; times and the log's checksums are gone, so restore with --offset, not --at";
      this.losses = [
        { file: database, byte: undefined, what: "it is missing or empty", meaning },
        ...unreadable,
      ];
      return;
    }
    const ledger = new LedgerReader(database);
    try {
      this.generations = ledger.generations().map((record) => this.#keptGeneration(ledger, record));
      const lost = this.#lostRows(ledger, database);
      this.losses = [...walLosses(database), ...lost];
      this.cutShort = lost.length === 0 ? cutShortId(this.path, ledger) : undefined;
    } catch (cause) {
      ledger[Symbol.dispose]();
      throw diskError("reading", this.path, cause);
    }
    this.#ledger = ledger;
  }

  #keptGeneration(ledger: LedgerReader, record: GenerationRecord): KeptGeneration {
    const marks = ledger.markRange(record.id);
    return {
      ...record,
      dir: join(this.path, generationPath(record.id)),
      sealedReason: record.sealedReason ?? undefined,
      durableOffset: marks?.durableOffset ?? record.baseOffset,
      first: marks?.first,
      last: marks?.last,
      replicationIds: ledger.replicationIds(record.id),
    };
  }

  /** As a start judges it, which refuses what would remove such a folder. */
  #lostRows(ledger: LedgerReader, file: string): Damage[] {
    const look = () => lostIds(this.path, ledger, currentOf(ledger.generations()));
    const meaning = `nothing of it can be restored unless ${DATABASE} and its -wal are moved away`;
    // Looked at once more: a replica that runs may have made it current in between.
    const lost = look().length === 0 ? [] : look();
    return lost.map((id) => ({
      file,
      byte: undefined,
      what: `it has lost the record of generation ${id}, whose folder is whole`,
      meaning,
    }));
  }

  /**
   * Whether no replica has run since `before` was read earlier: the last one stopped with its whole log
   * covered by marks, and the generation is still current and ends where it did.
   */
  isAtRest(before: KeptGeneration): boolean {
    const now = this.generations.find(({ id }) => id === before.id);
    const isSame = now?.state === "current" && now.durableOffset === before.durableOffset;
    return this.#ledger?.trust?.kind === "stopped" && isSame;
  }

  /** The earliest time of a generation's marks: not the first one's where the clock was set back. */
  earliestMs(id: number): number | undefined {
    return this.#ledger?.earliestMs(id);
  }

  /** The last moment of a generation that is not after `atMs`; undefined before all of them. */
  momentBefore(id: number, atMs: number): Moment | undefined {
    return this.#ledger?.momentBefore(id, atMs);
  }

  /** The first moment at which a generation's log held `offset`; undefined where no mark covers it. */
  momentOf(id: number, offset: Offset): Moment | undefined {
    return this.#ledger?.momentOf(id, offset);
  }

  /** Some moments of a generation, in the order of its log, from the first on at which it held `offset`. */
  momentsFrom(id: number, offset: Offset): readonly Moment[] {
    return this.#ledger?.momentsFrom(id, offset) ?? [];
  }

  /** The parts of a generation's log that have a checksum, in the order of the log. */
  *segments(id: number): Generator<KnownSegment> {
    if (this.#ledger !== undefined) yield* this.#ledger.segments(id);
  }

  /**
   * What is wrong with the database by itself, whatever the files are like; empty where it is sound.
   * @throws ReplicaError of the database; the signal's reason.
   */
  async databaseComplaints(signal: AbortSignal): Promise<string[]> {
    if (this.#ledger === undefined) return [];
    const complaints = this.#ledger.integrityComplaints();
    for (const some of this.#ledger.markComplaints(CLOCK_SET_BACK_MS)) {
      complaints.push(...some);
      // A signal is only seen between turns.
      await Bun.sleep(0);
      signal.throwIfAborted();
    }
    return complaints;
  }

  [Symbol.dispose](): void {
    this.#ledger?.[Symbol.dispose]();
  }
}

/** Whether a data directory no longer keeps a generation: a running replica may have removed it. */
export function isGone(path: string, id: number): boolean {
  using now = new Catalogue(path);
  return now.generations.every((generation) => generation.id !== id);
}

function currentOf<Kept extends { readonly state: string }>(
  all: readonly Kept[],
): Kept | undefined {
  return all.find(({ state }) => state === "current");
}

/** The generation whose last step began and was not finished: the link comes before the row. */
function cutShortId(path: string, ledger: LedgerReader): number | undefined {
  const target = linkTarget(path);
  return ledger
    .unfinished()
    .find(({ id, sealedAtMs }) => sealedAtMs === null && generationPath(id) === target)?.id;
}

/** What to tell of a generation that was cut short: nothing is damaged. Undefined where there is none. */
export function cutShortNote({ cutShort, generations }: Catalogue): string | undefined {
  if (cutShort === undefined) return undefined;
  const current = currentOf(generations);
  const [counts, next] =
    current === undefined
      ? ["no generation is current yet", "removes the link"]
      : [`generation ${current.id} is the current one`, "points the link at it"];
  return `generation ${cutShort} has not become current, though the link ${CURRENT} points at it: its last step was cut short, or is taken right now; nothing is damaged: ${counts}, and the next start ${next}`;
}

function isFolder(path: string): boolean {
  try {
    return fs.statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function walLosses(database: string): Damage[] {
  const byte = walDamage(database);
  if (byte === undefined) return [];
  const meaning =
    "SQLite drops everything after that byte, the last marks with it: a restore may end before the last durable byte";
  return [{ file: `${database}-wal`, byte, what: "the checksum does not match there", meaning }];
}
