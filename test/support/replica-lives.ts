import { freePort } from "./ports.ts";
import { type ReplicaProcess, startReplica } from "./replica-process.ts";
import { until } from "./wait.ts";

/** A time that a shard was without a link. */
export interface Gap {
  readonly shard: number;
  readonly fromMs: number;
  readonly toMs: number;
}

/** What the log says of the links of shards: when each came up, and when each went down. */
interface LinkEvent {
  readonly atMs: number;
  readonly shard: number;
  readonly isUp: boolean;
}

const UP = /^(\S+) info {2}connected by (?:full|partial) resync.* shard=(\d+)/;
const DOWN = /^(\S+) warn {2}.*; next attempt in .* shard=(\d+)/;
const FULL = /^\S+ info {2}full resync .* shard=(\d+)/;

/** A `replica` that follows a cluster, killed and started again: one run after the other. */
export class ReplicaLives implements AsyncDisposable {
  readonly #args: readonly string[];
  readonly #runs: { readonly replica: ReplicaProcess; readonly http: number; endMs: number }[] = [];

  /** @param args of `replica`, without those of its ports. */
  constructor(args: readonly string[]) {
    this.#args = args;
  }

  get current(): ReplicaProcess {
    return this.#runs.at(-1)!.replica;
  }

  begin(): void {
    const http = freePort();
    const ports = ["--port", "0", "--http", `127.0.0.1:${http}`];
    const replica = startReplica([...this.#args, ...ports], {
      env: { REPLICA_SYNC_TIMEOUT: "5s" },
    });
    this.#runs.push({ replica, http, endMs: Infinity });
  }

  /** Kills it, and starts it again at once. */
  async crash(): Promise<void> {
    await this.current.kill9();
    this.#runs.at(-1)!.endMs = Date.now();
    this.begin();
  }

  /** Waits until every shard is followed. */
  async ready(): Promise<void> {
    const { http, replica } = this.#runs.at(-1)!;
    await until(
      async () =>
        (await fetch(`http://127.0.0.1:${http}/readyz`).then((answer) => answer.text())) ===
        "ready\n",
      { what: "all shards to be ready" },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${replica.output()}`, { cause: error });
    });
  }

  /** How many full resyncs each shard got, over all runs. */
  fullResyncs(): Record<number, number> {
    const counts: Record<number, number> = {};
    for (const line of this.log().split("\n")) {
      const shard = Number(FULL.exec(line)?.[1] ?? 0);
      if (shard > 0) counts[shard] = (counts[shard] ?? 0) + 1;
    }
    return counts;
  }

  /** What all runs have logged. */
  log(): string {
    return this.#runs.map(({ replica }) => replica.stderr).join("");
  }

  /** When shards had no link, after they first had one. A run that is killed takes all of them down. */
  gaps(): Gap[] {
    const gaps: Gap[] = [];
    const downSince = new Map<number, number>();
    const up = new Set<number>();
    for (const { replica, endMs } of this.#runs) {
      for (const { atMs, shard, isUp } of linkEvents(replica.stderr)) {
        const fromMs = downSince.get(shard);
        if (isUp && fromMs !== undefined) gaps.push({ shard, fromMs, toMs: atMs });
        if (isUp) downSince.delete(shard);
        else if (up.has(shard) && fromMs === undefined) downSince.set(shard, atMs);
        if (isUp) up.add(shard);
      }
      if (endMs === Infinity) continue;
      for (const shard of up) if (!downSince.has(shard)) downSince.set(shard, endMs);
    }
    return gaps;
  }

  /**
   * When a shard last had everything by some moment: that moment, or the beginning of a time without a link that ended less
   * than `withinMs` before it.
   */
  linkedUntil(shard: number, atMs: number, withinMs: number): number {
    const since = this.gaps().flatMap((gap) =>
      gap.shard === shard && gap.fromMs <= atMs && gap.toMs >= atMs - withinMs ? [gap.fromMs] : [],
    );
    return Math.min(atMs, ...since);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { replica } of this.#runs) await replica[Symbol.asyncDispose]();
  }
}

function linkEvents(log: string): LinkEvent[] {
  return log.split("\n").flatMap((line) => {
    const isUp = UP.test(line);
    const [, time, shard] = (isUp ? UP : DOWN).exec(line) ?? [];
    return time === undefined ? [] : [{ atMs: Date.parse(time), shard: Number(shard), isUp }];
  });
}
