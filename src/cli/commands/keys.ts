import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { jsonLine } from "../../base/printable.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { ComparedMoments } from "../../inspect/compare/compare-moments.ts";
import { KeyReport } from "../../inspect/keys/key-report.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { restorePoint, shownTime } from "../../store/restore/restore-point.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { GENERATIONS } from "../../store/generation/layout.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import type { FetchSourceOptions } from "../../archive/reader/fetch-source.ts";
import { isDirectory } from "../archives/local-source.ts";
import { isClusterDirectory, refuseShardPoint } from "../clusters/cluster-source.ts";
import { type ComparedTimes, comparedTimes } from "../compare/compare-choice.ts";
import { keysToCsv } from "../keys/keys-csv.ts";
import { keysToJson } from "../keys/keys-json.ts";
import { keysChoice } from "../keys/keys-choice.ts";
import type { KeysReport, ReadSnapshot } from "../keys/keys-report.ts";
import { keysToText } from "../keys/keys-text.ts";
import { readSnapshot } from "../keys/read-snapshot.ts";
import { fileSource, generationSource, type SnapshotSource } from "../keys/snapshot-source.ts";
import { refuseLong } from "../restores/key-options.ts";
import type { CommandContext, RunCommand } from "./command.ts";
import { fileProgress } from "./file-progress.ts";
import { keptIn, momentOf, momentOptions, pointOf, tell, timeOf } from "./moment-options.ts";

/** What it takes, for an error. */
const TAKES = "an RDB file, a data directory, an archive's URL, or - for standard input";

/** `replica keys SOURCE`: tells what a snapshot holds. */
export const keys: RunCommand = async (context) => {
  const { args, clock, options, settings, signal, stderr } = context;
  const [source = ""] = args;
  const times = comparedTimes(options);
  if (times !== undefined) return await compare(source, times, context);
  const { report: how, ...choice } = keysChoice(options);
  const report = new KeyReport(how);
  const snapshots: ReadSnapshot[] = [];
  let failure: ReplicaError | undefined;
  const sources = await sourcesOf(source, context);
  announce(sources, context);
  const progress = fileProgress(stderr, settings.progress);
  try {
    for (const one of sources) {
      const reading = { signal, nowMs: clock.now(), onProgress: progress.look };
      const { snapshot, error } = await readSnapshot(one, report, reading);
      snapshots.push(snapshot);
      failure ??= error;
    }
  } finally {
    progress.end();
  }
  const found = report.found();
  const told = { source, snapshots, found, prefixDepth: how.prefixDepth, ...choice };
  // Of what isn't an RDB at all, the error says enough.
  if (failure === undefined || found.total.keys > 0 || options.has("json")) write(told, context);
  if (failure !== undefined) throw failure;
  return 0;
};

/** `replica keys SOURCE --at A --compare-to B`: tells which keys came, went and changed from one time to the other. */
async function compare(
  source: string,
  times: ComparedTimes,
  context: CommandContext,
): Promise<number> {
  const { clock, options, settings, signal, stderr, stdout } = context;
  const [{ compareMoments }, { writeComparison }, { PieceCheckers }, { serverFinder }] =
    await Promise.all([
      import("../../inspect/compare/compare-moments.ts"),
      import("../compare/comparison-report.ts"),
      import("../../store/pieces/piece-checkers.ts"),
      import("./restore-keys.ts"),
    ]);
  const { db, match = "*" } = keysChoice(options);
  refuseLong([match], "match");
  const progress = fileProgress(stderr, settings.progress);
  const reading = { disk: realDisk, signal, onProgress: progress.look };
  const nowMs = clock.now();
  try {
    const withMoments = await comparedMoments(source, times, context, { ...reading, nowMs });
    const server = await serverFinder(options, undefined);
    using checkers = new PieceCheckers({ signal });
    return await withMoments(async (moments) => {
      const tellNote = (note: string) => logger.warn(note);
      const comparing = { ...reading, checkers, server, tell: tellNote };
      const selection = { patterns: [match], db };
      await using comparison = await compareMoments(moments, selection, comparing);
      progress.end();
      const how = options.has("json") ? "json" : options.has("csv") ? "csv" : "text";
      await writeComparison(comparison, how, { stdout, signal });
      return 0;
    });
  } finally {
    progress.end();
  }
}

type WithMoments = <T>(use: (moments: ComparedMoments) => Promise<T>) => Promise<T>;

/** Finds out when the times are, and tells it; what is returned opens what the source keeps of them. */
async function comparedMoments(
  source: string,
  { at, compareTo }: ComparedTimes,
  context: CommandContext,
  reading: FetchSourceOptions & { readonly nowMs: number },
): Promise<WithMoments> {
  const timesOf = async (kept: () => Promise<string>) => ({
    beforeMs: await timeOf("at", at, kept, context),
    afterMs: await timeOf("compare-to", compareTo, kept, context),
  });
  const kept = await import("../compare/kept-moments.ts");
  if (isArchiveUrl(source)) {
    const { openClusterArchive } = await import("../clusters/fetched-cluster.ts");
    if ((await openClusterArchive(source, context)) !== undefined) throw isCluster(source, "NAME");
    const { openArchive } = await import("../../archive/open/open-archive.ts");
    const archive = await openArchive(source, context);
    for (const damage of archive.damages) logger.warn(describeDamage(damage));
    const times = await timesOf(async () => await kept.keptInArchive(archive, context.signal));
    return async (use) => await kept.withArchivedMoments(archive, times, reading, use);
  }
  if (isClusterDirectory(source)) throw isCluster(source, "0001");
  if (source === "-" || !isDirectory(source, TAKES)) {
    throw usageError(
      `--compare-to is for a data directory or an archive, and ${source === "-" ? "standard input" : source} is one snapshot`,
    );
  }
  refuseServerDirectory(source);
  const times = await timesOf(async () => await keptIn(source, undefined));
  return async (use) => await kept.withMomentsOf(source, times, reading.nowMs, use);
}

