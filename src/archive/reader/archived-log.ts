import type { Offset } from "../../base/history.ts";
import type { Damage } from "../../store/restore/damage.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import { type Chain, joinSegments, type LinkedSegment } from "../format/chain.ts";
import { logFolder, parseSegmentName } from "../format/names.ts";
import { HEADER_READ_BYTES, type SegmentHeader } from "../format/objects.ts";
import { heldBytes } from "../store/object-buffers.ts";
import { type ArchiveSource, damageOf, isArchiveDamage } from "./archive-source.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";

/** A segment in an archive. */
export interface ArchivedSegment extends LinkedSegment {
  /** The generation in whose folder it lies, and its name there. */
  readonly generation: string;
  readonly name: string;
  /** The size of its object. */
  readonly bytes: number;
}

/** Marks are a second apart while the stream moves: the next segment, or the one after it, has one. */
const SEGMENTS_BEHIND = 4;

/** The key of a segment's object. */
export function segmentKey({ generation, name }: ArchivedSegment): string {
  return `${logFolder(generation)}/${name}`;
}

/** The bytes of memory that a segment takes until it is used: it is decompressed only then. */
export function segmentCost({ bytes }: ArchivedSegment): number {
  return heldBytes(bytes);
}

/** The segments in a generation's folder, as they are listed; foreign files are passed over. */
export async function listSegments(
  source: ArchiveSource,
  generation: string,
  signal: AbortSignal,
): Promise<ArchivedSegment[]> {
  const { objects } = await source.list(logFolder(generation), signal);
  return [...objects].flatMap(([name, bytes]) => {
    const parsed = parseSegmentName(name);
    return parsed === undefined ? [] : [{ ...parsed, crcFrom: undefined, generation, name, bytes }];
  });
}

/** Where a log begins: in which generation's folder, and behind which offset. */
export interface LogBeginning {
  readonly generation: string;
  readonly baseOffset: Offset;
}

/**
 * Joins the segments in a generation's folder, and behind them, or where one is missing, those that others wrote of the
 * same history: so of histories that part, each generation keeps to its own.
 */
export function joinFolders(
  { generation, baseOffset }: LogBeginning,
  segments: readonly ArchivedSegment[],
): Chain<ArchivedSegment> {
  const isOwn = (segment: ArchivedSegment) => segment.generation === generation;
  const own = joinSegments({ offset: baseOffset, crc: 0n }, segments.filter(isOwn));
  if (segments.every(isOwn)) return own;
  const taken = new Set(own.segments);
  const rest = joinSegments(
    own.end,
    segments.filter((segment) => !taken.has(segment)),
  );
  const joined = new Set(rest.segments);
  // Others need not cut their segments where this one does: what lies behind is theirs, not missing here.
  const [first, ...more] = rest.gap?.segments.filter(isOwn) ?? [];
  return {
    segments: [...own.segments, ...rest.segments],
    end: rest.end,
    forks: [
      ...own.forks.filter((segment) => !joined.has(segment)),
      ...rest.forks.filter((segment) => !isOwn(segment)),
    ],
    spare: rest.spare,
    gap: first && {
      to: Math.min(first.from, ...more.map(({ from }) => from)),
      segments: [first, ...more],
    },
    unsure: [...new Set([...own.unsure, ...rest.unsure])],
  };
}

/**
 * The log of an archived generation: the segments that join from its base on, by their names, and by their headers where
 * the names alone leave it open. A segment whose header turns out to be damaged is left out.
 */
export class ArchivedLog {
  readonly #source: ArchiveSource;
  readonly #beginning: LogBeginning;
  #segments: readonly ArchivedSegment[];
  #chain: Chain<ArchivedSegment>;
  readonly #headers = new Map<string, SegmentHeader>();
  /** What was found out on the way. */
  readonly damages: Damage[] = [];

  private constructor(
    source: ArchiveSource,
    beginning: LogBeginning,
    segments: readonly ArchivedSegment[],
  ) {
    this.#source = source;
    this.#beginning = beginning;
    this.#segments = segments;
    this.#chain = joinFolders(beginning, segments);
  }

  /**
   * Joins segments, which may lie in the folders of several generations of one history.
   * @param segments those whose `crcFrom` is set are known by their headers.
   * @throws ReplicaError of the store; USAGE where an identity doesn't fit.
   */
  static async join(
    source: ArchiveSource,
    beginning: LogBeginning,
    segments: readonly ArchivedSegment[],
    signal: AbortSignal,
  ): Promise<ArchivedLog> {
    const log = new ArchivedLog(source, beginning, segments);
    await log.#settle(signal);
    return log;
  }

  get chain(): Chain<ArchivedSegment> {
    return this.#chain;
  }

