import { hex64 } from "../../base/hex64.ts";
import type { Offset } from "../../base/history.ts";
import type { Damage } from "../../store/restore/damage.ts";
import type { RdbSummary } from "../../rdb/checker.ts";
import type { Chain } from "../format/chain.ts";
import { generationKey, logFolder, SEALED_FILE } from "../format/names.ts";
import { damaged } from "../store/object-store.ts";
import { type Archive, beginningOf } from "./archive.ts";
import { ArchivedLog, type ArchivedSegment, segmentCost, segmentKey } from "./archived-log.ts";
import { damageOf, isArchiveDamage } from "./archive-source.ts";
import { restorableUpTo } from "./fetch-generation.ts";
import type { GenerationHead } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";
import { checkBase, checkBaseNames } from "./verify-base.ts";

export interface VerifyArchiveOptions {
  /** Names, sizes and the chain alone: no piece and hardly a segment is read. */
  readonly quick: boolean;
  readonly signal: AbortSignal;
  /** Called with the bytes of base or log that are checked so far. */
  readonly onProgress: (folder: string, bytes: number, totalBytes: number) => void;
}

/** What checking one generation found. */
export interface ArchivedFindings {
  readonly name: string;
  /** Undefined where its documents are damaged. */
  readonly head: GenerationHead | undefined;
  /** Undefined where the snapshot is damaged, and after a quick check. */
  readonly rdb: RdbSummary | undefined;
  readonly segments: number;
  readonly logBytes: number;
  /** The last offset that a restore can reach; undefined where the snapshot is damaged. */
  readonly restorableOffset: Offset | undefined;
  readonly damages: readonly Damage[];
}

export interface ArchiveFindings {
  /** Oldest first. */
  readonly generations: readonly ArchivedFindings[];
  /** Folders without base.json: they are being written, were given up, or are being removed. */
  readonly unfinished: readonly string[];
  /** All there is, that of the generations included. */
  readonly damages: readonly Damage[];
}

/** An object of a log that is not as it should be. */
interface Fault {
  readonly key: string;
  readonly error: unknown;
  /** From which offset on its bytes are missing, and up to which one. */
  readonly from: Offset;
  readonly to: Offset;
}

/**
 * Checks everything in an archive: every hash of every piece, the snapshot's own checksum, every segment, and how these
 * join; or, quickly, what the names and sizes tell. Damage is part of the result.
 * @throws ReplicaError USAGE where objects are encrypted and no identity fits, unless it is quick; of the store; the
 * signal's reason.
 */
export async function verifyArchive(
  archive: Archive,
  options: VerifyArchiveOptions,
): Promise<ArchiveFindings> {
  const sound = new Map<string, ArchivedSegment>();
  const faults = new Map<string, readonly Fault[]>();
  // All logs first: a segment of one folder may join the log of another.
  for (const head of archive.heads) {
    await archive.segmentsFor(head, options.signal);
    const own = await checkSegments(archive, head, options);
    faults.set(head.name, own.faults);
    for (const segment of own.sound) sound.set(segmentKey(segment), segment);
  }
  const generations: ArchivedFindings[] = [];
  const unfinished: string[] = [];
  for (const found of archive.found) {
    if (found.kind === "unfinished") {
      unfinished.push(found.name);
      continue;
    }
    const findings =
      found.kind === "damaged"
        ? { ...nothing(found.name), damages: found.damages }
        : await findingsOf(archive, found, sound, faults.get(found.head.name) ?? [], options);
    const isGone =
      findings.damages.length > 0 && (await archive.isGone(findings.name, options.signal));
    if (isGone) unfinished.push(findings.name);
    else generations.push(findings);
  }
  const damages = [...archive.damages, ...generations.flatMap((one) => one.damages)];
  return { generations, unfinished, damages };
}

function nothing(name: string): Omit<ArchivedFindings, "damages"> {
  return {
    name,
    head: undefined,
    rdb: undefined,
    segments: 0,
    logBytes: 0,
    restorableOffset: undefined,
  };
}

/** Reads the segments in a generation's own folder, and sorts out those that can't be used. */
async function checkSegments(
  archive: Archive,
  { name }: GenerationHead,
  { quick, signal, onProgress }: VerifyArchiveOptions,
): Promise<{ readonly sound: readonly ArchivedSegment[]; readonly faults: readonly Fault[] }> {
  const listed = await archive.ownSegments(name, signal);
  const [sound, faults]: [ArchivedSegment[], Fault[]] = [[], []];
  const folder = logFolder(name);
  const total = listed.reduce((sum, { bytes }) => sum + bytes, 0);
  const note = (segment: ArchivedSegment, error: unknown) => {
    if (!isArchiveDamage(error)) throw error;
    faults.push({ key: segmentKey(segment), error, from: segment.from, to: segment.to });
  };
  const look = async (segment: ArchivedSegment, stop: AbortSignal) => {
    try {
      if (segment.bytes === 0)
        throw damaged(archive.source.placeOf(segmentKey(segment)), "is empty: it was cut short");
      if (quick) return { segment, parts: [] };
      const { header, parts } = await archive.source.segment(folder, segment.name, stop);
      return { segment: { ...segment, crcFrom: header.crcFrom }, parts };
    } catch (error) {
      note(segment, error);
      return undefined;
    }
  };
  let bytes = 0;
  let at = 0;
  for await (const read of inOrder(listed, READ_AHEAD, segmentCost, look, signal)) {
    try {
      for await (const _ of read?.parts ?? []);
      if (read !== undefined) sound.push(read.segment);
    } catch (error) {
      note(listed[at]!, error);
    }
    bytes += listed[at++]!.bytes;
    if (!quick) onProgress(folder, bytes, total);
  }
  return { sound, faults };
}

