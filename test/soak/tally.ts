import type { Fleet } from "./fleet.ts";

const LOOK_EVERY_MS = 500;

type Counts = ReadonlyMap<string, number>;

/** Sums the counters of processes over all their starts. */
export class Tally implements AsyncDisposable {
  readonly #fleet: Fleet;
  /** The last counters of each process, by run id. */
  readonly #replicas = new Map<string, Counts>();
  readonly #primaries = new Map<string, Counts>();
  readonly #running: Promise<void>;
  #isStopped = false;

  private constructor(fleet: Fleet) {
    this.#fleet = fleet;
    this.#running = this.#run();
  }

  /** Reads the counters twice a second from now on. */
  static start(fleet: Fleet): Tally {
    return new Tally(fleet);
  }

  /** Reads the counters once; a process that doesn't answer keeps its last ones. */
  async look(): Promise<void> {
    const fleet = this.#fleet;
    await Promise.allSettled([
      fleet.replicaInfo().then((info) => note(this.#replicas, info)),
      fleet.primary.server
        .info("all")
        .then((info) => note(this.#primaries, new Map(Object.entries(info)))),
    ]);
  }

  totals() {
    const sum = (name: string) => total(this.#replicas, name);
    return {
      bytes: {
        snapshots: sum("received_snapshot_bytes"),
        stream: sum("received_stream_bytes"),
        relayed: sum("total_net_repl_output_bytes"),
      },
      generations: Math.max(
        0,
        ...this.#replicas.values().map((counts) => counts.get("generation") ?? 0),
      ),
    };
  }

  keys() {
    return {
      expiredKeys: total(this.#primaries, "expired_keys"),
      evictedKeys: total(this.#primaries, "evicted_keys"),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      await this.look();
      await Bun.sleep(LOOK_EVERY_MS);
    }
  }
}

function note(counted: Map<string, Counts>, info: ReadonlyMap<string, string>): void {
  const numbers = [...info].map(([name, value]) => [name, Number(value)] as const);
  counted.set(info.get("run_id") ?? "", new Map(numbers));
}

function total(counted: ReadonlyMap<string, Counts>, name: string): number {
  return counted.values().reduce((sum, counts) => sum + (counts.get(name) ?? 0), 0);
}
