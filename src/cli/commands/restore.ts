import { usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import { findServer } from "../../stock/server-program.ts";
import { refuseMismatch } from "../../stock/stock-directory.ts";
import { refuseTaken } from "../../stock/stock-server.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import {
  describeLeftOut,
  type Layout,
  restore as write,
  type Restored,
  type RestoreOptions,
} from "../../store/restore/restore.ts";
import { restorePoint, shownTime, type Wanted } from "../../store/restore/restore-point.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import {
  parseTargetServer,
  refuseOther,
  type TargetServer,
} from "../../store/restore/target-server.ts";
import { isArchiveUrl } from "../../archive/open/archive-url.ts";
import { addressesOption } from "../clusters/cluster-help.ts";
import {
  isClusterDirectory,
  refuseAddresses,
  refuseShardPoint,
} from "../clusters/cluster-source.ts";
import type { ClusterArchive } from "../../cluster/archive/cluster-archive.ts";
import {
  type Afterwards,
  bootRestored,
  type Checked,
  checkToJson,
  describeCheck,
} from "../restores/after-restore.ts";
import { intoOf } from "../delivery/into-wanted.ts";
import { dbOption, keysOption } from "../restores/key-options.ts";
import { modeOf } from "../restores/mode-option.ts";
import { withOthers } from "../restores/other-generations.ts";
import type { WholeRestore } from "../clusters/restore-cluster.ts";
import type { CommandContext, RunCommand } from "./command.ts";
import { fileProgress } from "./file-progress.ts";
import { momentOf, pointOf, wholeNumber } from "./moment-options.ts";

/** `replica restore SOURCE TARGET`: writes files that a stock server starts from, as of a moment. */
export const restore: RunCommand = async (context) => {
  const { args, options, settings, stderr } = context;
  if (args[1]?.includes("://") === true) {
    throw usageError(
      `${args[1]} is not a folder: in "replica restore SOURCE TARGET", TARGET is one`,
    );
  }
  const [source = ""] = args;
  const isCluster = isClusterDirectory(source);
  const into = intoOf(args, options);
  if (into === undefined && args.length < 2) {
    throw usageError(
      "restore needs more arguments: replica restore SOURCE TARGET, or SOURCE --keys PATTERN --into URL",
    );
  }
  const archive = await clusterArchiveAt(source, context);
  if (into !== undefined) {
    // What writes into a server is large, and few restores need it.
    const { restoreInto } = await import("./restore-keys.ts");
    return await restoreInto(context, into, isCluster || archive !== undefined);
  }
  if (options.has(keysOption.name) || options.has(dbOption.name)) {
    refuseAddresses(source, options);
    // What chooses keys is large, and few restores need it.
    const { restoreKeys } = await import("./restore-keys.ts");
    const how = await howOf(options, "replays commands on keys");
    return await restoreKeys(context, how, isCluster || archive !== undefined);
  }
  if (isCluster || archive !== undefined) return await restoreCluster(source, archive, context);
  refuseAddresses(source, options);
  const choose = await chooserOf(source);
  const writeChosen = await choose(context);
  const { afterwards, ...how } = await howOf(options);
  const progress = fileProgress(stderr, settings.progress);
  try {
    const done = await writeChosen(how, progress.look);
    const load = (loaded: number, total: number) => progress.look("load", loaded, total);
    const tell = (checked: Checked | undefined) => report(context, done, checked);
    return await bootRestored(done.restored, afterwards, { ...context, onProgress: load }, tell);
  } finally {
    progress.end();
  }
};

/** The archive of a cluster, where the source is one. @throws ReplicaError; see `openClusterArchive`. */
async function clusterArchiveAt(
  source: string,
  context: CommandContext,
): Promise<ClusterArchive | undefined> {
  if (!isArchiveUrl(source)) return undefined;
  const { openClusterArchive } = await import("../clusters/fetched-cluster.ts");
  return await openClusterArchive(source, context);
}

/** @param archive that of the source's URL; undefined where the source is a directory. */
async function restoreCluster(
  source: string,
  archive: ClusterArchive | undefined,
  context: CommandContext,
): Promise<number> {
  const { args, clock, options, settings, signal, stdout, stderr } = context;
  refuseShardPoint(source, options);
  const { keptMoments, restoreWhole } = await import("../clusters/restore-cluster.ts");
  const kept = async () => (archive === undefined ? keptMoments(source, clock.now()) : "");
  const { atMs } = await pointOf(context, kept);
  const [, into = ""] = args;
  const progress = fileProgress(stderr, settings.progress);
  const fetching = { ...context, disk: realDisk, onProgress: progress.look };
  const withSource: WholeRestore["withSource"] = async (use) => {
    if (archive === undefined) return await use(source, atMs);
    const { withFetchedCluster } = await import("../clusters/fetched-cluster.ts");
    return await withFetchedCluster(source, archive, { atMs, target: into }, fetching, use);
  };
  const addresses = options.get(addressesOption.name);
  const wanted = { withSource, into, addresses, ...(await howOf(options)) };
  const where = { nowMs: clock.now(), signal, stdout, stderr, onProgress: progress.look };
  try {
    return await restoreWhole({ ...wanted, isJson: options.has("json") }, where);
  } finally {
    progress.end();
  }
}

