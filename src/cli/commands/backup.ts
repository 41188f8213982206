import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { describeSource, parsePrimarySource } from "../../config/primary-source.ts";
import { DEFAULT_URL } from "../../config/primary-url.ts";
import { formatBytes } from "../../base/quantity.ts";
import { backup as takeBackup } from "../../upstream/backup.ts";
import { realClock } from "../../base/clock.ts";
import type { State } from "../../session/state.ts";
import { realDisk } from "../../store/disk/disk.ts";
import type { CommandContext } from "./command.ts";
import { modeOf } from "./mode-option.ts";
import { watchTransfer } from "./watch-transfer.ts";

/** `replica backup [URL] OUT`: writes one snapshot, verified and durable, and returns. */
export async function backup({
  settings,
  args,
  options,
  signal,
  stderr,
}: CommandContext): Promise<number> {
  const [url, out] = args.length === 2 ? [args[0]!, args[1]!] : [DEFAULT_URL, args[0]!];
  const source = parsePrimarySource(url);
  if (out.includes("://")) {
    const given = describeSource(parsePrimarySource(out));
    throw usageError(`${given} is not a file: in "replica backup [URL] OUT", OUT comes last`);
  }
  let fetching: { readonly state: State } = { state: { at: "connect" } };
  const stopWatching = watchTransfer(() => fetching.state, stderr, settings.progress);
  try {
    const { rdb, seconds } = await takeBackup(
      source,
      out,
      { disk: realDisk, clock: realClock, settings, mode: modeOf(options) },
      signal,
      (begun) => {
        fetching = begun;
      },
    );
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
