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
import { damaged } from "../store/object-store.ts";
import { type Archive, type ArchivedGeneration, baseMoment } from "./archive.ts";
import { type ArchivedSegment, segmentCost, segmentKey } from "./archived-log.ts";
import { damageOf, isArchiveDamage, type ListedPiece } from "./archive-source.ts";
import { FetchedDirectory, fetchedFiles } from "./fetched-directory.ts";
import { NOTHING } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";
import { pieceCost } from "./verify-base.ts";

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
    const tell = (error: unknown) => told(fetch, `${folder}/${piece.name}`, error, NOTHING);
    try {
      return telling(await archive.source.piece(folder, piece, stop), tell);
    } catch (error) {
      throw await tell(error);
    }
  };
  const key = generationKey(name, BASE_FILE);
  const place = archive.source.placeOf(key);
  let at = 0;
  let rdb: RdbSummary;
  try {
    await writing(disk, path, async (fd) => {
      for await (const parts of inOrder(document.pieces, READ_AHEAD, pieceCost, read, signal)) {
        for await (const data of parts) {
          checker.push(data);
          await disk.write(fd, [data], at);
          at += data.length;
          onProgress(path, at, document.rdbBytes);
        }
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
  const tell = (segment: ArchivedSegment, error: unknown) =>
    told(fetch, segmentKey(segment), error, restorableUpTo(generation, segment.from));
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

/** The parts of an object; what they throw is told as `tell` says. */
async function* telling(
  parts: AsyncIterable<Uint8Array>,
  tell: (error: unknown) => Promise<unknown>,
): AsyncGenerator<Uint8Array, void> {
  try {
    yield* parts;
  } catch (error) {
    throw await tell(error);
  }
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
