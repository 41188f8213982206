import * as fs from "node:fs";
import { dirname } from "node:path";
import type { Archive } from "../../archive/reader/archive.ts";
import { type ArchivePoint, archivePoint } from "../../archive/reader/archive-point.ts";
import {
  fetchGenerations,
  type FetchOptions,
  type WantedGeneration,
} from "../../archive/reader/fetch-generation.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { formatAge } from "../../base/quantity.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { shardDirectory } from "../ledger/cluster-schema.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { countSlots, SLOTS } from "../slots/slot-ranges.ts";
import { writeHistory } from "../ledger/write-history.ts";
import type { ArchivedHistory, ClusterArchive } from "./cluster-archive.ts";
import { type DirectoryHistory, type JoinedHistory, joinHistories } from "./join-directories.ts";
import { type MigrationReach, migrationsAround, refuseLost } from "./migration-reach.ts";
import { beginMs, lineageAround } from "./shard-lineage.ts";

/** What is read around a moment: migrations began before it, and what a shard's log says after it counts, too. */
const BEFORE_MS = 10_000;
const AFTER_MS = 5_000;
/** From when on layouts are written: more than any of that. */
const LAYOUTS_MS = 60_000;
/** Across shards a moment is that of this replica's clock: they are this far from each other at most. */
const APART_MS = 2_000;
/** Slots that are open for longer than this are told by a layout's document that is older. */
const OPEN_MS = 24 * 3_600_000;

export interface FetchClusterOptions extends FetchOptions {
  /** Opens the archive of one shard, by its name. */
  readonly openShard: (shard: string) => Promise<Archive>;
}

/** What was fetched. */
export interface FetchedCluster {
  /** The moment that was asked for; else the newest as of which all shards can be restored. */
  readonly atMs: number;
}

/**
 * Brings as much of a cluster's archive as the restore of one moment needs into a new folder: a cluster's directory, with
 * a data directory for each shard that owned slots around then, its log up to a few seconds later.
 * @param atMs undefined: the newest moment as of which all shards can be restored.
 * @param dir a new folder.
 * @throws ReplicaError USAGE for a moment that a shard's archive doesn't cover, naming the shard; as `fetchGenerations`.
 */
export async function fetchCluster(
  archive: ClusterArchive,
  atMs: number | undefined,
  dir: string,
  options: FetchClusterOptions,
): Promise<FetchedCluster> {
  const { signal, disk, openShard } = options;
  const ends = new ShardEnds(openShard, signal);
  const { moment, history } =
    atMs === undefined
      ? await newestMoment(archive, ends, signal)
      : { moment: atMs, history: await historyAround(archive, atMs, signal) };
  tellDirectories(archive, history, moment);
  const owners = new Set(await ownersOrRefuse(archive, history, moment, signal));
  fs.mkdirSync(dir, { mode: 0o700 });
  writeHistory(dir, disk, history);
  const reaches = migrationsAround(history, moment);
  const isNewest = atMs === undefined;
  for (const shard of ownersWithin(history, moment - BEFORE_MS, moment + AFTER_MS)) {
    const isOwner = owners.has(shard);
    const to = shardDirectory(dir, shard.number);
    fs.mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    await ofShard(shard, async () => {
      const point = await pointOf(shard, ends, { moment, isNewest, isOwner }, signal);
      if (point === undefined) return;
      const one = await ends.archiveOf(shard);
      const reach = reaches.get(shard.number);
      const lineage = await lineageOf(shard, one, point, { moment, reach }, signal);
      await fetchGenerations(one, lineage, to, options);
    });
  }
  return { atMs: moment };
}

/** Says whose slots are taken, and whose may be missing. */
function tellDirectories(
  { source, directories }: ClusterArchive,
  history: JoinedHistory,
  moment: number,
): void {
  if (directories.length <= 1) return;
  logger.info(
    `${source.url} holds the layouts of ${directories.length} directories; slots are taken of ${history.directories.join(" and ")}`,
  );
  const ranges = history.layouts.findLast((one) => one.atMs <= moment)?.slots.values() ?? [];
  const later = history.beginLater(moment);
  if (countSlots([...ranges].flat()) === SLOTS || later.length === 0) return;
  logger.warn(
    `the layouts of ${later.join(" and ")} begin after that moment: slots that were of their shards belong to no shard in it`,
  );
}

