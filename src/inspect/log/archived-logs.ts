import { ReplicaError } from "../../base/errors.ts";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import { parseReplicationId } from "../../base/history.ts";
import { logFolder } from "../../archive/format/names.ts";
import type { SegmentHeader } from "../../archive/format/objects.ts";
import { Archive, type ArchivedGeneration, beginningOf } from "../../archive/reader/archive.ts";
import {
  ArchivedLog,
  type ArchivedSegment,
  segmentCost,
  segmentKey,
} from "../../archive/reader/archived-log.ts";
import { damageOf, isArchiveDamage } from "../../archive/reader/archive-source.ts";
import { cutOf } from "../../archive/reader/archive-point.ts";
import { inOrder, READ_AHEAD } from "../../archive/reader/in-order.ts";
import type { Moment } from "../../store/ledger/ledger-reader.ts";
import { type Damage, describeDamage } from "../../store/restore/damage.ts";
import type { KeptLog, LogBlock, LogSource } from "./kept-log.ts";

/** A segment comes every ten seconds, by default. Each look lists the folder of one log. */
const LOOK_EVERY_MS = 3_000;
/** While the newest log doesn't grow, another generation may have begun: to learn that, more is read. */
const WHOLE_LOOK_EVERY_MS = 30_000;
/** What is chosen of a part is in memory at once. */
const BLOCK_BYTES = 256 * 1024;

/** The logs in an archive, while others write to it. */
export class ArchivedLogs implements LogSource {
  readonly lookEveryMs = LOOK_EVERY_MS;
  readonly #seen = new Map<string, SeenHistories>();
  #archive: Archive;
  #logs: readonly ArchivedKeptLog[];
  #wholeLookMs = performance.now();

  private constructor(archive: Archive, generations: readonly ArchivedGeneration[]) {
    this.#archive = archive;
    this.#logs = this.#logsOf(generations);
  }

  /** @throws ReplicaError of the store; USAGE where the identity doesn't fit; the signal's reason. */
  static async open(archive: Archive, signal: AbortSignal): Promise<ArchivedLogs> {
    return new ArchivedLogs(archive, await archive.generations(signal));
  }

  get name(): string {
    return this.#archive.source.url;
  }

  /** What is damaged, and what logs lack, each as a sentence. */
  warnings(): string[] {
    const { damages, found } = this.#archive;
    const all = [
      ...damages,
      ...found.flatMap((one) => (one.kind === "unfinished" ? [] : one.damages)),
      ...this.#logs.flatMap((log) => log.damages),
    ];
    const cuts = this.#logs.flatMap((log) => log.cut ?? []);
    return [...all.map(describeDamage), ...cuts];
  }

  get logs(): readonly KeptLog[] {
    return this.#logs;
  }

  async look(id: string | undefined, signal: AbortSignal): Promise<void> {
    const at = this.#logs.findIndex((log) => log.id === id);
    const before = this.#logs[at];
    const now = await before?.lookAgain(signal);
    if (now !== undefined) this.#logs = this.#logs.with(at, now);
    const hasGrown = now !== undefined && now.endOffset !== before?.endOffset;
    const isDue = performance.now() - this.#wholeLookMs >= WHOLE_LOOK_EVERY_MS;
    if (hasGrown || (before !== undefined && !isDue)) return;
    this.#archive = await Archive.open(this.#archive.source, signal);
    this.#logs = this.#logsOf(await this.#archive.generations(signal));
    this.#wholeLookMs = performance.now();
  }

  #logsOf(generations: readonly ArchivedGeneration[]): ArchivedKeptLog[] {
    return generations.map((generation) => {
      const { name, description } = generation;
      const seen = this.#seen.get(name) ?? { histories: [], toOffset: description.baseOffset };
      this.#seen.set(name, seen);
      return new ArchivedKeptLog(this.#archive, generation, seen);
    });
  }

  [Symbol.dispose](): void {}
}

/** The replication ids that begin in a log, as far as it was read from its beginning on. */
interface SeenHistories {
  histories: SegmentHeader["histories"];
  toOffset: Offset;
}

/** The log of one generation of an archive, as of one look. */
class ArchivedKeptLog implements KeptLog {
  readonly #archive: Archive;
  readonly #generation: ArchivedGeneration;
  readonly #seen: SeenHistories;
  /** Of the segment that is being read. */
  #header: SegmentHeader | undefined;

  constructor(archive: Archive, generation: ArchivedGeneration, seen: SeenHistories) {
    this.#archive = archive;
    this.#generation = generation;
    this.#seen = seen;
  }

  get id(): string {
    return this.#generation.name;
  }

  get baseOffset(): Offset {
    return this.#generation.description.baseOffset;
  }

  get endOffset(): Offset {
    return this.#generation.log.chain.end.offset;
  }

