import { Archive, type ArchivedGeneration } from "../archive/reader/archive.ts";
import { cutOf } from "../archive/reader/archive-point.ts";
import type { ArchiveSource } from "../archive/reader/archive-source.ts";
import { fetchGeneration } from "../archive/reader/fetch-generation.ts";
import { newestGeneration } from "../archive/reader/newest.ts";
import type { Clock } from "../base/clock.ts";
import { ReplicaError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import { printable } from "../base/printable.ts";
import { formatBytes } from "../base/quantity.ts";
import { describeSource, isNamedElsewhere, type PrimarySource } from "../config/primary-source.ts";
import { parsePrimaryUrl, type PrimaryTarget, sameEndpoint } from "../config/primary-url.ts";
import type { Settings } from "../config/settings.ts";
import { type Disk, freeBytesAt } from "../store/disk/disk.ts";
import { shownTime } from "../store/restore/restore-point.ts";
import { Filling, isHalfMoved } from "./filling.ts";

/** For so long an archive is waited for that can't be reached: a full resync is there for the asking. */
const REACH_MS = 30_000;
const PAUSE_MS = 1_000;
/** Without a terminal, progress is logged at this interval. */
const LOG_EVERY_MS = 10_000;
/** A full resync must still fit, and the primary may have more by now. */
const GROWTH = 9 / 8;

/** Looks at the bytes of base or log that are fetched so far. */
export type OnFetched = (file: string, bytes: number, totalBytes: number) => void;

export interface Bootstrap {
  /** Opens the archive; asks nothing of it yet. @throws ReplicaError USAGE for settings that can't be. */
  readonly open: () => Promise<ArchiveSource>;
  /** The primary that is to be followed. */
  readonly primary: PrimarySource;
  readonly settings: Pick<Settings, "dir" | "minFreeBytes" | "minFreeShare">;
  readonly disk: Disk;
  readonly clock: Clock;
  /** Undefined: progress is logged. */
  readonly onFetched: OnFetched | undefined;
}

/**
 * Fills a data directory that keeps nothing with the archive's newest generation, up to its end. PSYNC then asks for what
 * came since; where the primary doesn't grant that, all this was for nothing, and no harm. So whatever is wrong with the
 * archive is told in one line, and the replica goes on without it.
 * @returns whether it was filled.
 * @throws ReplicaError USAGE for settings that can't be; DIRECTORY_IN_USE, and what else keeps the directory from being
 * used at all; the signal's reason.
 */
export async function fillFromArchive(bootstrap: Bootstrap, signal: AbortSignal): Promise<boolean> {
  const { settings, disk, primary } = bootstrap;
  const source = await bootstrap.open();
  using filling = await Filling.begin(settings.dir, disk);
  if (filling.keeps(describeSource(primary))) return false;
  const { path } = filling;
  logger.info(`${path} keeps nothing yet: looking for the primary's history in ${source.url}`);
  let archive: Archive | undefined;
  try {
    archive = await reach(source, bootstrap, signal);
    const generation = await newestGeneration(archive, isNameOf(primary), signal);
    if (generation === undefined) {
      logger.info(`${source.url} holds no whole snapshot yet`);
      return false;
    }
    const cut = cutOf(generation);
    if (cut !== undefined) logger.warn(cut);
    await fill(filling, archive, generation, bootstrap, signal);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ReplicaError)) throw error;
    // The next start finishes that; whoever opened it now would take it for damaged.
    if (isHalfMoved(path)) throw error;
    const { message, code } = error;
    // At the first start of all, nothing was written there yet.
    if (archive === undefined && code === "USAGE") logger.info(`${message} yet`);
    else {
      const what = `${path} is not filled from the archive, it gets a full resync: ${message}`;
      logger.warn(what, { code });
    }
    return false;
  }
}

