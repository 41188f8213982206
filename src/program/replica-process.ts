import { realClock } from "../base/clock.ts";
import { VERSION } from "../base/version.ts";
import type { PrimarySource } from "../config/primary-source.ts";
import type { Settings } from "../config/settings.ts";
import type { Replica } from "../replica/replica.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { realDisk } from "../store/disk/disk.ts";
import { refuseCluster } from "../store/generation/layout.ts";
import type { Wanted } from "../store/restore/restore-point.ts";
import { assemble, type OfflineStart } from "./assemble.ts";
import { Filling, keepsCurrent, wasFilling } from "./filling.ts";
import { RenewalSignal } from "./renewal-signal.ts";

/** What a replica process is started with. */
export interface ProcessPlan {
  readonly source: PrimarySource;
  readonly settings: Settings;
  /** With --offline, up to where to serve what is kept; undefined to follow the primary. */
  readonly offline: Wanted | undefined;
  /** The environment; the service manager's variables are removed from it. */
  readonly env: Record<string, string | undefined>;
  /** Called once the replica exists; returns a function that ends the watching. */
  readonly watch: (replica: Replica) => () => void;
  /** Called where the data directory is filled from the archive; undefined where progress is to be logged. */
  readonly watchFilling?: (() => Promise<FillingWatch>) | undefined;
}

/** Shows how a data directory is filled. */
export interface FillingWatch {
  readonly look: (file: string, bytes: number, totalBytes: number) => void;
  readonly end: () => void;
}

/**
 * Runs everything that makes up `replica follow`, until the signal or a client's SHUTDOWN stops it: the
 * data directory, the port, the replica, SIGUSR1, and HTTP and the service manager where they are used.
 * The parts that are not always used are imported only when they are, because a restart must be quick.
 * @throws ReplicaError USAGE if nothing kept matches `offline`, for settings of the archive that can't be, or where it and
 * the data directory lie in each other; as the directory, the ports and the replica do.
 */
export async function runReplicaProcess(plan: ProcessPlan, signal: AbortSignal): Promise<void> {
  const { source, settings, env, watch } = plan;
  // First: without a handler, a SIGUSR1 during the start would end the process.
  using renewal = new RenewalSignal();
  // Before anything is made or asked, so that a wrong setting is an error at once.
  const archiving = plan.offline === undefined ? await carrying(settings, env, signal) : undefined;
  await prepareDirectory(plan, signal);
  const offline = plan.offline && (await offlineStart(settings.dir, plan.offline));
  const monitoring = settings.http && (await monitor(settings.http, settings));
  const disk = monitoring?.disk ?? realDisk;
  // The directory is not closed: the operating system does that, and a stop has to be quick.
  const { replica, status, run, shutdown } = assemble(source, disk, realClock, settings, VERSION, {
    offline,
    archiving: archiving?.(disk),
  });
  renewal.begins((by) => replica.renewal.begin(by));
  const endings = [
    monitoring?.serve(status),
    watch(replica),
    await notifyServiceManager(env, status, AbortSignal.any([signal, shutdown])),
  ];
  try {
    await run(signal);
  } finally {
    for (const end of endings) end?.();
  }
}

/** What is needed to prepare a data directory. */
type Preparation = Pick<ProcessPlan, "source" | "settings" | "env" | "offline" | "watchFilling">;

