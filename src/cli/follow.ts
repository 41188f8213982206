import { log } from "../logger.ts";
import { parsePrimarySource } from "../primary-source.ts";
import { DEFAULT_URL } from "../primary-url.ts";
import { realClock } from "../service/clock.ts";
import { assemble } from "../service/follow.ts";
import type { Replica } from "../service/replica.ts";
import { realDisk } from "../store/disk.ts";
import { VERSION } from "../version.ts";
import type { CommandContext } from "./command.ts";
import { watchTransfer } from "./watch-transfer.ts";

/** `replica [follow] [URL]`: follows a primary until stopped. */
export async function follow(context: CommandContext): Promise<number> {
  let begin: ((by: string) => void) | undefined;
  // Before anything else: one that comes while it starts would end the process.
  const renew = () => {
    if (begin === undefined) return log.warn("SIGUSR1: no new snapshot, it is only starting");
    try {
      begin("SIGUSR1");
    } catch (refused) {
      log.warn(`SIGUSR1: ${refused instanceof Error ? refused.message : refused}`);
    }
  };
  process.on("SIGUSR1", renew);
  try {
    return await serve(context, (replica) => (begin = (by) => replica.renewal.begin(by)));
  } finally {
    process.off("SIGUSR1", renew);
  }
}

/** @param assembled is told the replica as soon as there is one. */
async function serve(
  { settings, args, env, signal, stderr }: CommandContext,
  assembled: (replica: Replica) => void,
): Promise<number> {
  const source = parsePrimarySource(args[0] ?? DEFAULT_URL);
  // Loaded only where it is asked for: a restart is to be quick.
  const { Metrics } = settings.http === undefined ? {} : await import("../service/metrics.ts");
  const metrics = Metrics === undefined ? undefined : new Metrics();
  const disk = metrics?.timed(realDisk) ?? realDisk;
  // Not closed: the system does so within the time that a stop may take, whatever the disk does.
  const { replica, run, shutdown } = assemble(source, disk, realClock, settings, VERSION);
  assembled(replica);
  let stopHttp: () => void = () => undefined;
  if (metrics !== undefined && settings.http !== undefined) {
    const { serveHttp } = await import("../service/http.ts");
    metrics.of(replica, disk, VERSION);
    const { host } = settings.http;
    const { port, stop } = serveHttp(
      { ...settings.http, readyLagMs: settings.readyLagMs },
      metrics,
      replica,
    );
    stopHttp = stop;
    log.info(
      `serving metrics and health at http://${host.includes(":") ? `[${host}]` : host}:${port}`,
    );
  }
  const shown = () => (replica.renewal.state.at === "transfer" ? replica.renewal : replica).state;
  const stopWatching = watchTransfer(shown, stderr, settings.progress);
  const stopNotifying = await notifying(env, replica, AbortSignal.any([signal, shutdown]));
  try {
    await run(signal);
  } finally {
    stopWatching();
    stopHttp();
    stopNotifying();
  }
  return 0;
}

/** Tells the service manager how the replica is, where one waits for that; gives what ends it. */
async function notifying(
  env: CommandContext["env"],
  replica: Replica,
  stopping: AbortSignal,
): Promise<() => void> {
  if (!env["NOTIFY_SOCKET"]) return () => undefined;
  const { notifyServiceManager } = await import("./notify.ts");
  return notifyServiceManager(env, replica, stopping);
}
