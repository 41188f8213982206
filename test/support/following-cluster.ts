import { type Clock, realClock } from "../../src/base/clock.ts";
import { ClusterFollower, type ShardStatus } from "../../src/cluster/follow/cluster-follower.ts";
import type { BuildShard } from "../../src/cluster/follow/followed-shard.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { parseSource } from "../../src/config/primary-source.ts";
import { assemble } from "../../src/program/assemble.ts";
import { type Disk, realDisk } from "../../src/store/disk/disk.ts";
import { until } from "./wait.ts";

export interface FollowingClusterOptions {
  readonly flags?: Readonly<Record<string, string>>;
  readonly disk?: Disk;
  readonly clock?: Clock;
  /** Whether a shard's directory may be opened; what it throws is what opening it throws. */
  readonly beforeShard?: (number: number) => void;
}

/** Follows a whole cluster in this process, into `dir`. */
export function followCluster(
  url: string,
  dir: string,
  { flags = {}, disk = realDisk, clock = realClock, beforeShard }: FollowingClusterOptions = {},
) {
  const all = { dir, port: "0", "retry-max": "200ms", "sync-timeout": "2s", ...flags };
  const settings = loadSettings({ flags: new Map(Object.entries(all)), env: {} });
  const source = parseSource(url);
  if (source.kind !== "cluster") throw new Error(`${url} names no cluster`);
  const build: BuildShard = (plan) => {
    beforeShard?.(plan.record.number);
    return assemble(plan.source, disk, clock, { ...settings, dir: plan.dir }, "0");
  };
  const follower = new ClusterFollower({ source, settings, disk, clock, build });
  const stopping = new AbortController();
  const ended = follower.run(stopping.signal).then(
    () => undefined,
    (error: unknown) => error,
  );
  let isClosed = false;
  const stop = async (): Promise<unknown> => {
    stopping.abort();
    const error = await ended;
    if (!isClosed) follower.close();
    isClosed = true;
    return error;
  };
  const live = () => follower.shards.filter(({ state }) => state !== "ended");
  return {
    follower,
    ended,
    stop,
    /** The shards that haven't ended. */
    live,
    shard: (number: number): ShardStatus => {
      const found = follower.shards.find(({ record }) => record.number === number);
      if (found === undefined) throw new Error(`there is no shard ${number}`);
      return found;
    },
    /** Waits until so many shards are followed, each with its link up. */
    connected: async (count: number): Promise<void> => {
      await until(
        () => {
          const shards = live();
          return (
            shards.length === count && shards.every(({ replica }) => replica?.linkState === "up")
          );
        },
        { what: `${count} shards with their links up` },
      );
    },
    /** How many full and partial resyncs each shard got since it was opened. */
    resyncs: () =>
      live().map(({ record, replica }) => [
        record.number,
        replica?.resyncs.full,
        replica?.resyncs.partial,
      ]),
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}
