import type { Offset } from "../../base/history.ts";
import { joinSegments, type LinkedSegment } from "../format/chain.ts";
import {
  BASE_FILE,
  baseFolder,
  GENERATION_FILE,
  generationKey,
  logFolder,
  parseSegmentName,
  REMOVED_FILE,
  SEALED_FILE,
  type SegmentName,
} from "../format/names.ts";
import type { ObjectStore } from "../store/object-store.ts";

/** What an archive holds of a generation, as far as a writer that goes on with it must know. */
export interface ArchivedFolder {
  readonly hasDocument: boolean;
  readonly hasBase: boolean;
  readonly isSealed: boolean;
  /** Whether somebody is removing it: what is written there now would go, too. */
  readonly isRemoved: boolean;
  /** The sizes of the pieces by their names; empty where the base is whole. */
  readonly pieces: ReadonlyMap<string, number>;
  /** The last segment of the log that joins; undefined where there is none. */
  readonly lastSegment: SegmentName | undefined;
  /** The CRC64 of the log up to where that segment begins. */
  readonly crcBefore: bigint;
}

/**
 * Learns what an archive holds of a generation, and no power cut takes from it: a LIST of its folder, one of its log's, and
 * one of its base's while that isn't whole.
 * @throws ReplicaError of the store; the reason of `signal`.
 */
export async function readArchivedFolder(
  store: ObjectStore,
  name: string,
  baseOffset: Offset,
  signal: AbortSignal,
): Promise<ArchivedFolder> {
  // What counts on these objects is stored in other folders, or remembered: it would outlive them.
  for (const folder of [generationKey(name), baseFolder(name), logFolder(name)])
    await store.settle(folder, signal);
  const files = await listed(store, generationKey(name), signal);
  const hasBase = files.has(BASE_FILE);
  const pieces = hasBase
    ? new Map<string, number>()
    : await listed(store, baseFolder(name), signal);
  const segments = await segmentsOf(store, name, signal);
  const chain = joinSegments({ offset: baseOffset, crc: 0n }, segments).segments;
  return {
    hasDocument: files.has(GENERATION_FILE),
    hasBase,
    isSealed: files.has(SEALED_FILE),
    isRemoved: files.has(REMOVED_FILE),
    pieces,
    lastSegment: chain.at(-1),
    crcBefore: chain.at(-2)?.crc ?? 0n,
  };
}

/** The names and sizes of the objects in a folder. */
async function listed(
  store: ObjectStore,
  folder: string,
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for await (const { objects } of store.list(folder, signal)) {
    for (const { name, bytes } of objects) found.set(name, bytes);
  }
  return found;
}

async function segmentsOf(
  store: ObjectStore,
  name: string,
  signal: AbortSignal,
): Promise<LinkedSegment[]> {
  const segments: LinkedSegment[] = [];
  for await (const { objects } of store.list(logFolder(name), signal)) {
    for (const object of objects) {
      const segment = parseSegmentName(object.name);
      // Nobody else writes here, so the offsets alone say how they join.
      if (segment !== undefined) segments.push({ ...segment, crcFrom: undefined });
    }
  }
  return segments;
}
