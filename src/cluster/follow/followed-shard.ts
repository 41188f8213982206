import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Position } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import type { ShardSource } from "../../config/primary-source.ts";
import type { Replica } from "../../replica/replica.ts";
import { DATABASE } from "../../store/generation/layout.ts";
import { readReplids } from "../ledger/read-replids.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { logWithin } from "./log-within.ts";

/** A replica with its data directory, and whatever else its process gives it; not running yet. */
export interface ShardParts {
  readonly replica: Replica;
  /** Follows until the signal aborts, then writes out everything. @throws ReplicaError where going on can't help. */
  run(signal: AbortSignal): Promise<void>;
  /** Releases the data directory. */
  close(): void;
}

/** What a shard's replica is made of. */
export interface ShardPlan {
  readonly record: ShardRecord;
  /** Its data directory. */
  readonly dir: string;
  readonly source: ShardSource;
}

/** Makes the replica of a shard. @throws ReplicaError as its directory and its port do. */
export type BuildShard = (plan: ShardPlan) => ShardParts;

/** How long a shard waits that could not be opened, or whose replica ended, before it is tried again. */
const RETRY_MS = 5_000;

/**
 * One shard of a cluster, followed into its own data directory. Its failures are its own: they stand here, and the other
 * shards go on.
 */
export class FollowedShard {
  /** What `cluster.db` has of it. */
  record: ShardRecord;
  readonly #plan: ShardPlan;
  readonly #build: BuildShard;
  readonly #clock: Clock;
  readonly #stopping = new AbortController();
  #parts: ShardParts | undefined;
  #error: ReplicaError | undefined;
  #ended: Promise<void> = Promise.resolve();
  #isOver = false;
  /** What a directory has that isn't open. */
  #closedReplids: readonly string[] | undefined;

  constructor(plan: ShardPlan, build: BuildShard, clock: Clock) {
    this.record = plan.record;
    this.#plan = plan;
    this.#build = build;
    this.#clock = clock;
  }

  /** Undefined until its directory could be opened, and once it has ended. */
  get replica(): Replica | undefined {
    return this.#parts?.replica;
  }

  /** Why it isn't followed; undefined while it is, though its link may be down. */
  get error(): ReplicaError | undefined {
    return this.#error;
  }

  /** `failed`: its directory can't be used; see `error`. */
  get state(): "following" | "ended" | "failed" {
    if (this.#isOver) return "ended";
    return this.#error === undefined ? "following" : "failed";
  }

  /** What it could be resumed from; undefined where its directory keeps nothing yet. */
  get resume(): Position | undefined {
    const directory = this.replica?.directory;
    const replid = directory?.replid;
    const offset = this.replica?.log?.writtenOffset ?? directory?.end?.offset;
    return replid === undefined || offset === undefined ? undefined : { replid, offset };
  }

  /** Every history that its kept stream has been in, the present one last; also while its directory isn't open. */
  get replids(): readonly string[] {
    if (this.replica !== undefined) {
      this.#closedReplids = undefined;
      return this.replica.directory.replicationIds.map(({ replid }) => replid);
    }
    return (this.#closedReplids ??= readReplids(join(this.#plan.dir, DATABASE)));
  }

  /** Begins to follow. */
  begin(): void {
    this.#ended = logWithin({ shard: this.record.number }, () => this.#run());
  }

  /** Stops to follow; resolves once everything is written out and the directory is released. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#ended;
  }

  /** The cluster has no such shard any more. */
  async end(record: ShardRecord): Promise<void> {
    this.record = record;
    this.#isOver = true;
    await this.stop();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const parts = this.#build(this.#plan);
        this.#parts = parts;
        this.#error = undefined;
        try {
          await parts.run(signal);
        } finally {
          this.#parts = undefined;
          parts.close();
        }
        // SHUTDOWN on its own port.
        if (!signal.aborted) logger.info("the replica of this shard was stopped; it begins again");
      } catch (error) {
        if (!(error instanceof ReplicaError)) throw error;
        if (error.message !== this.#error?.message && !signal.aborted) {
          logger.error(`${error.message}; the other shards go on`, { code: error.code });
        }
        this.#error = error;
        // What a person must change first is looked at again with the next start.
        if (error.retry === "never") return;
      }
      await this.#clock.sleep(RETRY_MS, signal);
    }
  }
}