async function findingsOf(
  archive: Archive,
  { head, damages: found }: { readonly head: GenerationHead; readonly damages: readonly Damage[] },
  sound: ReadonlyMap<string, ArchivedSegment>,
  faults: readonly Fault[],
  options: VerifyArchiveOptions,
): Promise<ArchivedFindings> {
  const { signal, quick } = options;
  const { name, description } = head;
  const base = quick
    ? { rdb: undefined, damages: await checkBaseNames(archive, head, signal) }
    : await checkBase(archive, head, options);
  const candidates = (await archive.segmentsFor(head, signal)).flatMap(
    (segment) => sound.get(segmentKey(segment)) ?? [],
  );
  const log = await ArchivedLog.join(archive.source, beginningOf(head), candidates, signal);
  const { chain } = log;
  const end = chain.end.offset;
  const meaning = (from: Offset, to: Offset) =>
    to <= end && from < end
      ? `nothing is lost: another segment has these bytes (up to offset ${end})`
      : restorableUpTo(head, end);
  const ofLog = [
    ...faults.map(({ key, error, from, to }) =>
      damageOf(archive.source, key, asError(error), meaning(from, to)),
    ),
    ...log.damages,
    ...chainDamages(archive, head, chain, faults, restorableUpTo(head, end)),
    ...sealDamages(archive, head, candidates, restorableUpTo(head, end)),
  ];
  return {
    name,
    head,
    rdb: base.rdb,
    segments: chain.segments.length,
    logBytes: end - description.baseOffset,
    restorableOffset: base.damages.length > 0 ? undefined : end,
    damages: [...found, ...base.damages, ...ofLog],
  };
}

function asError(error: unknown) {
  if (isArchiveDamage(error)) return error;
  throw error;
}

/** What is wrong with how the segments join, each of them being sound. */
function chainDamages(
  archive: Archive,
  { name, sealed }: GenerationHead,
  { end, gap, forks }: Chain<ArchivedSegment>,
  faults: readonly Fault[],
  meaning: string,
): Damage[] {
  const damages: Damage[] = [];
  const { source } = archive;
  const file = `${source.placeOf(logFolder(name))}/`;
  const isExplained = faults.some(({ from, to }) => from <= end.offset && to > end.offset);
  if (gap !== undefined && !isExplained) {
    const what = `no segment leads from offset ${end.offset} to ${gap.to}, where ${gap.segments[0]!.name} begins: what did is missing, or was renamed`;
    damages.push({ file, byte: undefined, what, meaning });
  }
  for (const segment of forks.filter(({ generation }) => generation === name)) {
    const what = "it belongs to another log than the one it lies in: it was swapped";
    damages.push({ file: source.placeOf(segmentKey(segment)), byte: undefined, what, meaning });
  }
  if (sealed === undefined) return damages;
  const { endOffset } = sealed;
  if (endOffset > end.offset && gap === undefined && !isExplained) {
    const what = `it ends at offset ${end.offset}, though the generation was sealed at ${endOffset}: the segments behind are missing`;
    damages.push({ file, byte: undefined, what, meaning });
  }
  return damages;
}

/** Whether sealed.json speaks of this log. */
function sealDamages(
  { source }: Archive,
  { name, sealed, description }: GenerationHead,
  segments: readonly ArchivedSegment[],
  meaning: string,
): Damage[] {
  if (sealed === undefined) return [];
  const { endOffset, endCrc64 } = sealed;
  const file = source.placeOf(generationKey(name, SEALED_FILE));
  const farthest = segments.reduce((most, { to }) => Math.max(most, to), description.baseOffset);
  // What lies behind all segments is missing, and told as that.
  if (endOffset > farthest || endOffset === description.baseOffset) return [];
  const there = segments.filter(({ to }) => to === endOffset).map(({ crc }) => hex64(crc));
  if (there.includes(endCrc64)) return [];
  const found = there.length === 0 ? "no segment ends there" : `there it has ${there.join(", ")}`;
  const what = `it says that the log ends at offset ${endOffset} with the checksum ${endCrc64}, but ${found}: it was swapped or changed`;
  return [{ file, byte: undefined, what, meaning }];
}
