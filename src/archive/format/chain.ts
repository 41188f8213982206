import type { Offset } from "../../base/history.ts";
import type { SegmentName } from "./names.ts";

/** A segment as a reader knows it. */
export interface LinkedSegment extends SegmentName {
  /** The CRC64 of the log up to `from`, from the header; undefined while that isn't read: then the offset alone decides. */
  readonly crcFrom: bigint | undefined;
}

/** Where a log begins or ends: an offset, and the CRC64 of the log up to it. */
export interface LogEnd {
  readonly offset: Offset;
  readonly crc: bigint;
}

/** How segments join to one log. */
export interface Chain<S extends LinkedSegment> {
  /** From the log's beginning on, each one where the one before it ends. */
  readonly segments: readonly S[];
  readonly end: LogEnd;
  /** Segments that don't join this log though they lie beside it: another history wrote them. */
  readonly forks: readonly S[];
  /** Segments that this log doesn't need, because others cover the same. */
  readonly spare: readonly S[];
  /** What lies behind a gap, and where that gap ends; undefined where nothing does. */
  readonly gap: { readonly to: Offset; readonly segments: readonly S[] } | undefined;
  /**
   * Segments whose header must be read before all this is certain, because more than one end lies where they begin.
   * Read these, and join again.
   */
  readonly unsure: readonly S[];
}

/** What was found out about a place that a log can reach: how far one gets from there, and by which segment. */
interface Reach<S> {
  readonly end: Offset;
  readonly by: S | undefined;
}

/**
 * Joins segments to the longest log that begins at `start`. Of several ways, it takes the one that reaches farthest, and
 * of those the one with the longer segments.
 */
export function joinSegments<S extends LinkedSegment>(start: LogEnd, all: readonly S[]): Chain<S> {
  const byFrom = Map.groupBy(all, ({ from }) => from);
  const segments: S[] = [];
  let end = start;
  const reaches = reachesFrom(byFrom, all);
  for (;;) {
    const by = reaches(end).by;
    if (by === undefined) break;
    segments.push(by);
    end = { offset: by.to, crc: by.crc };
  }
  const taken = new Set(segments);
  const ends = new Map([start, ...segments.map(endOf)].map(({ offset, crc }) => [offset, crc]));
  const others = all.filter((segment) => !taken.has(segment));
  const behind = others.filter(({ from }) => from > end.offset);
  const beside = others.filter(({ from }) => from <= end.offset);
  const forks = beside.filter((segment) => isFork(segment, ends, end.offset));
  const isForked = new Set(forks);
  const first = Math.min(...behind.map(({ from }) => from));
  return {
    segments,
    end,
    forks,
    spare: beside.filter((segment) => !isForked.has(segment)),
    gap: behind.length === 0 ? undefined : { to: first, segments: behind },
    unsure: unsureOf(start, all),
  };
}

function endOf({ to, crc }: SegmentName): LogEnd {
  return { offset: to, crc };
}

/** How far one gets from a place, computed from the farthest segment on, so that no way is gone twice. */
function reachesFrom<S extends LinkedSegment>(
  byFrom: ReadonlyMap<Offset, readonly S[]>,
  all: readonly S[],
): (place: LogEnd) => Reach<S> {
  const known = new Map<string, Reach<S>>();
  const reach = ({ offset, crc }: LogEnd): Reach<S> => {
    const key = `${offset} ${crc}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    let best: Reach<S> = { end: offset, by: undefined };
    for (const segment of byFrom.get(offset) ?? []) {
      if (segment.crcFrom !== undefined && segment.crcFrom !== crc) continue;
      // Never deep: what begins farther was asked for before.
      const { end } = reach(endOf(segment));
      const isBetter = end > best.end || (end === best.end && segment.to > (best.by?.to ?? offset));
      if (isBetter) best = { end, by: segment };
    }
    known.set(key, best);
    return best;
  };
  for (const segment of all.toSorted((a, b) => b.to - a.to)) reach(endOf(segment));
  return reach;
}

/**
 * Whether a segment beside the log belongs to another one: it begins or ends at a place of the log with another checksum,
 * or reaches beyond its end.
 */
function isFork(
  { from, to, crc, crcFrom }: LinkedSegment,
  ends: ReadonlyMap<Offset, bigint>,
  endOffset: Offset,
): boolean {
  const [begins, stops] = [ends.get(from), ends.get(to)];
  if (crcFrom !== undefined && begins !== undefined && begins !== crcFrom) return true;
  if (stops !== undefined && stops !== crc) return true;
  return to > endOffset;
}

/** Segments without a header, where more than one checksum is known at the place where they begin. */
function unsureOf<S extends LinkedSegment>(start: LogEnd, all: readonly S[]): S[] {
  const crcs = new Map<Offset, Set<bigint>>();
  for (const { offset, crc } of [start, ...all.map(endOf)]) {
    const those = crcs.get(offset) ?? new Set();
    crcs.set(offset, those.add(crc));
  }
  return all.filter(
    ({ crcFrom, from }) => crcFrom === undefined && (crcs.get(from)?.size ?? 0) > 1,
  );
}
