import { join } from "node:path";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { writeChosenFolder } from "../../inspect/chosen/chosen-folder.ts";
import { chooseKeys } from "../../inspect/chosen/choose-keys.ts";
import { Target } from "../../inspect/deliver/target.ts";
import { makePrivateDirectory, type PrivateDirectory } from "../../stock/private-directory.ts";
import type { Selection } from "../../inspect/needs/selection.ts";
import { findServer, type ServerProgram } from "../../stock/server-program.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import type { RestoreOptions } from "../../store/restore/restore.ts";
import { type RestorePoint, restorePoint } from "../../store/restore/restore-point.ts";
import { findTarget } from "../../store/restore/restore-target.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import { bringIn } from "../delivery/bring-in.ts";
import { type FollowedPrimary, refuseUnnamed } from "../delivery/followed-primary.ts";
import type { IntoWanted } from "../delivery/into-wanted.ts";
import { type Afterwards, bootRestored } from "../restores/after-restore.ts";
import { chosenToJson, describeChosen } from "../restores/chosen-report.ts";
import { dbOption, keysOption, refuseLong } from "../restores/key-options.ts";
import { withOthers } from "../restores/other-generations.ts";
import { type CommandContext, valuesOf } from "./command.ts";
import { fileProgress } from "./file-progress.ts";
import { momentOf, wholeNumber } from "./moment-options.ts";

/** The keys that the options choose. @throws ReplicaError USAGE. */
export function selectionOf(options: ReadonlyMap<string, string>): Selection {
  if (!options.has(keysOption.name)) {
    throw usageError(
      `--${dbOption.name} chooses among --${keysOption.name}: add --${keysOption.name} '*' for all keys of the database`,
    );
  }
  const patterns = valuesOf(options, keysOption.name);
  refuseLong(patterns);
  return { patterns, db: wholeNumber(dbOption.name, options.get(dbOption.name)) };
}

/** Opens a source at the moment that the options choose, gives it to `use`, and closes it. */
export type WithSource = <T>(
  use: (catalogue: Catalogue, point: RestorePoint, from: string | number) => Promise<T>,
) => Promise<T>;

type OnProgress = (file: string, bytes: number, totalBytes: number) => void;

/**
 * `replica restore SOURCE TARGET --keys PATTERN`: writes a server's folder with these keys alone.
 * @param how as a whole restore is written.
 */
export async function restoreKeys(
  context: CommandContext,
  how: Pick<RestoreOptions, "layout" | "mode" | "target"> & {
    readonly afterwards: Afterwards | undefined;
  },
  isCluster: boolean,
): Promise<number> {
  const { args, clock, options, settings, signal, stdout, stderr } = context;
  const [source = "", target = ""] = args;
  if (isCluster) throw clusterError(source);
  const selection = selectionOf(options);
  const server = await serverFinder(options, how.afterwards);
  const progress = fileProgress(stderr, settings.progress);
  try {
    const withSource = await sourceOf(source, target, context, progress.look);
    const { layout, mode } = how;
    const surroundings = { disk: realDisk, signal };
    using checkers = new PieceCheckers({ signal });
    return await withSource(async (catalogue, point, from) => {
      // A wrong target is refused before anything is read.
      findTarget(target, catalogue.path);
      const tell = (note: string) => logger.warn(note);
      const choosing = { ...surroundings, checkers, onProgress: progress.look, server, tell };
      await using chosen = await chooseKeys(catalogue, point, selection, choosing);
      const folder = await writeChosenFolder(chosen, catalogue, target, {
        ...surroundings,
        layout,
        mode,
        target: how.target,
        nowMs: clock.now(),
      });
      warnOfUnmet(chosen.unmet);
      const done = { chosen, folder, from };
      const { atMs } = chosen.about;
      const load = (loaded: number, total: number) => progress.look("load", loaded, total);
      const where = { signal, stderr, onProgress: load };
      return await bootRestored({ ...folder, atMs }, how.afterwards, where, (checked) => {
        stdout.write(
          options.has("json")
            ? `${JSON.stringify(chosenToJson(done, checked))}\n`
            : describeChosen(done, checked),
        );
      });
    });
  } finally {
    progress.end();
  }
}

/**
 * `replica restore SOURCE --keys PATTERN --into URL`: brings these keys, as of a moment, into a running server.
 * @param isCluster whether the source holds a whole cluster.
 * @returns the exit code: 1 where a key was refused.
 */