function isCluster(source: string, shard: string): ReplicaError {
  return usageError(
    `${source} holds a whole cluster, and --compare-to compares the keys of one shard: replica keys ${source}/shards/${shard}`,
  );
}

function write(report: KeysReport, { options, stdout }: CommandContext): void {
  if (options.has("json")) stdout.write(`${jsonLine(keysToJson(report))}\n`);
  else if (options.has("csv")) stdout.write(keysToCsv(report));
  else {
    const { isTty, hasColors, columns } = stdout;
    stdout.write(keysToText(report, { columns: isTty ? columns : undefined, hasColors }));
  }
}

/** Says which snapshots of a kept history are read, and what isn't in them. */
function announce(sources: readonly SnapshotSource[], context: CommandContext): void {
  const { options } = context;
  const isMoment = options.has("at") || options.has("offset");
  const lines = sources.flatMap(({ shard, generation, offset, logBytes = 0, atMs }) => {
    if (generation === undefined) return [];
    const whose = shard === undefined ? "" : `shard ${shard}: `;
    const when = atMs === undefined ? "" : `, from ${shownTime(atMs)}`;
    const until = isMoment ? "up to the moment" : "after it";
    const log = logBytes === 0 ? "" : `, without the ${formatBytes(logBytes)} of log ${until}`;
    return `${whose}reads the snapshot of generation ${generation} at offset ${offset ?? 0}${when}${log}`;
  });
  if (sources.some(({ logBytes = 0 }) => logBytes > 0)) {
    const hint =
      "replica log shows what the log holds, replica restore --keys brings keys back as of a moment in it";
    if (lines.length === 1) lines[0] += `: ${hint}`;
    else lines.push(hint);
  }
  for (const line of lines) tell(line, context);
}

async function sourcesOf(source: string, context: CommandContext): Promise<SnapshotSource[]> {
  if (isArchiveUrl(source)) return await archivedSources(source, context);
  if (isClusterDirectory(source)) return await shardSources(source, context);
  if (source !== "-" && isDirectory(source, TAKES)) return await directorySource(source, context);
  const given = momentOptions.find(({ name }) => context.options.has(name));
  if (given !== undefined) {
    throw usageError(
      `--${given.name} is for a data directory or an archive, and ${source === "-" ? "standard input" : source} is one snapshot`,
    );
  }
  if (source !== "-") return [fileSource(source)];
  return [(await import("../keys/standard-input.ts")).standardInput()];
}

async function directorySource(dir: string, context: CommandContext): Promise<SnapshotSource[]> {
  refuseServerDirectory(dir);
  const wanted = await momentOf(context, dir);
  using catalogue = new Catalogue(dir);
  for (const loss of catalogue.losses) logger.warn(describeDamage(loss));
  const note = cutShortNote(catalogue);
  if (note !== undefined) logger.info(note);
  const point = restorePoint(catalogue, wanted, context.clock.now());
  return [generationSource(catalogue, point)];
}

/** Where a server keeps its snapshot, below its own directory. */
const SERVER_FOLDERS = ["", "appendonlydir"];

/** Refuses the directory of a server, and names the snapshot in it. @throws ReplicaError USAGE. */
function refuseServerDirectory(dir: string): void {
  if (statSync(join(dir, GENERATIONS), { throwIfNoEntry: false }) !== undefined) return;
  for (const folder of SERVER_FOLDERS) {
    const path = join(dir, folder);
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) continue;
    const file = readdirSync(path).find((name) => name.endsWith(".rdb"));
    if (file === undefined) continue;
    throw usageError(
      `${dir} isn't a replica data directory, but holds a snapshot: replica keys ${join(path, file)}`,
    );
  }
}

async function shardSources(dir: string, context: CommandContext): Promise<SnapshotSource[]> {
  refuseShardPoint(dir, context.options, "keys");
  const [{ ClusterDirectory }, { clusterSources }, { keptMoments }] = await Promise.all([
    import("../../cluster/restore/cluster-directory.ts"),
    import("../keys/cluster-sources.ts"),
    import("../clusters/restore-cluster.ts"),
  ]);
  const nowMs = context.clock.now();
  const { atMs } = await pointOf(context, async () => keptMoments(dir, nowMs));
  using directory = new ClusterDirectory(dir);
  return clusterSources(directory, { atMs, nowMs });
}

async function archivedSources(url: string, context: CommandContext): Promise<SnapshotSource[]> {
  const { clock, options, signal } = context;
  // What reads an archive is large.
  const { openClusterArchive, openShardArchive } = await import("../clusters/fetched-cluster.ts");
  const cluster = await openClusterArchive(url, context);
  if (cluster === undefined) {
    const [{ archivedPoint }, { archivedSource }] = await Promise.all([
      import("./restore-archived.ts"),
      import("../keys/archived-source.ts"),
    ]);
    const { archive, point } = await archivedPoint(url, context);
    return [archivedSource(archive, point)];
  }
  refuseShardPoint(url, options, "keys");
  const { archivedClusterSources } = await import("../keys/cluster-sources.ts");
  const { atMs } = await pointOf(context, async () => "");
  const openShard = async (shard: string) => await openShardArchive(url, shard, context);
  return await archivedClusterSources(cluster, { atMs, nowMs: clock.now() }, openShard, signal);
}
