import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import type { Offset } from "../../base/history.ts";
import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { replicationAux } from "../../rdb/header.ts";
import { selectCommand } from "../../resp/encode.ts";
import { closeQuietly, type Disk, diskError, freeBytesAt } from "../../store/disk/disk.ts";
import { BASE_FILE, generationKey, logFolder } from "../format/names.ts";
import { damaged } from "../store/object-store.ts";
import { type Archive, type ArchivedGeneration, baseMoment } from "./archive.ts";
import { type ArchivedSegment, segmentCost, segmentKey } from "./archived-log.ts";
import {
  FETCHED_ID,
  FetchedDirectory,
  FetchedGeneration,
  fetchedFiles,
} from "./fetched-directory.ts";
import { NOTHING } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";
import { readBase, telling, told } from "./read-base.ts";

/** Of the first segment: its bytes are sound, but those of another log. */
const OTHER_SELECT =
  "doesn't begin with the SELECT of the snapshot's database: it belongs to another snapshot";

export interface FetchOptions {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  /** Called with the bytes of base or log that are written so far. */
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
}

/** What is being fetched, and where to. */
interface Fetch extends FetchOptions {
  readonly archive: Archive;
  readonly generation: ArchivedGeneration;
  readonly segments: readonly ArchivedSegment[];
  readonly root: string;
  /** The number that it gets in the folder. */
  readonly id: number;
}

/** A generation, and the offset of its chain up to which its log is wanted at least. */
export interface WantedGeneration {
  readonly generation: ArchivedGeneration;
  readonly upTo: Offset;
}

/** As `fetchGenerations`, for one generation. */
export async function fetchGeneration(
  archive: Archive,
  generation: ArchivedGeneration,
  upTo: Offset,
  dir: string,
  options: FetchOptions,
): Promise<void> {
  await fetchGenerations(archive, [{ generation, upTo }], dir, options);
}

/**
 * Brings generations from an archive into a new folder: a data directory of its own, with just these in it, numbered from
 * `FETCHED_ID` on. Pieces are read side by side, every checksum is compared, and the folder is there whole and durably, or
 * not at all.
 * @param wanted at least one, oldest first: all but the last are sealed.
 * @param dir the folder to make, in one that is there.
 * @throws ReplicaError ARCHIVE_DAMAGED, saying what can still be restored; USAGE where no identity fits, and for a folder
 * that is there; DISK_FULL, DISK_FAILED; of the store; the signal's reason.
 */
export async function fetchGenerations(
  archive: Archive,
  wanted: readonly WantedGeneration[],
  dir: string,
  options: FetchOptions,
): Promise<void> {
  const { disk, signal } = options;
  signal.throwIfAborted();
  if (fs.lstatSync(dir, { throwIfNoEntry: false }) !== undefined) throw isThere(dir);
  const parts = wanted.map((one) => ({ ...one, segments: segmentsUpTo(one) }));
  refuseTooMuch(disk, dirname(dir), parts);
  const root = join(dirname(dir), `.${basename(dir)}.fetching-${process.pid}`);
  try {
    fs.rmSync(root, { recursive: true, force: true });
    // Nobody else may look into it until it is known who may.
    fs.mkdirSync(root, { mode: 0o700 });
    const fetches = parts.map(({ generation, segments }, index) => ({
      ...options,
      archive,
      root,
      generation,
      segments,
      id: FETCHED_ID + index,
    }));
    await fetchAll(fetches, new FetchedDirectory(disk, root));
    await publish(disk, root, dir);
  } catch (cause) {
    await disk.removeLarge(root);
    signal.throwIfAborted();
    throw diskError("fetching to", dir, cause);
  }
}

function segmentsUpTo({ generation, upTo }: WantedGeneration): ArchivedSegment[] {
  const { end, segments } = generation.log.chain;
  if (upTo > end.offset)
    throw usageError(
      `generation ${generation.name} ends at offset ${end.offset} in the archive, before ${upTo}`,
    );
  return segments.filter(({ from }) => from < upTo);
}

/** Gives a whole folder its name, durably. A failure leaves nothing there. */
async function publish(disk: Disk, root: string, dir: string): Promise<void> {
  // A folder that was made meanwhile is somebody's: rename(2) replaces an empty one.
  if (fs.lstatSync(dir, { throwIfNoEntry: false }) !== undefined) throw isThere(dir);
  disk.rename(root, dir);
  try {
    await disk.syncDir(dirname(dir));
  } catch (cause) {
    fs.rmSync(dir, { recursive: true, force: true });
    throw cause;
  }
}

function isThere(dir: string): ReplicaError {
  return usageError(`${dir} is there already: name a folder that is new`);
}

function refuseTooMuch(
  disk: Disk,
  dir: string,
  parts: readonly Pick<Fetch, "generation" | "segments">[],
): void {
  let free = freeBytesAt(disk, dir);
  for (const { generation, segments } of parts) {
    const { rdbBytes } = generation.base;
    const logBytes = segments.reduce((sum, { from, to }) => sum + to - from, 0);
    if (rdbBytes + logBytes > free) {
      throw new ReplicaError("DISK_FULL", {
        message: `generation ${generation.name} has ${rdbBytes} bytes of snapshot and ${logBytes} of log, ${dir} has room for ${free}: make room`,
      });
    }
    free -= rdbBytes + logBytes;
  }
}

