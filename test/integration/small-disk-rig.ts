import { parseExposition } from "../support/exposition.ts";
import { Random } from "../support/fill.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { mayMount } from "../support/small-disk.ts";
import { test } from "bun:test";

export const MIB = 1024 * 1024;
export const SEED = 7;
/** A test on a disk of its own size, which only root may mount. */
export const onSmallDisk = test.skipIf(!mayMount()).concurrent;

/** Overwrites keys with `mib` MiB that don't compress. */
export async function fill(primary: RealServer, mib: number, seed: number): Promise<void> {
  const random = new Random(seed);
  const value = random.bytes(MIB);
  for (let n = 0; n < mib; n++) {
    value[n] = random.below(256);
    await primary.send("SET", `key:${n}`, value);
  }
}

export async function filledPrimary(mib: number): Promise<RealServer> {
  const primary = await startServer("redis-7.0");
  await fill(primary, mib, SEED);
  return primary;
}

const KEYS = 100;
const VALUE_BYTES = 1_000;
const TICK_MS = 100;

/** Overwrites a data set of 100 KB, at a steady rate; the key `moment` holds the time in milliseconds. */
export class SteadyWrites implements AsyncDisposable {
  /** Bytes so far, without what the protocol adds. */
  bytes = 0;
  #isStopped = false;
  readonly #running: Promise<void>;

  constructor(primary: RealServer, bytesPerSecond: number, seed: number) {
    this.#running = this.#write(primary, bytesPerSecond, seed);
    // Told by `stop`.
    this.#running.catch(() => undefined);
  }

  async #write(primary: RealServer, bytesPerSecond: number, seed: number): Promise<void> {
    await using client = await primary.connect();
    const random = new Random(seed);
    const text = random.text(2 * VALUE_BYTES);
    let lastMs = performance.now();
    while (!this.#isStopped) {
      const nowMs = performance.now();
      // A machine that is busy writes less; it doesn't catch up in a burst.
      const due = this.bytes + (Math.min(nowMs - lastMs, 2 * TICK_MS) / 1000) * bytesPerSecond;
      lastMs = nowMs;
      const commands: string[][] = [];
      for (; this.bytes < due; this.bytes += VALUE_BYTES) {
        const from = random.below(VALUE_BYTES);
        const value = text.slice(from, from + VALUE_BYTES);
        commands.push(["SET", `key:${random.below(KEYS)}`, value]);
      }
      commands.push(["SET", "moment", String(Date.now())]);
      await client.exchange(commands);
      await Bun.sleep(TICK_MS);
    }
  }

  /** Resolves once nothing more is written. @throws Error of the client. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    await this.#running.catch(() => undefined);
  }
}

/** A replica with no settings but where it serves; its metrics and readiness over HTTP. */
export class WatchedReplica implements AsyncDisposable {
  readonly process: ReplicaProcess;
  readonly #http = freePort();

  readonly port = freePort();

  constructor(primary: { url(): string }, dir: string, more: readonly string[] = []) {
    const where = ["--port", String(this.port), "--http", `127.0.0.1:${this.#http}`];
    this.process = startReplica(["follow", primary.url(), "--dir", dir, ...where, ...more]);
  }

  /** Where another replica may follow it. */
  url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** The sum of a metric's series. */
  async metric(name: string): Promise<number> {
    return (await this.metrics()).get(`replica_${name}`) ?? Number.NaN;
  }

  /** The sum of each metric's series. */
  async metrics(): Promise<Map<string, number>> {
    const text = await (await fetch(`http://127.0.0.1:${this.#http}/metrics`)).text();
    const sums = new Map<string, number>();
    for (const { name, value } of parseExposition(text).flatMap(({ samples }) => samples))
      sums.set(name, (sums.get(name) ?? 0) + value);
    return sums;
  }

  /** Why it isn't ready; undefined where it is. */
  async whyNotReady(): Promise<string | undefined> {
    const response = await fetch(`http://127.0.0.1:${this.#http}/readyz`);
    return response.ok ? undefined : (await response.text()).trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

/** What was seen of a replica over some time. */
export interface Seen {
  samples: number;
  notReady: string[];
  linkDown: number;
  longestLogBytes: number;
  leastFreeBytes: number;
  renewals: number;
}

/** Looks at a replica some times a second until `isOver`. */
export async function watch(replica: WatchedReplica, isOver: () => boolean): Promise<Seen> {
  const seen: Seen = {
    samples: 0,
    notReady: [],
    linkDown: 0,
    longestLogBytes: 0,
    leastFreeBytes: Infinity,
    renewals: 0,
  };
  while (!isOver()) {
    const why = await replica.whyNotReady();
    if (why !== undefined) seen.notReady.push(why);
    const metrics = await replica.metrics();
    const read = (name: string) => metrics.get(`replica_${name}`) ?? Number.NaN;
    seen.samples++;
    if (read("link_up") !== 1) seen.linkDown++;
    seen.longestLogBytes = Math.max(seen.longestLogBytes, read("log_bytes"));
    seen.leastFreeBytes = Math.min(seen.leastFreeBytes, read("disk_free_bytes"));
    seen.renewals = read("generation_id") - 1;
    await Bun.sleep(200);
  }
  return seen;
}
