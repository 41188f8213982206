import { describeAddress } from "../../base/address.ts";
import { realClock } from "../../base/clock.ts";
import { logger } from "../../base/logger.ts";
import { VERSION } from "../../base/version.ts";
import type { ClusterStatus } from "../../cluster/status/cluster-status.ts";
import type { Settings } from "../../config/settings.ts";
import type { ClusterActions } from "../../port/call.ts";
import { forCluster } from "../../port/command-table.ts";
import { Port } from "../../port/port.ts";
import { type Disk, realDisk } from "../../store/disk/disk.ts";

/** What people and programs see of a cluster's replica: the port that answers for all shards, HTTP, the service manager. */
export interface ClusterFront {
  /** The disk for the shards, whose times are among the metrics. */
  readonly disk: Disk;
  readonly port: number;
  /**
   * Begins to answer.
   * @param stopping aborts when the program begins to stop.
   * @throws ReplicaError LISTEN_FAILED.
   */
  serve(actions: ClusterActions, stopping: AbortSignal): Promise<void>;
  /** Ends all of it. */
  end(): void;
}

/**
 * Opens the port, so that clients are told to wait.
 * @param shutdown called when a client sends SHUTDOWN.
 * @param env the environment; the service manager's variables are removed from it.
 * @throws ReplicaError PORT_IN_USE, LISTEN_FAILED.
 */
export async function openFront(
  settings: Settings,
  env: Record<string, string | undefined>,
  shutdown: () => void,
): Promise<ClusterFront> {
  const monitoring = settings.http && (await monitor(settings.http, settings));
  const port = new Port(settings, VERSION);
  const endings: ((() => void) | undefined)[] = [() => port.stop()];
  return {
    disk: monitoring?.disk ?? realDisk,
    port: port.port,
    serve: async (actions, stopping) => {
      const { status } = actions;
      port.serve(forCluster({ shutdown, cluster: actions }));
      const address = describeAddress({ host: settings.bind, port: port.port });
      logger.info(`serving ${status.name} at ${address}`, { pid: process.pid });
      endings.unshift(monitoring?.serve(status));
      endings.unshift(await notifyServiceManager(env, status, settings, stopping));
    },
    end: () => {
      for (const end of endings.splice(0)) end?.();
    },
  };
}

/** Metrics over a timed disk, and the HTTP server for a cluster whose shards write to it. */
async function monitor(
  address: NonNullable<Settings["http"]>,
  { readyLagMs, httpHosts: names, announce: announced, httpTls: tls }: Settings,
) {
  const [{ Metrics }, { serveHttpWhenFree }, { addClusterMetrics }, { clusterView }] =
    await Promise.all([
      import("../../monitor/metrics.ts"),
      import("../../monitor/patient-http.ts"),
      import("../../cluster/monitor/cluster-metrics.ts"),
      import("../../cluster/monitor/cluster-view.ts"),
    ]);
  const metrics = new Metrics();
  const disk = metrics.timed(realDisk);
  return {
    disk,
    /** Returns a function that stops serving. @throws ReplicaError LISTEN_FAILED. */
    serve(status: ClusterStatus): () => void {
      addClusterMetrics(metrics, status, VERSION);
      const view = clusterView(status, {
        readyLagMs,
        announced,
        version: VERSION,
        clock: realClock,
      });
      return serveHttpWhenFree({ ...address, names, tls }, metrics, view, realClock);
    },
  };
}

async function notifyServiceManager(
  env: Record<string, string | undefined>,
  status: ClusterStatus,
  { readyLagMs }: Settings,
  stopping: AbortSignal,
): Promise<(() => void) | undefined> {
  if (!env["NOTIFY_SOCKET"]) return undefined;
  const [{ notifyServiceManager: notify }, { serviceStatusOfCluster }] = await Promise.all([
    import("../../monitor/service-manager.ts"),
    import("../../cluster/monitor/cluster-service.ts"),
  ]);
  return notify(env, serviceStatusOfCluster(status, readyLagMs), stopping);
}
