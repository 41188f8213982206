import { ReplicaError, usageError } from "../../base/errors.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import type { Damage } from "../../store/restore/damage.ts";
import { ARCHIVE_KEY, GENERATIONS, parseGenerationName } from "../format/names.ts";
import {
  ArchivedLog,
  type ArchivedSegment,
  joinFolders,
  listSegments,
  type LogBeginning,
} from "./archived-log.ts";
import { type ArchiveSource, damageOf, isArchiveDamage } from "./archive-source.ts";
import { type FoundHead, type GenerationHead, readHead } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";

/** A generation that an archive holds. */
export interface ArchivedGeneration extends GenerationHead {
  readonly log: ArchivedLog;
  /** The moments from and to which it can be restored; undefined where no identity reads the times in between. */
  readonly first: Moment | undefined;
  readonly last: Moment | undefined;
}

/** What a description takes in memory: some hundred bytes for each of its pieces. */
const HEAD_BYTES = 1024 * 1024;

/** What the names of a log take in memory: a day has some ten thousand. */
const LOG_BYTES = 8 * 1024 * 1024;

/** What an archive holds, read without changing it, while others write to it. */
export class Archive {
  readonly source: ArchiveSource;
  /** What was found in each generation's folder, oldest first. */
  readonly found: readonly FoundHead[];
  /** What is wrong with the archive beside its generations. */
  readonly damages: readonly Damage[];
  readonly #segments = new Map<string, Promise<ArchivedSegment[]>>();
  /** The generations whose logs were listed a second time. */
  readonly #isRelisted = new Set<string>();

  private constructor(
    source: ArchiveSource,
    found: readonly FoundHead[],
    damages: readonly Damage[],
  ) {
    this.source = source;
    this.found = found;
    this.damages = damages;
  }

  /**
   * Reads what an archive holds: one LIST, and the documents of each generation.
   * @throws ReplicaError USAGE where there is no archive; ARCHIVE_TOO_NEW; of the store; the signal's reason.
   */
  static async open(source: ArchiveSource, signal: AbortSignal): Promise<Archive> {
    const damages: Damage[] = [];
    const meaning = "the format is taken for one that this program reads";
    let isMissing = false;
    try {
      isMissing = (await source.document("archive", ARCHIVE_KEY, signal)) === undefined;
    } catch (error) {
      if (!isArchiveDamage(error)) throw error;
      damages.push(damageOf(source, ARCHIVE_KEY, error, meaning));
    }
    const { folders } = await source.list(GENERATIONS, signal);
    const names = folders.filter((name) => parseGenerationName(name) !== undefined).toSorted();
    if (isMissing && names.length === 0)
      throw usageError(`${source.url} is no archive: it has no ${ARCHIVE_KEY}`);
    if (isMissing) {
      const file = source.placeOf(ARCHIVE_KEY);
      damages.push({ file, byte: undefined, what: "it is missing", meaning });
    }
    const read = async (name: string, stop: AbortSignal) => await readHead(source, name, stop);
    const found: FoundHead[] = [];
    for await (const head of inOrder(names, READ_AHEAD, () => HEAD_BYTES, read, signal))
      found.push(head);
    return new Archive(source, found, damages);
  }

  /** The same generations, whose logs are listed anew. */
  lookingAgain(): Archive {
    return new Archive(this.source, this.found, this.damages);
  }

  /** The generations that can be restored, oldest first. */
  get heads(): readonly GenerationHead[] {
    const whole = this.found.flatMap((one) => (one.kind === "whole" ? [one.head] : []));
    return whole.toSorted(byBeginning);
  }

