import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import type { Offset } from "../../base/history.ts";
import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { replicationAux } from "../../rdb/header.ts";
import { selectCommand } from "../../resp/encode.ts";
import { closeQuietly, type Disk, diskError, freeBytesAt } from "../../store/disk/disk.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { baseFolder, BASE_FILE, generationKey, logFolder } from "../format/names.ts";
import { recycle } from "../store/object-buffers.ts";
import { damaged } from "../store/object-store.ts";
import { type Archive, type ArchivedGeneration, baseMoment } from "./archive.ts";
import { type ArchivedSegment, segmentCost, segmentKey } from "./archived-log.ts";
import { damageOf, isArchiveDamage, type ListedPiece } from "./archive-source.ts";
import { FetchedDirectory, fetchedFiles } from "./fetched-directory.ts";
import { NOTHING } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";
import { pieceCost } from "./verify-base.ts";

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
  readonly root: string;
}

/**
 * Brings one generation from an archive into a new folder: a data directory of its own, with the one generation in it,
 * its log at least up to `upTo`. Pieces are read side by side, every checksum is compared, and the folder is there whole
 * and durably, or not at all.
 * @param upTo an offset of the generation's chain.
 * @param dir the folder to make, in one that is there.
 * @throws ReplicaError ARCHIVE_DAMAGED, saying what can still be restored; USAGE where no identity fits, and for a folder
 * that is there; DISK_FULL, DISK_FAILED; of the store; the signal's reason.
 */
export async function fetchGeneration(
  archive: Archive,
  generation: ArchivedGeneration,
  upTo: Offset,
  dir: string,
  options: FetchOptions,
): Promise<void> {
  const { disk, signal } = options;
  signal.throwIfAborted();
  if (fs.lstatSync(dir, { throwIfNoEntry: false }) !== undefined) throw isThere(dir);
  const { offset: end } = generation.log.chain.end;
  if (upTo > end)
    throw usageError(
      `generation ${generation.name} ends at offset ${end} in the archive, before ${upTo}`,
    );
  const segments = generation.log.chain.segments.filter(({ from }) => from < upTo);
  refuseTooMuch(disk, dirname(dir), generation, segments);
  const root = join(dirname(dir), `.${basename(dir)}.fetching-${process.pid}`);
  try {
    fs.rmSync(root, { recursive: true, force: true });
    // Nobody else may look into it until it is known who may.
    fs.mkdirSync(root, { mode: 0o700 });
    await fetchInto({ ...options, archive, generation, root }, segments);
    await publish(disk, root, dir);
  } catch (cause) {
    await disk.removeLarge(root);
    signal.throwIfAborted();
    throw diskError("fetching to", dir, cause);
  }
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
  { base, name }: ArchivedGeneration,
  segments: readonly ArchivedSegment[],
): void {
  const logBytes = segments.reduce((sum, { from, to }) => sum + to - from, 0);
  const free = freeBytesAt(disk, dir);
  if (base.rdbBytes + logBytes <= free) return;
  throw new ReplicaError("DISK_FULL", {
    message: `generation ${name} has ${base.rdbBytes} bytes of snapshot and ${logBytes} of log, ${dir} has room for ${free}: make room`,
  });
}

async function fetchInto(fetch: Fetch, segments: readonly ArchivedSegment[]): Promise<void> {
  const { disk, generation, root, signal } = fetch;
  disk.makeDir(fetchedFiles(root).dir);
  const directory = new FetchedDirectory(disk, root, generation);
  try {
    const rdb = await fetchBase(fetch);
    const { streamDb } = replicationAux(rdb.header);
    const select = selectCommand(streamDb);
    const at = generation.first ?? baseMoment(generation, await generation.log.first(signal));
    await directory.keep(rdb, streamDb, select.length, at);
    const end = segments.at(-1)?.to ?? generation.description.baseOffset;
    const endMs = (await generation.log.momentFrom(end, signal))?.atMs;
    await fetchLog(fetch, segments, select, directory);
    await disk.syncDir(fetchedFiles(root).dir);
    await directory.finish(endMs);
  } finally {
    directory.close();
  }
}