/** How to write it, and what for. */
async function howOf(options: ReadonlyMap<string, string>, otherUse?: "replays commands on keys") {
  const layout = layoutOf(options.get("layout"));
  const mode = modeOf(options);
  // Before anything is written, so that a missing or too old server is reported at once.
  const text = options.get("for");
  const server = text === undefined ? undefined : parseTargetServer(text);
  const afterwards = await afterwardsOf(options, server, otherUse !== undefined);
  if (afterwards !== undefined) refuseMismatch({ layout }, afterwards.server);
  // What is started on it has to load it.
  const target = afterwards && ({ ...afterwards.server, isStarted: true } as const);
  return { layout, mode, target: server ?? target, afterwards };
}

/** A finished restore, and the generation that it comes from, as people call it. */
interface Done {
  readonly restored: Restored;
  readonly from: string | number;
}

/** Finds out what to restore; what it returns does it. */
type Choose = (
  context: CommandContext,
) => Promise<
  (
    how: Pick<RestoreOptions, "layout" | "mode" | "target">,
    onProgress: (file: string, bytes: number, totalBytes: number) => void,
  ) => Promise<Done>
>;

async function chooserOf(source: string): Promise<Choose> {
  // What reads an archive is large, and few restores need it.
  if (isArchiveUrl(source)) return (await import("./restore-archived.ts")).archivedRestore;
  return async (context) => {
    const wanted = await momentOf(context, source);
    return async (how, onProgress) => {
      const restored = await writeRestored(context, context.args, { wanted, ...how }, onProgress);
      return { restored, from: restored.generation.id };
    };
  };
}

async function writeRestored(
  { clock, signal }: CommandContext,
  [dir = "", target = ""]: readonly string[],
  {
    wanted,
    ...how
  }: Pick<RestoreOptions, "layout" | "mode" | "target"> & { readonly wanted: Wanted },
  onProgress: (file: string, bytes: number, totalBytes: number) => void,
): Promise<Restored> {
  using catalogue = new Catalogue(dir);
  for (const loss of catalogue.losses) logger.warn(describeDamage(loss));
  const note = cutShortNote(catalogue);
  if (note !== undefined) logger.info(note);
  const nowMs = clock.now();
  const point = restorePoint(catalogue, wanted, nowMs);
  using checkers = new PieceCheckers({ signal });
  const surroundings = { disk: realDisk, signal, ...how, onProgress, checkers };
  const restored = await write(catalogue, point, target, surroundings).catch((error: unknown) => {
    throw withOthers(error, catalogue, { wanted, nowMs, point });
  });
  for (const warning of restored.warnings) logger.warn(warning);
  return restored;
}

async function afterwardsOf(
  options: ReadonlyMap<string, string>,
  target: TargetServer | undefined,
  isServerUsed: boolean,
): Promise<Afterwards | undefined> {
  const digest = options.has("digest");
  const isChecked = options.has("check") || digest;
  const serve = options.get("serve");
  if (!isChecked && serve === undefined) {
    if (options.has("server") && !isServerUsed)
      throw usageError("--server needs --check, --digest, --serve or --keys");
    return undefined;
  }
  const servePort = wholeNumber("serve", serve);
  if ((servePort ?? 0) > 65535)
    throw usageError("--serve takes a port from 0 to 65535; 0 picks a free one");
  // What a cluster needs beside it is tried once its shards are counted.
  refuseTaken(servePort ?? 0);
  const server = await findServer(options.get("server"));
  if (target !== undefined) refuseOther(target, server);
  return { server, check: isChecked ? { digest } : undefined, servePort };
}

function layoutOf(text: string | undefined): Layout {
  if (text === undefined || text === "multipart") return "multipart";
  if (text === "single") return "single";
  throw usageError(
    `--layout is ${JSON.stringify(text.slice(0, 100))}: it takes multipart or single`,
  );
}

function report(
  { options, stdout }: CommandContext,
  done: Done,
  checked: Checked | undefined,
): void {
  stdout.write(
    options.has("json")
      ? `${JSON.stringify({ ...toJson(done), ...(checked && { check: checkToJson(checked) }) })}\n`
      : describe(done) + (checked === undefined ? "" : describeCheck(checked)),
  );
}

function describe({ restored, from }: Done): string {
  const { dir, layout, offset, atMs, commands, rewrittenCommands, leftOutCommands } = restored;
  const when = atMs === undefined ? "at an unknown time" : `as of ${shownTime(atMs)}`;
  const made =
    rewrittenCommands === 0
      ? ""
      : `, ${rewrittenCommands} of them rewritten to do the same whenever they are loaded`;
  const leftOut = leftOutCommands === 0 ? "" : `  ${describeLeftOut(restored)}\n`;
  return `${dir}: generation ${from} up to offset ${offset}, ${when}
  a snapshot of ${formatBytes(restored.rdbBytes)} and ${counted(commands, "command")} after it (${formatBytes(restored.logBytes)})${made}
${leftOut}  start a server on it: redis-server --dir ${dir} --appendonly yes
  (with --databases N if the primary has more than 16${layout === "single" ? "; any server since Redis 4" : ""})
`;
}

function toJson({ restored, from }: Done) {
  const { dir, layout, offset, atMs, commands, ...more } = restored;
  return {
    dir,
    layout,
    generation: from,
    offset,
    time: atMs === undefined ? null : shownTime(atMs),
    commands,
    rewritten_commands: more.rewrittenCommands,
    left_out_commands: more.leftOutCommands,
    sweeps: more.sweeps,
    appended_commands: more.appendedCommands,
    rdb_bytes: more.rdbBytes,
    log_bytes: more.logBytes,
    warnings: more.warnings,
  };
}
