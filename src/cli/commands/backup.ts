import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import {
  describeSource,
  parsePrimarySource,
  type PrimarySource,
} from "../../config/primary-source.ts";
import { DEFAULT_URL } from "../../config/primary-url.ts";
import { formatBytes } from "../../base/quantity.ts";
import { backup as takeBackup, type BackupResult, backupTo } from "../../upstream/backup.ts";
import { realClock } from "../../base/clock.ts";
import { realDisk } from "../../store/disk/disk.ts";
import type { CommandContext } from "./command.ts";
import { modeOf } from "../restores/mode-option.ts";
import { watchTransfer, type Watched } from "./watch-transfer.ts";

/** Whether a file or an object that is there is replaced. */
const FORCE = "force";

type Begun = (fetching: Watched) => void;

/** `replica backup [URL] OUT`: writes one snapshot, verified and durable, and returns. */
export async function backup(context: CommandContext): Promise<number> {
  const { settings, args, stdout, stderr } = context;
  const [url, out] = args.length === 2 ? [args[0]!, args[1]!] : [DEFAULT_URL, args[0]!];
  const source = parsePrimarySource(url);
  const isObject = out.startsWith("s3://");
  if (out.includes("://") && !isObject) {
    const given = describeSource(parsePrimarySource(out));
    throw usageError(`${given} is not a file: in "replica backup [URL] OUT", OUT comes last`);
  }
  if (out === "-" && stdout.isTty) {
    throw usageError(
      "standard output is a terminal, and a snapshot is binary: send it to a file or a pipe, as in: replica backup - > dump.rdb",
    );
  }
  let fetching: Watched = { state: { at: "connect" }, expectedBytes: () => undefined };
  const begun: Begun = (now) => {
    fetching = now;
  };
  const stopWatching = watchTransfer(() => fetching, stderr, settings.progress);
  try {
    const { rdb, seconds } = await (isObject
      ? toObject(source, out, context, begun)
      : toFile(source, out, context, begun));
    logger.info(
      `${formatBytes(rdb.bytes)} from ${describeSource(source)} to ${out === "-" ? "standard output" : out} in ${seconds.toFixed(2)} s, ${formatBytes(rdb.bytes / Math.max(seconds, 0.001))}/s; ${
        rdb.checked ? "checksum verified" : "the primary sent no checksum"
      }`,
      { bytes: rdb.bytes, seconds: Number(seconds.toFixed(3)) },
    );
  } catch (error) {
    if (!(error instanceof ReplicaError && error.code === "STOPPED")) throw error;
    // Not 0: a script must not go on to use a file that isn't there.
    logger.warn(error.message);
    return 1;
  } finally {
    stopWatching();
  }
  return 0;
}

async function toFile(
  source: PrimarySource,
  out: string,
  { settings, options, signal }: CommandContext,
  begun: Begun,
): Promise<BackupResult> {
  const how = { mode: modeOf(options), replaces: options.has(FORCE) };
  const surroundings = { disk: realDisk, clock: realClock, settings, ...how };
  return await takeBackup(source, out, surroundings, signal, begun);
}

/** The object is completed only once the snapshot is verified; whatever fails before leaves nothing in the bucket. */
async function toObject(
  source: PrimarySource,
  url: string,
  { settings, options, env, signal }: CommandContext,
  begun: Begun,
): Promise<BackupResult> {
  if (options.has("mode")) throw usageError("--mode is for files: an object has none");
  const { openUpload } = await import("../../archive/open/open-archive.ts");
  // Before the primary is asked for anything: what can't be stored shall cost it no fork.
  const context = { settings, env, clock: realClock, signal };
  const upload = await openUpload(url, options.has(FORCE), context);
  const sink = {
    name: upload.place,
    maxBytes: upload.maxBytes,
    write: async (bytes: Uint8Array) => await upload.write(bytes),
    end: async () => await upload.complete(),
    isEnded: () => upload.isCompleting,
    giveUp: async () => void (await upload.abort()),
  };
  const surroundings = { disk: realDisk, clock: realClock, settings };
  try {
    return await backupTo(sink, source, surroundings, signal, begun);
  } catch (error) {
    const ending = upload.abort().then((left) => left && logger.warn(left.message));
    // A stop was waited for long enough.
    if (!signal.aborted) await ending;
    throw error;
  }
}