  get isSealed(): boolean {
    return this.endOffset >= (this.#generation.sealed?.endOffset ?? Infinity);
  }

  get first(): Moment | undefined {
    return this.#generation.first;
  }

  get last(): Moment | undefined {
    return this.#generation.last;
  }

  /** What was found to be damaged of it. */
  get damages(): readonly Damage[] {
    return this.#generation.log.damages;
  }

  /** What it lacks; undefined where the archive has it up to its end. */
  get cut(): string | undefined {
    return cutOf(this.#generation);
  }

  /** The same log with what was added to it. */
  async lookAgain(signal: AbortSignal): Promise<ArchivedKeptLog> {
    const archive = this.#archive.lookingAgain();
    const head = this.#generation;
    const segments = await archive.segmentsFor(head, signal);
    const log = await ArchivedLog.join(archive.source, beginningOf(head), segments, signal);
    return new ArchivedKeptLog(archive, { ...head, log }, this.#seen);
  }

  async histories(upTo: Offset, signal: AbortSignal): Promise<readonly ReplicationIdFrom[]> {
    const { replid, baseOffset } = this.#generation.description;
    const { log } = this.#generation;
    const isSeen = this.#seen.toOffset >= upTo;
    const found = isSeen ? this.#seen.histories : await log.historiesUpTo(upTo, signal);
    return [
      { replid, fromOffset: baseOffset },
      ...found.filter(({ fromOffset }) => fromOffset <= upTo),
    ].map((one) => ({
      ...one,
      replid: parseReplicationId(one.replid),
    }));
  }

  async momentBefore(atMs: number, signal: AbortSignal): Promise<Moment | undefined> {
    return await this.#generation.log.momentBefore(atMs, signal);
  }

  async momentsFrom(offset: Offset, signal: AbortSignal): Promise<readonly Moment[]> {
    // The segments bring their marks with them, those behind excepted.
    const marks = this.#header?.marks.filter((mark) => mark.offset >= offset) ?? [];
    const isHere = (this.#header?.from ?? Infinity) < offset && marks.length > 0;
    if (isHere) return marks.map((mark) => ({ atMs: mark.timeMs, offset: mark.offset }));
    const moment = await this.#generation.log.momentFrom(offset, signal);
    return moment === undefined ? [] : [moment];
  }

  async *blocks(
    from: Offset | "beginning",
    to: Offset,
    signal: AbortSignal,
  ): AsyncGenerator<LogBlock, void> {
    const isWanted = (segment: ArchivedSegment) =>
      segment.from < to && (from === "beginning" || segment.to > from);
    const { source } = this.#archive;
    const read = async (segment: ArchivedSegment, stop: AbortSignal) => ({
      segment,
      ...(await this.#telling(
        segment,
        async () => await source.segment(logFolder(segment.generation), segment.name, stop),
      )),
    });
    const segments = this.#generation.log.chain.segments.filter(isWanted);
    let crc: bigint | undefined;
    for await (const found of inOrder(segments, READ_AHEAD, segmentCost, read, signal)) {
      const { segment, header, parts } = found;
      if (header.crcFrom !== (crc ?? header.crcFrom)) {
        throw this.#damaged(segment, "it belongs to another log: it was swapped");
      }
      crc = header.crcTo;
      this.#header = header;
      if (header.from === this.#seen.toOffset) {
        this.#seen.histories = [...this.#seen.histories, ...header.histories];
        this.#seen.toOffset = header.to;
      }
      yield* this.#partsOf(segment, header, parts, from, to);
    }
  }

  async *#partsOf(
    segment: ArchivedSegment,
    header: SegmentHeader,
    parts: AsyncGenerator<Uint8Array, void>,
    from: Offset | "beginning",
    to: Offset,
  ): AsyncGenerator<LogBlock, void> {
    let before = header.to - header.bytes;
    for (;;) {
      const { done, value: part } = await this.#telling(segment, async () => await parts.next());
      if (done === true) return;
      const begin = Math.max(0, (from === "beginning" ? before : from) - before);
      const end = Math.min(part.length, to - before);
      for (let at = begin; at < end; at += BLOCK_BYTES) {
        const bytes = part.subarray(at, Math.min(at + BLOCK_BYTES, end));
        yield { bytes, before: before + at };
      }
      before += part.length;
    }
  }

  async #telling<T>(segment: ArchivedSegment, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (!isArchiveDamage(error)) throw error;
      const { source } = this.#archive;
      const key = segmentKey(segment);
      const message = describeDamage(damageOf(source, key, error, MEANING));
      throw new ReplicaError("ARCHIVE_DAMAGED", { retry: "never", message, cause: error });
    }
  }

  #damaged(segment: ArchivedSegment, what: string): ReplicaError {
    const file = this.#archive.source.placeOf(segmentKey(segment));
    const message = describeDamage({ file, byte: undefined, what, meaning: MEANING });
    return new ReplicaError("ARCHIVE_DAMAGED", { retry: "never", message });
  }

  damageError(byte: number, what: string): ReplicaError {
    const file = this.#archive.source.placeOf(logFolder(this.id));
    const message = describeDamage({ file, byte, what, meaning: MEANING });
    return new ReplicaError("ARCHIVE_DAMAGED", { retry: "never", message });
  }
}

const MEANING = "what comes behind it can't be shown; replica verify tells what is sound";