export async function restoreInto(
  context: CommandContext,
  wanted: IntoWanted,
  isCluster: boolean,
): Promise<number> {
  const { args, clock, options, settings, signal, stderr } = context;
  const [source = ""] = args;
  if (isCluster) throw clusterError(source);
  const selection = selectionOf(options);
  const server = await serverFinder(options, undefined);
  const progress = fileProgress(stderr, settings.progress);
  let holder: PrivateDirectory | undefined;
  try {
    // What an archive holds is fetched first, and there is no folder to fetch it to beside.
    holder = isArchiveUrl(source) ? makePrivateDirectory() : undefined;
    const beside = holder === undefined ? "" : join(holder.path, "keys");
    const withSource = await sourceOf(source, beside, context, progress.look);
    // A target that can't be reached is told before anything is read.
    using target = await Target.open(wanted.source, { ...wanted, settings, clock, signal });
    return await withSource(async (catalogue, point, from) => {
      const followed = followedIn(source, catalogue);
      const refuse = async () => await refuseUnnamed(target, followed, wanted, { stderr, signal });
      // A cluster's nodes are known once it is known which keys are to go there.
      if (!target.isCluster) await refuse();
      using checkers = new PieceCheckers({ signal });
      await using chosen = await chooseKeys(catalogue, point, selection, {
        disk: realDisk,
        signal,
        checkers,
        onProgress: progress.look,
        server,
        tell: (note) => logger.warn(note),
      });
      progress.end();
      const { offset, atMs } = chosen.about;
      const moment = { source, generation: from, offset, atMs };
      const beforeWriting = target.isCluster ? refuse : undefined;
      return await bringIn(target, chosen, moment, wanted, { ...context, beforeWriting });
    });
  } finally {
    progress.end();
    await holder?.remove();
  }
}

/** What a kept history knows of the primaries that it comes from. */
function followedIn(source: string, { generations }: Catalogue): FollowedPrimary {
  const ids = generations.flatMap((one) => one.replicationIds.map(({ replid }) => replid));
  return {
    source,
    replicationIds: new Set<string>(ids),
    urls: generations.flatMap(({ primaryName }) => primaryName ?? []),
  };
}

/** The error for a whole cluster: its shards have a moment each. */
function clusterError(source: string): ReplicaError {
  return usageError(
    `${source} holds a whole cluster, and --${keysOption.name} takes the keys of one shard: replica restore ${source}/shards/${isArchiveUrl(source) ? "NAME, as replica snapshots names it" : "0001"}`,
  );
}

function warnOfUnmet(unmet: readonly string[]): void {
  for (const pattern of unmet) logger.warn(`no key matches ${JSON.stringify(pattern)}`);
}

/**
 * Finds the server that may have to replay commands. One that is named has to be right; where none is on PATH, that is
 * only told, since it may not be needed.
 * @throws ReplicaError USAGE.
 */
export async function serverFinder(
  options: ReadonlyMap<string, string>,
  afterwards: Afterwards | undefined,
): Promise<() => Promise<ServerProgram>> {
  if (afterwards !== undefined) return async () => afterwards.server;
  const path = options.get("server");
  try {
    const server = await findServer(path);
    return async () => server;
  } catch (error) {
    if (!(error instanceof ReplicaError) || path !== undefined) throw error;
    logger.info(
      `${error.message}; it is needed unless these keys stand in the snapshot as they were at that moment`,
    );
    return async () => {
      throw error;
    };
  }
}

/** Finds out where the moment is kept. @throws ReplicaError USAGE; of the archive. */
async function sourceOf(
  source: string,
  target: string,
  context: CommandContext,
  onProgress: OnProgress,
): Promise<WithSource> {
  if (isArchiveUrl(source)) {
    // What reads an archive is large, and few restores need it.
    const { archivedSource } = await import("./restore-archived.ts");
    return await archivedSource(source, target, context, onProgress);
  }
  const wanted = await momentOf(context, source);
  return async (use) => {
    using catalogue = new Catalogue(source);
    for (const loss of catalogue.losses) logger.warn(describeDamage(loss));
    const note = cutShortNote(catalogue);
    if (note !== undefined) logger.info(note);
    const nowMs = context.clock.now();
    const point = restorePoint(catalogue, wanted, nowMs);
    return await use(catalogue, point, point.generation.id).catch((error: unknown) => {
      throw withOthers(error, catalogue, { wanted, nowMs, point });
    });
  };
}