/** Opens the archive; where it can't be reached, again and again for some time. */
async function reach(
  source: ArchiveSource,
  { clock }: Bootstrap,
  signal: AbortSignal,
): Promise<Archive> {
  const reached = new AbortController();
  const late = new ReplicaError("ARCHIVE_FAILED", {
    message: `${source.url} did not answer within ${REACH_MS / 1000} s`,
  });
  const over = new AbortController();
  void clock.sleep(REACH_MS, reached.signal).then(() => over.abort(late));
  const ending = AbortSignal.any([signal, over.signal]);
  let failure: ReplicaError | undefined;
  try {
    for (;;) {
      try {
        return await Archive.open(source, ending);
      } catch (error) {
        signal.throwIfAborted();
        if (over.signal.aborted) throw failure ?? error;
        if (!(error instanceof ReplicaError) || error.retry === "never") throw error;
        if (failure === undefined)
          logger.warn(`${error.message}; it is tried for ${REACH_MS / 1000} s in all`);
        failure = error;
      }
      await clock.sleep(PAUSE_MS, ending);
      if (over.signal.aborted) throw failure;
    }
  } finally {
    reached.abort();
  }
}

async function fill(
  filling: Filling,
  archive: Archive,
  generation: ArchivedGeneration,
  bootstrap: Bootstrap,
  signal: AbortSignal,
): Promise<void> {
  const { disk, clock } = bootstrap;
  const { name, description, base, log, last } = generation;
  const { offset } = log.chain.end;
  const logBytes = offset - description.baseOffset;
  refuseTooMuch(filling.path, base.rdbBytes, logBytes, bootstrap);
  const from = `generation ${name} of ${printable(description.primary)} from ${archive.source.url}`;
  const until = last === undefined ? "" : `, as of ${shownTime(last.atMs)}`;
  logger.info(
    `filling ${filling.path} with ${from}: ${formatBytes(base.rdbBytes)} of snapshot and ${formatBytes(logBytes)} of log${until}`,
  );
  const beganMs = clock.monotonicMs();
  const onProgress = bootstrap.onFetched ?? logged(clock);
  await filling.fill(async (dir) => {
    await fetchGeneration(archive, generation, offset, dir, { disk, signal, onProgress });
  });
  const seconds = (clock.monotonicMs() - beganMs) / 1000;
  logger.info(
    `filled ${filling.path} from the archive in ${seconds.toFixed(2)} s, up to offset ${offset}; the primary is asked for the rest`,
    { generation: name, offset, seconds: Number(seconds.toFixed(3)) },
  );
}

/** What is fetched must leave room for what is kept free, and for the full resync that may follow all the same. */
function refuseTooMuch(
  path: string,
  rdbBytes: number,
  logBytes: number,
  { disk, settings }: Bootstrap,
): void {
  const free = freeBytesAt(disk, path);
  const kept = Math.min(settings.minFreeBytes, settings.minFreeShare * free);
  const needed = rdbBytes + logBytes + GROWTH * rdbBytes + kept;
  if (needed <= free) return;
  throw new ReplicaError("DISK_FULL", {
    message: `its newest generation takes ${formatBytes(rdbBytes + logBytes)}, and beside it there must be room for a full resync and for --min-free, ${formatBytes(needed)} in all: ${formatBytes(free)} is free`,
  });
}

function logged(clock: Clock): OnFetched {
  let tellAtMs = clock.monotonicMs() + LOG_EVERY_MS;
  return (file, bytes, totalBytes) => {
    if (clock.monotonicMs() < tellAtMs) return;
    tellAtMs = clock.monotonicMs() + LOG_EVERY_MS;
    const what = file.endsWith(".rdb") ? "snapshot" : "log";
    logger.info(`${what} from the archive: ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`);
  };
}

/** Whether a name, as an archive tells it, is that of the primary; of one that others name, nobody knows. */
function isNameOf(source: PrimarySource): (name: string) => boolean {
  if (isNamedElsewhere(source)) return () => false;
  return (name) => {
    const named = targetOf(name);
    return named !== undefined && sameEndpoint(named, source);
  };
}

function targetOf(name: string): PrimaryTarget | undefined {
  try {
    return parsePrimaryUrl(name);
  } catch {
    return undefined;
  }
}