/** Writes the pieces of the snapshot one behind the other, and checks the whole. */
async function fetchBase(fetch: Fetch): Promise<RdbSummary> {
  const { archive, generation, disk, signal, onProgress, root } = fetch;
  const { base: document, name } = generation;
  const { base: path } = fetchedFiles(root);
  const folder = baseFolder(name);
  const checker = new RdbChecker();
  const read = async (piece: ListedPiece, stop: AbortSignal) => {
    try {
      return await archive.source.piece(folder, piece, stop);
    } catch (error) {
      throw await told(fetch, `${folder}/${piece.name}`, error, NOTHING);
    }
  };
  const key = generationKey(name, BASE_FILE);
  const place = archive.source.placeOf(key);
  let at = 0;
  let rdb: RdbSummary;
  try {
    await writing(disk, path, async (fd) => {
      for await (const data of inOrder(document.pieces, READ_AHEAD, pieceCost, read, signal)) {
        checker.push(data);
        await disk.write(fd, [data], at);
        at += data.length;
        recycle(data);
        onProgress(path, at, document.rdbBytes);
      }
    });
    rdb = checker.finish();
  } catch (error) {
    // The pieces are as they were written, so that the snapshot was archived like this.
    if (!(error instanceof ReplicaError) || !error.code.startsWith("BAD_")) throw error;
    const what = `lists pieces that make no sound snapshot: ${error.message}`;
    throw await told(fetch, key, damaged(place, what), NOTHING);
  }
  if (hex64(rdb.crc64) === document.rdbCrc64) return rdb;
  const what = `says that its snapshot has the checksum ${document.rdbCrc64}, but that has ${hex64(rdb.crc64)}`;
  throw await told(fetch, key, damaged(place, what), NOTHING);
}

async function fetchLog(
  fetch: Fetch,
  segments: readonly ArchivedSegment[],
  select: Uint8Array,
  directory: FetchedDirectory,
): Promise<void> {
  const { archive, generation, disk, signal, onProgress, root } = fetch;
  const { log: path } = fetchedFiles(root);
  const { baseOffset } = generation.description;
  const read = async (segment: ArchivedSegment, stop: AbortSignal) => {
    try {
      const found = await archive.source.segment(logFolder(segment.generation), segment.name, stop);
      return { segment, ...found };
    } catch (error) {
      throw await told(fetch, segmentKey(segment), error, restorableUpTo(generation, segment.from));
    }
  };
  const total = (segments.at(-1)?.to ?? baseOffset) - baseOffset + select.length;
  let end = { at: 0, crc: 0n };
  await writing(disk, path, async (fd) => {
    if (segments.length === 0) await disk.write(fd, [select], 0);
    for await (const found of inOrder(segments, READ_AHEAD, segmentCost, read, signal)) {
      const { header, data, segment } = found;
      const fault = faultOf(found, end, select);
      if (fault !== undefined) {
        const key = segmentKey(segment);
        const error = damaged(archive.source.placeOf(key), fault);
        throw await told(fetch, key, error, restorableUpTo(generation, segment.from));
      }
      await disk.write(fd, [data], end.at);
      await directory.add(header, data.subarray(data.length - (header.to - header.from)));
      end = { at: end.at + data.length, crc: header.crcTo };
      recycle(data);
      onProgress(path, end.at, total);
    }
  });
}

/** Why a segment, which is sound by itself, isn't the next one of the log; undefined where it is. */
function faultOf(
  {
    header,
    data,
  }: { readonly header: { crcFrom: bigint; from: number; to: number }; data: Uint8Array },
  end: { readonly at: number; readonly crc: bigint },
  select: Uint8Array,
): string | undefined {
  if (header.crcFrom !== end.crc) return "belongs to another log: it was swapped";
  if (end.at > 0) return undefined;
  const before = data.subarray(0, data.length - (header.to - header.from));
  return Buffer.compare(before, select) === 0
    ? undefined
    : "doesn't begin with the SELECT of the snapshot's database: it belongs to another snapshot";
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

/** The error as people are told it, where it is damage. */
async function told(
  { archive, generation, signal }: Fetch,
  key: string,
  error: unknown,
  meaning: string,
): Promise<unknown> {
  if (!isArchiveDamage(error)) return error;
  const message = describeDamage(damageOf(archive.source, key, error, meaning));
  return await archive.damageError(generation.name, message, signal);
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
