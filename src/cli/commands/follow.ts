import { existsSync } from "node:fs";
import { join } from "node:path";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { parsePrimarySource, parseSource } from "../../config/primary-source.ts";
import { DEFAULT_URL } from "../../config/primary-url.ts";
import { certificateRenewal } from "../../program/certificate-renewal.ts";
import { type FillingWatch, runReplicaProcess } from "../../program/replica-process.ts";
import type { Replica } from "../../replica/replica.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { DATABASE, GENERATIONS } from "../../store/generation/layout.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import type { CommandContext } from "./command.ts";
import { momentOf, momentOptions } from "./moment-options.ts";
import { clusterOf } from "./follow-cluster.ts";
import { snapshotOf, watchTransfer } from "./watch-transfer.ts";

/** `replica [follow] [URL]`: follows a primary until stopped, or serves what is kept. */
export async function follow(context: CommandContext): Promise<number> {
  const { settings, args, options, env, signal, stderr } = context;
  const renewCertificates = certificateRenewal(settings);
  if (renewCertificates !== undefined) context.onHangup?.(renewCertificates);
  const isOffline = options.has("offline");
  const archive = archiveToServe(context);
  const source = parseSource(archive === args[0] ? DEFAULT_URL : (args[0] ?? DEFAULT_URL));
  if (!isOffline) refuseMoment(options);
  // A plain start must come to its handler of SIGUSR1 without a pause.
  const mayBeCluster = isOffline || source.kind === "cluster";
  const cluster = mayBeCluster ? await clusterOf(context, source, archive) : undefined;
  if (cluster !== undefined) return await orStopped(signal, cluster);
  // Beside the archive of one primary, a cluster's URL names nobody who is followed.
  const primary = source.kind === "cluster" ? parsePrimarySource(DEFAULT_URL) : source;
  const watch = (replica: Replica) =>
    watchTransfer(() => snapshotOf(replica), stderr, settings.progress);
  // Elsewhere, progress is logged.
  const isShown = settings.progress && stderr.isTty;
  const watchFilling = isShown ? async () => await fillingProgress(stderr) : undefined;
  const parts = { source: primary, env, watch, watchFilling };
  // Nothing is archived of what is served as it is.
  const quiet = { ...settings, archive: { ...settings.archive, url: undefined } };
  return await orStopped(signal, async () => {
    if (archive === undefined) {
      const offline = isOffline ? await momentOf(context, settings.dir) : undefined;
      const plan = { ...parts, settings: isOffline ? quiet : settings, offline };
      await runReplicaProcess(plan, signal);
    } else {
      await serveArchived(archive, context, async (dir, offline) => {
        await runReplicaProcess({ ...parts, settings: { ...quiet, dir }, offline }, signal);
      });
    }
  });
}

/** Runs `act`. A stop is no failure, also while it starts. */
async function orStopped(signal: AbortSignal, act: () => Promise<void>): Promise<number> {
  try {
    await act();
  } catch (error) {
    if (!(signal.aborted && error instanceof ReplicaError && error.code === "STOPPED")) throw error;
  }
  return 0;
}

/**
 * The URL of the archive that --offline serves: one in the place of the primary's, or that of the settings where the data
 * directory keeps nothing. Undefined: what the data directory keeps.
 * @throws ReplicaError USAGE for an archive in the place of a primary that is to be followed.
 */
function archiveToServe({ settings, args, options }: CommandContext): string | undefined {
  const [given] = args;
  const isGiven = given !== undefined && isArchiveUrl(given);
  if (isGiven && !options.has("offline")) {
    throw usageError(
      "an archive can't be followed: give --offline to serve what it holds, or the primary's URL, and the archive as --archive",
    );
  }
  if (isGiven) return given;
  const { dir, archive } = settings;
  if (!options.has("offline") || archive.url === undefined) return undefined;
  const isKept = [DATABASE, GENERATIONS].some((name) => existsSync(join(dir, name)));
  if (!isKept) return archive.url;
  logger.info(`serving what ${dir} keeps; to serve from the archive, name it in place of a URL`);
  return undefined;
}

/** Fetches the moment that the options name to beside the data directory, which must be new or empty. */
async function serveArchived(
  url: string,
  context: CommandContext,
  serve: (dir: string, offline: Wanted) => Promise<void>,
): Promise<void> {
  const { settings, signal, stderr } = context;
  const [{ archivedPoint }, { withFetchedDirectory }, { fileProgress }] = await Promise.all([
    import("./restore-archived.ts"),
    import("../../archive/reader/fetch-source.ts"),
    import("./file-progress.ts"),
  ]);
  const { archive, point } = await archivedPoint(url, context);
  const { generation, offset } = point;
  logger.info(`fetching generation ${generation.name} from ${url} up to offset ${offset}`);
  const progress = fileProgress(stderr, settings.progress);
  const options = { disk: realDisk, signal, onProgress: progress.look };
  try {
    await withFetchedDirectory(archive, point, settings.dir, options, async (dir) => {
      progress.end();
      await serve(dir, { generation: undefined, offset, atMs: undefined });
    });
  } finally {
    progress.end();
  }
}

/** Progress brings Node's streams with it, and a start that fetches nothing has to be quick. */
async function fillingProgress(stderr: CommandContext["stderr"]): Promise<FillingWatch> {
  const { fileProgress } = await import("./file-progress.ts");
  return fileProgress(stderr, true);
}

/** @throws ReplicaError USAGE where a moment is chosen, which --offline alone can serve. */
function refuseMoment(options: CommandContext["options"]): void {
  const given = momentOptions.find(({ name }) => options.has(name));
  if (given === undefined) return;
  throw usageError(`--${given.name} needs --offline: a replica that follows a primary moves on`);
}
