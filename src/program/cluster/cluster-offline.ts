import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { realClock } from "../../base/clock.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { logWithin } from "../../cluster/follow/log-within.ts";
import { counted } from "../../base/quantity.ts";
import { VERSION } from "../../base/version.ts";
import { ClusterHistory } from "../../cluster/ledger/cluster-history.ts";
import { shardDirectory } from "../../cluster/ledger/cluster-schema.ts";
import type { Layout } from "../../cluster/ledger/layouts.ts";
import type { ShardRecord } from "../../cluster/ledger/shard-records.ts";
import { countSlots, SLOTS } from "../../cluster/slots/slot-ranges.ts";
import { ClusterStatus, type ShardStatus } from "../../cluster/status/cluster-status.ts";
import type { PrimarySource } from "../../config/primary-source.ts";
import type { Settings } from "../../config/settings.ts";
import { DATABASE } from "../../store/generation/layout.ts";
import { lockDirectory } from "../../store/generation/lock.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import { type AssembledShard, assembleShard } from "./assemble-shard.ts";
import { openFront } from "./cluster-front.ts";
import { refuseRelayPorts, relayPortOf, warnOfRelayPort } from "./relay-ports.ts";
import type { OfflineStart } from "../assemble.ts";
import { offlineStart } from "../replica-process.ts";

/** What a process that serves a cluster's directory is started with. */
export interface OfflineClusterPlan {
  readonly settings: Settings;
  /** Up to where to serve each shard: by a time; undefined for all that is kept. */
  readonly offline: Pick<Wanted, "atMs">;
  readonly env: Record<string, string | undefined>;
}

/**
 * Serves what is kept of a cluster's shards, each on its relay's port, until the signal or a client's SHUTDOWN stops it.
 * @throws ReplicaError USAGE without --relay-ports, and for a time that a shard doesn't keep; as the directories and the
 * ports do.
 */
export async function serveClusterOffline(
  { settings, offline, env }: OfflineClusterPlan,
  signal: AbortSignal,
): Promise<void> {
  if (settings.cluster.relayPorts === undefined) {
    throw usageError(
      `${settings.dir} keeps the shards of a cluster: give --relay-ports PORT, to serve each on a port of its own`,
    );
  }
  refuseRelayPorts(settings);
  const path = resolve(settings.dir);
  const { records, layout } = keptShards(path, offline.atMs);
  const lock = lockDirectory(path);
  const stopping = new AbortController();
  const ending = AbortSignal.any([signal, stopping.signal]);
  const shutdown = () => stopping.abort();
  const shards = new Map<ShardRecord, AssembledShard>();
  const front = await openFront(settings, env, shutdown).catch((error: unknown) => {
    lock.release();
    throw error;
  });
  try {
    for (const record of records) {
      const { number } = record;
      const dir = shardDirectory(path, number);
      const start = await startOf(record, dir, offline.atMs);
      const plan = { record, dir, source: nobody(path, record) };
      warnOfRelayPort(settings, number);
      const parts = assembleShard(plan, {
        disk: front.disk,
        clock: realClock,
        settings,
        version: VERSION,
        relayPort: relayPortOf(settings, number),
        frontPort: front.port,
        offline: start,
        archiving: undefined,
        shutdown,
      });
      shards.set(record, parts);
    }
    const status = new ClusterStatus(reportOf(path, settings, shards, layout));
    await front.serve(
      {
        status,
        hasPassword: settings.password !== undefined,
        username: settings.username,
        bgsave: () => 0,
        accept: () => {
          throw usageError("no primary is followed (--offline)");
        },
      },
      ending,
    );
    const runs = [...shards].map(([{ number }, parts]) =>
      logWithin({ shard: number }, async () => await parts.run(ending)),
    );
    try {
      await Promise.all(runs);
    } finally {
      // One that fails ends the others: what is served is one cluster.
      stopping.abort();
      await Promise.allSettled(runs);
    }
    logger.info(`stopped; ${counted(shards.size, "shard")} were served as they are`);
  } finally {
    front.end();
    for (const parts of shards.values()) parts.close();
    lock.release();
  }
}

/** The shards that hold something, and the layout of the moment. @throws ReplicaError USAGE where there is none. */
function keptShards(
  path: string,
  atMs: number | undefined,
): { readonly records: readonly ShardRecord[]; readonly layout: Layout | undefined } {
  using history = new ClusterHistory(path);
  const layout = history.layoutAt(atMs ?? realClock.now());
  const records = history.shards.filter(
    ({ number, endedMs }) =>
      (endedMs === undefined || (atMs !== undefined && endedMs > atMs)) &&
      fs.existsSync(join(shardDirectory(path, number), DATABASE)),
  );
  if (records.length === 0) throw usageError(`${path} keeps no shard yet: nothing can be served`);
  return { records, layout };
}

/** What a shard follows that is served as it is. */
function nobody(path: string, { name }: ShardRecord): PrimarySource & { kind: "shard" } {
  const naming = {
    locate: async () => {
      throw new ReplicaError("NOT_FOLLOWING", { message: "no primary is followed (--offline)" });
    },
    judge: () => undefined,
  };
  const login = { username: undefined, password: undefined };
  return { kind: "shard", tls: false, ...login, name: `shard ${name} in ${path}`, naming };
}

function reportOf(
  path: string,
  settings: Settings,
  shards: ReadonlyMap<ShardRecord, AssembledShard>,
  layout: Layout | undefined,
) {
  const startedMs = realClock.monotonicMs();
  const assigned = [...(layout?.slots.values() ?? [])].reduce(
    (sum, one) => sum + countSlots(one),
    0,
  );
  return {
    // What has no owner there is no fault of who serves it.
    isPart: assigned < SLOTS,
    name: `${path} (--offline)`,
    directoryPath: path,
    runId: Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex"),
    startedAtMs: realClock.now(),
    get uptimeSeconds() {
      return Math.floor((realClock.monotonicMs() - startedMs) / 1000);
    },
    topology: {
      state: "offline",
      epoch: layout?.epoch ?? 0,
      knownNodes: 0,
      assignedSlots: assigned,
      ageSeconds: 0,
      trouble: undefined,
    },
    layoutsArchive: undefined,
    waitingSnapshots: 0,
    shards: [...shards].map(([{ number }, { status }]): ShardStatus => ({
      number,
      label: String(number).padStart(4, "0"),
      state: "following",
      slots: layout?.slots.get(number) ?? [],
      why: undefined,
      replica: status,
      relayPort: relayPortOf(settings, number),
    })),
  };
}

/** Up to where a shard is served. @throws ReplicaError as `offlineStart`, with the shard named. */
async function startOf(
  { number }: ShardRecord,
  dir: string,
  atMs: number | undefined,
): Promise<OfflineStart> {
  try {
    return await offlineStart(dir, { generation: undefined, offset: undefined, atMs });
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    const { code, retry, message } = error;
    throw new ReplicaError(code, { retry, message: `shard ${number}: ${message}`, cause: error });
  }
}
