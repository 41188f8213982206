import { ClusterStatus, type ShardStatus } from "../../src/cluster/status/cluster-status.ts";
import { SLOTS } from "../../src/cluster/slots/slot-ranges.ts";
import type { ReplicaStatus } from "../../src/replica/status.ts";

/** A cluster whose shards are these replicas, in order, with equal parts of the slots. */
export function fakeCluster(
  replicas: readonly (ReplicaStatus | undefined)[],
  more: readonly ShardStatus[] = [],
  trouble?: string,
  part?: { readonly assignedSlots: number },
): ClusterStatus {
  const width = Math.ceil(SLOTS / replicas.length);
  const shards = replicas.map((replica, index): ShardStatus => {
    const last = Math.min(SLOTS, (index + 1) * width) - 1;
    return {
      number: index + 1,
      label: String(index + 1).padStart(4, "0"),
      state: replica === undefined ? "failed" : "following",
      slots: [[index * width, last]],
      why: replica === undefined ? "the disk is full" : undefined,
      replica,
      relayPort: undefined,
    };
  });
  return new ClusterStatus({
    name: "redis+cluster://127.0.0.1:7000",
    directoryPath: "/data",
    runId: "a".repeat(40),
    startedAtMs: 1_700_000_000_000,
    uptimeSeconds: 12,
    isPart: part !== undefined,
    topology: {
      state: "ok",
      epoch: 7,
      knownNodes: 6,
      assignedSlots: part?.assignedSlots ?? SLOTS,
      ageSeconds: 1,
      trouble,
    },
    shards: [...shards, ...more],
    waitingSnapshots: 0,
    layoutsArchive: { archivedMs: 1_700_000_000_000, error: undefined },
  });
}
