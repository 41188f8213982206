import { usageError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { Archive, ArchivedGeneration } from "./archive.ts";

/** The point that a person asks for; by default the last archived byte. */
export interface WantedOfArchive {
  /** The name of a generation's folder, or its beginning. */
  readonly generation: string | undefined;
  /** A time, in milliseconds since 1970. */
  readonly atMs: number | undefined;
  readonly offset: Offset | undefined;
}

/** Where a restore from an archive ends. */
export interface ArchivePoint {
  readonly generation: ArchivedGeneration;
  readonly offset: Offset;
}

/**
 * Finds the generation that covers the wanted point, and the offset to restore up to. Of several it takes the one that
 * began last: its log is the shortest.
 * @throws ReplicaError USAGE for a point that is not kept, naming the window that is; of the store.
 */
export async function archivePoint(
  archive: Archive,
  wanted: WantedOfArchive,
  signal: AbortSignal,
): Promise<ArchivePoint> {
  const generations = (await archive.generations(signal))
    .filter(({ name }) => name.startsWith(wanted.generation ?? ""))
    .toReversed();
  if (generations.length === 0) throw nothing(archive, wanted.generation);
  if (wanted.offset !== undefined) return byOffset(generations, wanted.offset);
  if (wanted.atMs !== undefined) return await byTime(generations, wanted.atMs, signal);
  const generation = generations.reduce((best, one) => (lastMs(one) > lastMs(best) ? one : best));
  return { generation, offset: generation.log.chain.end.offset };
}

function nothing(archive: Archive, generation: string | undefined): Error {
  const names = archive.heads.map(({ name }) => name);
  if (names.length === 0) return usageError(`${archive.source.url} holds no whole snapshot yet`);
  return usageError(
    `${archive.source.url} holds no generation ${generation ?? ""}: it holds ${names.join(", ")}`,
  );
}

/** The generations are those that began last, first. */
function byOffset(generations: readonly ArchivedGeneration[], offset: Offset): ArchivePoint {
  const rangeOf = ({ description, log }: ArchivedGeneration) =>
    [description.baseOffset, log.chain.end.offset] as const;
  const generation = generations.find((one) => {
    const [from, to] = rangeOf(one);
    return offset >= from && offset <= to;
  });
  if (generation !== undefined) return { generation, offset };
  const ranges = generations.toReversed().map((one) => {
    const [from, to] = rangeOf(one);
    return `${from} to ${to} (generation ${one.name})`;
  });
  throw usageError(
    `offset ${offset} is not in the archive: it has the offsets from ${ranges.join(" and from ")}`,
  );
}

async function byTime(
  generations: readonly ArchivedGeneration[],
  atMs: number,
  signal: AbortSignal,
): Promise<ArchivePoint> {
  const early = generations.filter(({ first }) => first !== undefined && first.atMs <= atMs);
  const covering = early.find((one) => lastMs(one) >= atMs);
  // Between two generations, the end of the earlier one is all that was known.
  const isBetween = generations.some((one) => lastMs(one) >= atMs);
  const before = isBetween
    ? early.reduce<ArchivedGeneration | undefined>(
        (best, one) => (best === undefined || lastMs(one) > lastMs(best) ? one : best),
        undefined,
      )
    : undefined;
  const generation = covering ?? before;
  if (generation === undefined)
    throw usageError(`${shownTime(atMs)} is not in the archive: ${windowOf(generations)}`);
  const cut = covering === undefined ? cutOf(generation) : undefined;
  if (cut !== undefined) throw usageError(`${shownTime(atMs)} is not in the archive: ${cut}`);
  const moment = await generation.log.momentBefore(atMs, signal);
  return { generation, offset: moment?.offset ?? generation.description.baseOffset };
}

/** What a generation's log lacks, as a clause of its own; undefined where the archive has it up to its end. */
export function cutOf({ name, log, sealed, last }: ArchivedGeneration): string | undefined {
  const { end, gap } = log.chain;
  const to = gap?.to ?? sealed?.endOffset ?? end.offset;
  if (to <= end.offset) return undefined;
  const until = last === undefined ? "" : `, so it can be restored up to ${shownTime(last.atMs)}`;
  return `generation ${name} lacks its log from offset ${end.offset + 1} to ${to}${until}`;
}

function lastMs({ last }: ArchivedGeneration): number {
  return last?.atMs ?? Number.NEGATIVE_INFINITY;
}

/** Says from when to when an archive can be restored, as a clause of its own. @param generations at least one. */
export function windowOf(generations: readonly ArchivedGeneration[]): string {
  const times = generations.flatMap(({ first, last }) =>
    first === undefined || last === undefined ? [] : [first.atMs, last.atMs],
  );
  if (times.length === 0) return "its times can't be read without the age identity";
  const [from, to] = [Math.min(...times), Math.max(...times)];
  return `it can be restored as of ${shownTime(from)} to ${shownTime(to)}`;
}