/** What all directories tell of the layouts around a moment. */
async function historyAround(
  archive: ClusterArchive,
  aroundMs: number,
  signal: AbortSignal,
): Promise<JoinedHistory> {
  const all: DirectoryHistory[] = [];
  // What was written to last counts first.
  for (const one of archive.directories) {
    const [fromMs, toMs] = [aroundMs - OPEN_MS, aroundMs + AFTER_MS];
    all.push({ name: one.name, history: await archive.history(one, fromMs, toMs, signal) });
  }
  return joinHistories(all, aroundMs - LAYOUTS_MS);
}

/** @throws ReplicaError USAGE where no shard owned slots then. */
async function ownersOrRefuse(
  archive: ClusterArchive,
  history: ArchivedHistory,
  atMs: number,
  signal: AbortSignal,
): Promise<ShardRecord[]> {
  const owners = ownersWithin(history, atMs - APART_MS, atMs);
  if (owners.length > 0) return owners;
  if (archive.directories.length === 0)
    throw usageError(`${archive.source.url} holds no layout of a cluster yet`);
  const begins: number[] = [];
  for (const one of archive.directories) {
    const { layouts } = await archive.history(one, 0, Number.MAX_SAFE_INTEGER, signal);
    begins.push(...layouts.slice(0, 1).map((first) => first.atMs));
  }
  const since =
    begins.length === 0 ? "" : `: its layouts begin at ${shownTime(Math.min(...begins))}`;
  throw usageError(
    `${archive.source.url} tells of no shard with slots at ${shownTime(atMs)}${since}`,
  );
}

/**
 * The newest moment at which every shard that owns slots then has an archive that ends no further away than shards may be
 * from each other. Warns of shards whose archives are behind.
 */
async function newestMoment(
  archive: ClusterArchive,
  ends: ShardEnds,
  signal: AbortSignal,
): Promise<{ readonly moment: number; readonly history: JoinedHistory }> {
  const newestMs = Math.max(...archive.directories.map(({ documents }) => documents.at(-1)!.toMs));
  let history = await historyAround(archive, newestMs, signal);
  let owners = await ownersOrRefuse(archive, history, newestMs, signal);
  let moment = await ends.newestOf(owners);
  await ends.warnOfBehind(owners);
  // Further back, others may have owned slots.
  for (let before = newestMs; moment < before;) {
    before = moment;
    history = await historyAround(archive, moment, signal);
    owners = await ownersOrRefuse(archive, history, moment, signal);
    moment = Math.min(moment, await ends.newestOf(owners));
  }
  return { moment, history };
}

/** The shards that owned slots at some time between two, or had some open. */
function ownersWithin(
  { shards, layouts, openSlots }: ArchivedHistory,
  fromMs: number,
  toMs: number,
): ShardRecord[] {
  const first = Math.max(
    0,
    layouts.findLastIndex((one) => one.atMs <= fromMs),
  );
  const numbers = new Set([
    ...layouts
      .slice(first)
      .filter((one) => one.atMs <= toMs)
      .flatMap(({ slots }) =>
        [...slots].flatMap(([shard, ranges]) => (ranges.length > 0 ? [shard] : [])),
      ),
    ...openSlots
      .filter((one) => one.fromMs <= toMs && (one.untilMs ?? Infinity) >= fromMs)
      .flatMap(({ source, target }) => [source, target]),
  ]);
  return shards.filter(({ number }) => numbers.has(number));
}

/**
 * Where to end a shard's log for a moment. One that owned no slot then may have ended before, or begun later.
 * @returns undefined for one that has nothing of that time, and needs nothing.
 */
async function pointOf(
  shard: ShardRecord,
  ends: ShardEnds,
  how: { readonly moment: number; readonly isNewest: boolean; readonly isOwner: boolean },
  signal: AbortSignal,
): Promise<ArchivePoint | undefined> {
  const { moment, isNewest, isOwner } = how;
  try {
    const archive = await ends.archiveOf(shard);
    return await pointWith(archive, moment, isNewest || !isOwner, signal);
  } catch (error) {
    if (isOwner || !(error instanceof ReplicaError && error.code === "USAGE")) throw error;
    logger.info(`shard ${shard.name} is left out: ${error.message}`);
    return undefined;
  }
}