/** Refuses an archive that isn't apart from the data directory, and fills that from there where it keeps nothing. */
export async function prepareDirectory(plan: Preparation, signal: AbortSignal): Promise<void> {
  const { source, settings, env, offline, watchFilling } = plan;
  const { url, fillsEmpty } = settings.archive;
  refuseCluster(settings.dir);
  if (url !== undefined) {
    const { refuseOverlap } = await import("../archive/open/apart.ts");
    refuseOverlap(url, settings.dir);
  }
  if (wasFilling(settings.dir)) (await Filling.begin(settings.dir, realDisk))[Symbol.dispose]();
  const isWanted = url !== undefined && fillsEmpty && offline === undefined;
  if (!isWanted || keepsCurrent(settings.dir)) return;
  const [{ fillFromArchive }, { openSource }, { holdStart }] = await Promise.all([
    import("./bootstrap.ts"),
    import("../archive/open/open-archive.ts"),
    import("../monitor/long-start.ts"),
  ]);
  const letGo = holdStart(
    settings.http,
    settings.httpTls,
    env,
    "the data directory is being filled from the archive",
  );
  const shown = await watchFilling?.();
  try {
    const context = { settings, env, clock: realClock };
    const open = async () => await openSource(url, context);
    const seams = { disk: realDisk, clock: realClock, onFetched: shown?.look };
    const parts = { open, primary: source, settings, ...seams };
    await fillFromArchive(parts, signal);
  } finally {
    shown?.end();
    letGo();
  }
}

/** Finds up to where to serve what is kept. @throws ReplicaError USAGE if that moment is not kept. */
export async function offlineStart(dir: string, wanted: Wanted): Promise<OfflineStart> {
  const [{ Catalogue }, { restorePoint }] = await Promise.all([
    import("../store/restore/catalogue.ts"),
    import("../store/restore/restore-point.ts"),
  ]);
  using catalogue = new Catalogue(dir);
  const { generation, offset } = restorePoint(catalogue, wanted);
  const isAll = Object.values(wanted).every((value) => value === undefined);
  return { until: isAll ? undefined : { generation: generation.id, offset } };
}

/** What carries the data directory to the archive that the settings name, if they do. @throws ReplicaError USAGE. */
export async function carrying(settings: Settings, env: ProcessPlan["env"], signal: AbortSignal) {
  const { url, identityFile } = settings.archive;
  if (url === undefined) return undefined;
  const [{ prepareArchiving }, { decryptionOf, openArchiveStore }, { refuseArchiveOfOtherKind }] =
    await Promise.all([
      import("./archiving.ts"),
      import("../archive/open/open-archive.ts"),
      import("./archive-kind.ts"),
    ]);
  const decryption = await decryptionOf(identityFile);
  const store = openArchiveStore(url, { settings, env, clock: realClock });
  // A restart is quick: the archiver asks before it writes to a new archive, too.
  if (!keepsCurrent(settings.dir)) await refuseArchiveOfOtherKind(store, "primary", signal);
  return prepareArchiving(store, settings, { clock: realClock, decryption });
}

/** Metrics over a timed disk, and the HTTP server for a replica that writes to it. */
export async function monitor(
  address: NonNullable<Settings["http"]>,
  { readyLagMs, httpHosts: names, announce: announced, httpTls: tls }: Settings,
) {
  const [{ Metrics }, { serveHttpWhenFree }, { replicaView }] = await Promise.all([
    import("../monitor/metrics.ts"),
    import("../monitor/patient-http.ts"),
    import("../monitor/document/replica-view.ts"),
  ]);
  const metrics = new Metrics();
  const disk = metrics.timed(realDisk);
  return {
    disk,
    /** Returns a function that stops serving. @throws ReplicaError LISTEN_FAILED. */
    serve(status: ReplicaStatus): () => void {
      metrics.of(status, VERSION);
      const view = replicaView(status, {
        readyLagMs,
        announced,
        version: VERSION,
        clock: realClock,
      });
      return serveHttpWhenFree({ ...address, names, tls }, metrics, view, realClock);
    },
  };
}

/** Starts notifying the service manager, if one asks for it; returns a function that ends that. */
async function notifyServiceManager(
  env: Record<string, string | undefined>,
  status: ReplicaStatus,
  stopping: AbortSignal,
): Promise<(() => void) | undefined> {
  if (!env["NOTIFY_SOCKET"]) return undefined;
  const { notifyServiceManager: notify, serviceStatusOf } =
    await import("../monitor/service-manager.ts");
  return notify(env, serviceStatusOf(status), stopping);
}