  /** Reads headers, and joins again, until the chain is certain. */
  async #settle(signal: AbortSignal): Promise<void> {
    for (;;) {
      const unread = this.#uncertain().filter(({ name }) => this.#source.canRead(name));
      if (unread.length === 0) return;
      const found = new Map<ArchivedSegment, SegmentHeader | undefined>();
      const read = async (segment: ArchivedSegment, stop: AbortSignal) =>
        found.set(segment, await this.#read(segment, stop));
      for await (const _ of inOrder(unread, READ_AHEAD, segmentCost, read, signal));
      this.#segments = this.#segments.flatMap((segment) => {
        if (!found.has(segment)) return [segment];
        const header = found.get(segment);
        return header === undefined ? [] : [{ ...segment, crcFrom: header.crcFrom }];
      });
      this.#join();
    }
  }

  #join(): void {
    this.#chain = joinFolders(this.#beginning, this.#segments);
  }

  /** Those that begin where more than one checksum is known, or where another writer's segment ends. */
  #uncertain(): ArchivedSegment[] {
    const { segments, unsure } = this.#chain;
    const joints = segments.filter(
      ({ crcFrom, generation }, at) =>
        crcFrom === undefined && generation !== (segments[at - 1]?.generation ?? generation),
    );
    return [...new Set([...unsure, ...joints])];
  }

  /** Undefined where it is damaged. */
  async #read(segment: ArchivedSegment, signal: AbortSignal): Promise<SegmentHeader | undefined> {
    const { generation, name } = segment;
    const key = segmentKey(segment);
    const known = this.#headers.get(key);
    if (known !== undefined) return known;
    try {
      const header = await this.#source.segmentHeader(logFolder(generation), name, signal);
      this.#headers.set(key, header);
      return header;
    } catch (error) {
      if (!isArchiveDamage(error)) throw error;
      const meaning = "it is passed over, with what only it leads to";
      this.damages.push(damageOf(this.#source, key, error, meaning));
      return undefined;
    }
  }

  /** The marks of the chain's segment `at`. Empty where it turns out not to join: then the chain is another one now. */
  async #marksOf(at: number, signal: AbortSignal): Promise<SegmentHeader["marks"]> {
    const segment = this.#chain.segments[at];
    if (segment === undefined || !this.#source.canRead(segment.name)) return [];
    const header = await this.#read(segment, signal);
    const crcBefore = at === 0 ? 0n : this.#chain.segments[at - 1]!.crc;
    if (header?.crcFrom === crcBefore) return header.marks;
    const key = segmentKey(segment);
    this.#segments = this.#segments.flatMap((one) => {
      if (segmentKey(one) !== key) return [one];
      return header === undefined ? [] : [{ ...one, crcFrom: header.crcFrom }];
    });
    this.#join();
    await this.#settle(signal);
    return [];
  }

  /** The log's first mark; undefined where no mark can be read. */
  async first(signal: AbortSignal): Promise<Moment | undefined> {
    for (let at = 0; at < this.#chain.segments.length; at++) {
      const [mark] = await this.#marksOf(at, signal);
      if (mark !== undefined) return momentOf(mark);
    }
    return undefined;
  }

  /** The log's last mark; undefined where no mark can be read. */
  async last(signal: AbortSignal): Promise<Moment | undefined> {
    for (let at = this.#chain.segments.length - 1; at >= 0; at--) {
      const mark = (await this.#marksOf(at, signal)).at(-1);
      if (mark !== undefined) return momentOf(mark);
    }
    return undefined;
  }

  /** The first mark at which the log held `offset`; undefined where the segments behind that offset tell none soon. */
  async momentFrom(offset: Offset, signal: AbortSignal): Promise<Moment | undefined> {
    const behind = this.#chain.segments.findIndex(({ to }) => to >= offset);
    for (let at = behind; at !== -1 && at < behind + SEGMENTS_BEHIND; at++) {
      const mark = (await this.#marksOf(at, signal)).find((one) => one.offset >= offset);
      if (mark !== undefined) return momentOf(mark);
    }
    return undefined;
  }

  /**
   * The replication ids that begin in the segments before an offset. Reads their headers.
   * @throws ReplicaError of the store; USAGE where an identity is missing; ARCHIVE_DAMAGED.
   */
  async historiesUpTo(
    offset: Offset,
    signal: AbortSignal,
  ): Promise<SegmentHeader["histories"][number][]> {
    const before = this.#chain.segments.filter(({ from }) => from < offset);
    const read = async ({ generation, name }: ArchivedSegment, stop: AbortSignal) =>
      await this.#source.segmentHeader(logFolder(generation), name, stop);
    const histories: SegmentHeader["histories"][number][] = [];
    for await (const header of inOrder(before, READ_AHEAD, () => HEADER_READ_BYTES, read, signal)) {
      histories.push(...header.histories);
    }
    return histories;
  }

  /**
   * The last mark that is not after `atMs`; undefined before all of them. It reads a few headers only: where the clock was
   * set back, so that times don't rise with the offsets, it finds one of several that fit, or none; an offset then tells
   * what is meant.
   */
  async momentBefore(atMs: number, signal: AbortSignal): Promise<Moment | undefined> {
    let found: Moment | undefined;
    // Before `low` all begin early enough; from `high` on, none that has a mark does.
    let [low, high] = [0, this.#chain.segments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      let at = middle;
      let marks: SegmentHeader["marks"] = [];
      // Where nothing was marked for a while, the next one tells.
      for (; at < high && marks.length === 0; at++) marks = await this.#marksOf(at, signal);
      const before = marks.findLast(({ timeMs }) => timeMs <= atMs);
      const isEarly = marks.length > 0 && marks[0]!.timeMs <= atMs;
      if (isEarly && before !== undefined) [low, found] = [at, momentOf(before)];
      else high = middle;
    }
    return found;
  }
}

function momentOf({ timeMs, offset }: SegmentHeader["marks"][number]): Moment {
  return { atMs: timeMs, offset };
}
