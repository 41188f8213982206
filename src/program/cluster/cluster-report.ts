import { realClock } from "../../base/clock.ts";
import { usageError } from "../../base/errors.ts";
import type { LayoutArchiver } from "../../cluster/archive/layout-archiver.ts";
import type { ClusterFollower } from "../../cluster/follow/cluster-follower.ts";
import type {
  ClusterSource as StatusSource,
  ShardStatus,
} from "../../cluster/status/cluster-status.ts";
import { type ClusterSource, describeSource } from "../../config/primary-source.ts";
import type { Settings } from "../../config/settings.ts";
import type { Replica } from "../../replica/replica.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import { relayPortOf } from "./relay-ports.ts";

interface Reported {
  readonly follower: ClusterFollower;
  readonly settings: Settings;
  readonly source: ClusterSource;
  /** Undefined where nothing is archived. */
  readonly layouts: LayoutArchiver | undefined;
  /** Of the shards whose replica runs. */
  readonly statuses: { get(replica: Replica): ReplicaStatus | undefined };
}

/** What is reported of a cluster, as its follower has it now. */
export function reportOf({
  follower,
  source,
  settings,
  layouts,
  statuses,
}: Reported): StatusSource {
  const startedMs = realClock.monotonicMs();
  return {
    name: describeSource(source),
    directoryPath: follower.path,
    runId: Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex"),
    startedAtMs: realClock.now(),
    isPart: settings.cluster.shards !== undefined,
    get uptimeSeconds() {
      return Math.floor((realClock.monotonicMs() - startedMs) / 1000);
    },
    get topology() {
      const { believed, ageMs, error } = follower.topology;
      return {
        state: believed && (believed.isOk ? "ok" : "fail"),
        epoch: believed?.epoch ?? 0,
        knownNodes: believed?.nodes.size ?? 0,
        assignedSlots: believed?.slotsAssigned ?? 0,
        ageSeconds: ageMs === undefined ? undefined : ageMs / 1000,
        trouble: error?.message,
      };
    },
    get layoutsArchive() {
      return layouts && { archivedMs: layouts.archivedMs, error: layouts.error?.message };
    },
    get waitingSnapshots() {
      return follower.waitingSnapshots;
    },
    get shards() {
      return follower.shards.map(({ record, state, replica, error, view }): ShardStatus => {
        const status = replica && statuses.get(replica);
        return {
          number: record.number,
          label: String(record.number).padStart(4, "0"),
          state: state === "following" && status === undefined ? "waiting" : state,
          slots: state === "ended" ? [] : (view?.slots ?? []),
          why: error?.message ?? record.endedWhy,
          replica: status,
          relayPort: relayPortOf(settings, record.number),
        };
      });
    },
  };
}

/** REPLICA ACCEPT for one shard, or for all. @throws ReplicaError USAGE where no such shard runs. */
export function acceptSmallness(
  follower: ClusterFollower,
  shard: number | undefined,
  by: string,
): void {
  const wanted = follower.shards.filter(
    ({ record, replica }) =>
      replica !== undefined && (shard === undefined || record.number === shard),
  );
  if (wanted.length === 0) {
    throw usageError(
      shard === undefined ? "no shard is followed yet" : `no shard ${shard} is followed`,
    );
  }
  for (const { replica } of wanted) replica?.directory.keeping.accept(by);
}