  /**
   * The segments that may join a generation's log: those in its own folder, and in the folders of others that were
   * written from the same offset of the same history, by another replica. @throws ReplicaError of the store.
   */
  async segmentsFor(head: GenerationHead, signal: AbortSignal): Promise<ArchivedSegment[]> {
    const { replid, baseOffset } = head.description;
    const folders = this.heads.filter(
      ({ description }) => description.replid === replid && description.baseOffset === baseOffset,
    );
    // Its own first: of segments that are the same, these are taken.
    const names = [head.name, ...folders.map(({ name }) => name).filter((n) => n !== head.name)];
    const list = async () =>
      (await Promise.all(names.map((name) => this.ownSegments(name, signal)))).flat();
    const segments = await list();
    if (this.#isRelisted.has(head.name) || !isShort(head, segments)) return segments;
    // A store may list late what was written moments ago.
    this.#isRelisted.add(head.name);
    this.#segments.delete(head.name);
    return await list();
  }

  /** The segments in a generation's own folder. @throws ReplicaError of the store. */
  async ownSegments(name: string, signal: AbortSignal): Promise<ArchivedSegment[]> {
    const known = this.#segments.get(name);
    if (known !== undefined) return await known;
    const listing = listSegments(this.source, name, signal);
    this.#segments.set(name, listing);
    listing.catch(() => this.#segments.delete(name));
    return await listing;
  }

  /**
   * Joins a generation's log. @throws ReplicaError of the store; USAGE where an identity doesn't fit.
   */
  async generation(head: GenerationHead, signal: AbortSignal): Promise<ArchivedGeneration> {
    const { base } = head;
    const segments = await this.segmentsFor(head, signal);
    const log = await ArchivedLog.join(this.source, beginningOf(head), segments, signal);
    const firstMark = await log.first(signal);
    const lastMark = await log.last(signal);
    const isUnread = log.chain.segments.some((segment) => !this.source.canRead(segment.name));
    if (isUnread) return { ...head, log, first: undefined, last: undefined };
    const first = baseMoment(head, firstMark);
    return { ...head, log, first, last: lastMark ?? { ...first, atMs: finishedMs(base) } };
  }

  /** All generations that can be restored, oldest first. @throws ReplicaError; see `generation`. */
  async generations(signal: AbortSignal): Promise<ArchivedGeneration[]> {
    const all: ArchivedGeneration[] = [];
    const read = async (head: GenerationHead, stop: AbortSignal) =>
      await this.generation(head, stop);
    for await (const one of inOrder(this.heads, READ_AHEAD, () => LOG_BYTES, read, signal))
      all.push(one);
    return all;
  }

  /**
   * Whether a generation that was there is gone: the one who writes the archive may have removed it.
   * @throws ReplicaError of the store.
   */
  async isGone(name: string, signal: AbortSignal): Promise<boolean> {
    return (await readHead(this.source, name, signal)).kind === "unfinished";
  }

  /** The error for damage, or for a generation that was removed while it was read. */
  async damageError(name: string, message: string, signal: AbortSignal): Promise<ReplicaError> {
    if (!(await this.isGone(name, signal)))
      return new ReplicaError("ARCHIVE_DAMAGED", { retry: "never", message });
    return new ReplicaError("ARCHIVE_FAILED", {
      retry: "never",
      message: `generation ${name} was removed from ${this.source.url} while it was read: take another one`,
    });
  }
}

/** By the second that their names tell. Of several that began within one, their names' order is chance; their streams' is not. */
function byBeginning(one: GenerationHead, other: GenerationHead): number {
  const inTime = one.startedMs - other.startedMs;
  return inTime === 0 ? one.description.baseOffset - other.description.baseOffset : inTime;
}

/** Whether segments are missing by what the names of the others say, or the generation's end. */
function isShort(head: GenerationHead, segments: readonly ArchivedSegment[]): boolean {
  const { gap, end } = joinFolders(beginningOf(head), segments);
  return gap !== undefined || end.offset < (head.sealed?.endOffset ?? 0);
}

/** Where a generation's log begins. */
export function beginningOf({ name, description }: GenerationHead): LogBeginning {
  return { generation: name, baseOffset: description.baseOffset };
}

function finishedMs(base: GenerationHead["base"]): number {
  return Date.parse(base.finished);
}

/** When the snapshot alone was all there was: from when it was whole, unless the log tells of an earlier moment. */
export function baseMoment(
  { base, description }: Pick<GenerationHead, "base" | "description">,
  firstMark: Moment | undefined,
): Moment {
  const atMs = Math.min(finishedMs(base), firstMark?.atMs ?? Number.POSITIVE_INFINITY);
  return { atMs, offset: description.baseOffset };
}