/**
 * The generation that covers the moment, and an offset a few seconds later where the archive has it.
 * @param endsBefore whether a shard whose archive ends before the moment ends there.
 */
async function pointWith(
  archive: Archive,
  atMs: number,
  endsBefore: boolean,
  signal: AbortSignal,
): Promise<ArchivePoint> {
  const whole = { generation: undefined, offset: undefined, atMs: undefined };
  if (endsBefore && (await lastMs(archive, signal)) < atMs) {
    return await archivePoint(archive, whole, signal);
  }
  const { generation, offset } = await archivePoint(archive, { ...whole, atMs }, signal);
  const later = await generation.log.momentBefore(atMs + AFTER_MS, signal);
  return { generation, offset: Math.max(offset, later?.offset ?? 0) };
}

/**
 * What to fetch of a shard: where slots were moving, as much of its stream as that reaches.
 * @throws ReplicaError USAGE where keys that were moved would be lost, since that isn't in the archive any more.
 */
async function lineageOf(
  shard: ShardRecord,
  archive: Archive,
  point: ArchivePoint,
  { moment, reach }: { readonly moment: number; readonly reach: MigrationReach | undefined },
  signal: AbortSignal,
): Promise<WantedGeneration[]> {
  const { generation, offset } = point;
  if (reach === undefined) return [{ generation, upTo: offset }];
  const within = { sinceMs: reach.sinceMs, untilMs: moment + AFTER_MS };
  const lineage = await lineageAround(archive, point, within, signal);
  const fromMs = beginMs(lineage[0]!.generation);
  if (fromMs <= reach.sinceMs) return lineage;
  refuseLost(shard, reach, fromMs);
  logger.info(
    `slots were moving from or to shard ${shard.name} around then; what is archived of it begins at ${shownTime(fromMs)}`,
  );
  return lineage;
}

async function lastMs(archive: Archive, signal: AbortSignal): Promise<number> {
  const generations = await archive.generations(signal);
  return Math.max(...generations.map(({ last }) => last?.atMs ?? -Infinity), -Infinity);
}

/** The archives of shards, each opened once, and where they end. */
class ShardEnds {
  readonly #open: (shard: string) => Promise<Archive>;
  readonly #signal: AbortSignal;
  readonly #archives = new Map<string, Promise<Archive>>();

  constructor(open: (shard: string) => Promise<Archive>, signal: AbortSignal) {
    this.#open = open;
    this.#signal = signal;
  }

  async archiveOf({ name }: ShardRecord): Promise<Archive> {
    const opened = this.#archives.get(name) ?? this.#open(name);
    this.#archives.set(name, opened);
    return await opened;
  }

  /** @throws ReplicaError USAGE for a shard that can't be restored at all. */
  async #endOf(shard: ShardRecord): Promise<number> {
    return await ofShard(shard, async () => {
      const endMs = await lastMs(await this.archiveOf(shard), this.#signal);
      if (Number.isFinite(endMs)) return endMs;
      throw usageError("its archive holds no whole snapshot yet: give --at for an earlier moment");
    });
  }

  /** The newest moment at which the end of no shard's archive is further away than shards may be from each other. */
  async newestOf(shards: readonly ShardRecord[]): Promise<number> {
    const ends: number[] = [];
    for (const shard of shards) ends.push(await this.#endOf(shard));
    const firstMs = Math.min(...ends);
    return Math.max(...ends.filter((endMs) => endMs <= firstMs + APART_MS));
  }

  async warnOfBehind(shards: readonly ShardRecord[]): Promise<void> {
    const ends = new Map<string, number>();
    for (const shard of shards) ends.set(shard.name, await this.#endOf(shard));
    const newestMs = Math.max(...ends.values());
    for (const [name, endMs] of ends) {
      if (newestMs - endMs <= APART_MS) continue;
      logger.warn(
        `the archive of shard ${name} ends ${formatAge((newestMs - endMs) / 1000)} before the newest of the others, and so does what is restored`,
      );
    }
  }
}

/** Names the shard in an error of its archive. */
async function ofShard<T>({ name }: ShardRecord, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    const { code, retry, message } = error;
    throw new ReplicaError(code, { retry, message: `shard ${name}: ${message}`, cause: error });
  }
}
