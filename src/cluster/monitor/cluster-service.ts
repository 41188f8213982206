import type { ServiceStatus } from "../../monitor/service-manager.ts";
import { type ClusterStatus, whyShardNotReady } from "../status/cluster-status.ts";

/** The status of a cluster's shards, for the service manager. */
export function serviceStatusOfCluster(status: ClusterStatus, readyLagMs: number): ServiceStatus {
  const summary = () => {
    const { live, topology } = status;
    const ready = live.filter((shard) => whyShardNotReady(shard, readyLagMs) === undefined);
    return `${ready.length} of ${live.length} shards ready, cluster_state:${topology.state ?? "unknown"}`;
  };
  return { summary, line: () => `${summary()}, ${status.name}` };
}