async function fetchAll(fetches: readonly Fetch[], directory: FetchedDirectory): Promise<void> {
  try {
    for (const fetch of fetches) await fetchInto(fetch, directory);
    await directory.finish(fetches.at(-1)!.id);
  } finally {
    directory.close();
  }
}

async function fetchInto(fetch: Fetch, directory: FetchedDirectory): Promise<void> {
  const { disk, generation, segments, root, id, signal } = fetch;
  const { dir } = fetchedFiles(root, id);
  disk.makeDir(dir);
  const written = new FetchedGeneration(directory, id, generation);
  const rdb = await fetchBase(fetch);
  const { streamDb } = replicationAux(rdb.header);
  const select = selectCommand(streamDb);
  const at = generation.first ?? baseMoment(generation, await generation.log.first(signal));
  await written.keep(rdb, streamDb, select.length, at);
  const end = segments.at(-1)?.to ?? generation.description.baseOffset;
  const endMs = (await generation.log.momentFrom(end, signal))?.atMs;
  await fetchLog(fetch, select, written);
  await disk.syncDir(dir);
  await written.finish(endMs);
}

/** Writes the pieces of the snapshot one behind the other, and checks the whole. */
async function fetchBase(fetch: Fetch): Promise<RdbSummary> {
  const { archive, generation, disk, signal, onProgress, root, id } = fetch;
  const { base: document, name } = generation;
  const { base: path } = fetchedFiles(root, id);
  const checker = new RdbChecker();
  const key = generationKey(name, BASE_FILE);
  const place = archive.source.placeOf(key);
  let at = 0;
  let rdb: RdbSummary;
  try {
    await writing(disk, path, async (fd) => {
      for await (const data of readBase(archive, generation, signal)) {
        checker.push(data);
        await disk.write(fd, [data], at);
        at += data.length;
        onProgress(path, at, document.rdbBytes);
      }
    });
    rdb = checker.finish();
  } catch (error) {
    // The pieces are as they were written, so that the snapshot was archived like this.
    if (!(error instanceof ReplicaError) || !error.code.startsWith("BAD_")) throw error;
    const what = `lists pieces that make no sound snapshot: ${error.message}`;
    throw await told(archive, name, { key, error: damaged(place, what), meaning: NOTHING }, signal);
  }
  if (hex64(rdb.crc64) === document.rdbCrc64) return rdb;
  const what = `says that its snapshot has the checksum ${document.rdbCrc64}, but that has ${hex64(rdb.crc64)}`;
  throw await told(archive, name, { key, error: damaged(place, what), meaning: NOTHING }, signal);
}

async function fetchLog(
  fetch: Fetch,
  select: Uint8Array,
  directory: FetchedGeneration,
): Promise<void> {
  const { archive, generation, segments, disk, signal, onProgress, root, id } = fetch;
  const { log: path } = fetchedFiles(root, id);
  const { baseOffset } = generation.description;
  const tell = (segment: ArchivedSegment, error: unknown) => {
    const meaning = restorableUpTo(generation, segment.from);
    return told(archive, generation.name, { key: segmentKey(segment), error, meaning }, signal);
  };
  const read = async (segment: ArchivedSegment, stop: AbortSignal) => {
    try {
      const folder = logFolder(segment.generation);
      const { header, parts } = await archive.source.segment(folder, segment.name, stop);
      return { segment, header, parts: telling(parts, (error) => tell(segment, error)) };
    } catch (error) {
      throw await tell(segment, error);
    }
  };
  const total = (segments.at(-1)?.to ?? baseOffset) - baseOffset + select.length;
  let end = { at: 0, crc: 0n };
  await writing(disk, path, async (fd) => {
    if (segments.length === 0) await disk.write(fd, [select], 0);
    for await (const found of inOrder(segments, READ_AHEAD, segmentCost, read, signal)) {
      const { segment, header, parts } = found;
      const refused = (fault: string) =>
        tell(segment, damaged(archive.source.placeOf(segmentKey(segment)), fault));
      if (header.crcFrom !== end.crc) throw await refused("belongs to another log: it was swapped");
      directory.begin(header);
      let { at } = end;
      for await (const data of parts) {
        const before = at === 0 ? header.bytes - (header.to - header.from) : 0;
        if (at === 0 && Buffer.compare(data.subarray(0, before), select) !== 0) {
          // Where it was changed, that is what is told.
          for await (const _ of parts);
          throw await refused(OTHER_SELECT);
        }
        await disk.write(fd, [data], at);
        await directory.add(data.subarray(before));
        at += data.length;
        onProgress(path, at, total);
      }
      end = { at, crc: header.crcTo };
    }
  });
}

/** What can be restored of a generation, as a clause of its own. */
export function restorableUpTo(
  { name, description }: Pick<ArchivedGeneration, "name" | "description">,
  offset: Offset,
): string {
  const only = offset <= description.baseOffset;
  const what = only ? "only the snapshot" : `everything up to offset ${offset}`;
  return `of this generation, ${what} can be restored (--generation ${name} --offset ${offset})`;
}

/** Writes a new file, durably once this resolves. */
async function writing(
  disk: Disk,
  path: string,
  write: (fd: number) => Promise<void>,
): Promise<void> {
  let fd: number | undefined;
  try {
    fd = disk.create(path);
    await write(fd);
    await disk.syncData(fd);
  } catch (cause) {
    throw diskError("writing", path, cause);
  } finally {
    if (fd !== undefined) closeQuietly(disk, fd);
  }
}
