import type { Settings } from "../../config/settings.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { parsePrimarySource } from "../../config/primary-source.ts";
import { DEFAULT_URL } from "../../config/primary-url.ts";
import { realClock } from "../../base/clock.ts";
import { assemble, type OfflineStart } from "../../program/assemble.ts";
import type { Replica } from "../../replica/replica.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { VERSION } from "../../base/version.ts";
import type { CommandContext } from "./command.ts";
import { wantedOf, wantedOptions } from "./wanted.ts";
import { watchTransfer } from "./watch-transfer.ts";

/** `replica [follow] [URL]`: follows a primary until stopped. */
export async function follow(context: CommandContext): Promise<number> {
  let begin: ((by: string) => void) | undefined;
  // Before anything else: one that comes while it starts would end the process.
  const renew = () => {
    if (begin === undefined) return logger.warn("SIGUSR1: no new snapshot, it is only starting");
    try {
      begin("SIGUSR1");
    } catch (refused) {
      logger.warn(`SIGUSR1: ${refused instanceof Error ? refused.message : refused}`);
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
  { settings, args, options, env, signal, stderr }: CommandContext,
  assembled: (replica: Replica) => void,
): Promise<number> {
  const source = parsePrimarySource(args[0] ?? DEFAULT_URL);
  const offline = await offlineStart(options, settings);
  // As above: only where it is asked for.
  const { Metrics } = settings.http === undefined ? {} : await import("../../monitor/metrics.ts");
  const metrics = Metrics === undefined ? undefined : new Metrics();
  const disk = metrics?.timed(realDisk) ?? realDisk;
  // Not closed: the system does so within the time that a stop may take, whatever the disk does.
  const { replica, status, run, shutdown } = assemble(
    source,
    disk,
    realClock,
    settings,
    VERSION,
    offline,
  );
  assembled(replica);
  let stopHttp: () => void = () => undefined;
  if (metrics !== undefined && settings.http !== undefined) {
    const { serveHttp } = await import("../../monitor/http.ts");
    metrics.of(status, VERSION);
    const { host } = settings.http;
    const { port, stop } = serveHttp(
      { ...settings.http, readyLagMs: settings.readyLagMs },
      metrics,
      status,
    );
    stopHttp = stop;
    logger.info(
      `serving metrics and health at http://${host.includes(":") ? `[${host}]` : host}:${port}`,
    );
  }
  const shown = () => (replica.renewal.state.at === "transfer" ? replica.renewal : replica).state;
  const stopWatching = watchTransfer(shown, stderr, settings.progress);
  const stopNotifying = await notifying(env, status, AbortSignal.any([signal, shutdown]));
  try {
    await run(signal);
  } finally {
    stopWatching();
    stopHttp();
    stopNotifying();
  }
  return 0;
}

/**
 * Up to where it is to be served, without a primary; undefined where one is followed.
 * @throws ReplicaError USAGE where nothing is kept, or not that moment.
 */
async function offlineStart(
  options: CommandContext["options"],
  { dir }: Settings,
): Promise<OfflineStart | undefined> {
  const wanted = wantedOf(options);
  const isAll = Object.values(wanted).every((value) => value === undefined);
  if (!options.has("offline")) {
    if (isAll) return undefined;
    const given = wantedOptions.filter(({ name }) => options.has(name));
    throw new ReplicaError("USAGE", {
      retry: "never",
      message: `--${given[0]?.name} belongs to --offline: a primary that is followed goes on`,
    });
  }
  // Loaded only where it is asked for: a restart is to be quick.
  const [{ Catalogue }, { restorePoint }] = await Promise.all([
    import("../../store/restore/catalogue.ts"),
    import("../../store/restore/restore-point.ts"),
  ]);
  using catalogue = new Catalogue(dir);
  const { generation, offset } = restorePoint(catalogue, wanted);
  return { until: isAll ? undefined : { generation: generation.id, offset } };
}

/** Tells the service manager how the replica is, where one waits for that; gives what ends it. */
async function notifying(
  env: CommandContext["env"],
  status: ReplicaStatus,
  stopping: AbortSignal,
): Promise<() => void> {
  if (!env["NOTIFY_SOCKET"]) return () => undefined;
  const { notifyServiceManager } = await import("../../monitor/service-manager.ts");
  return notifyServiceManager(env, status, stopping);
}
