import type { Clock } from "../base/clock.ts";
import type { Gap, PastGeneration } from "../store/recent/kept-past.ts";
import type { RecentEvent, RecentTables, Sample } from "../store/recent/recent-tables.ts";
import type { Replica } from "./replica.ts";

export type { Gap, RecentEvent, Sample };

/** A generation on the timeline, and how much of it the archive has. */
export interface TimelineGeneration extends PastGeneration {
  /** `none` also where nothing is archived. */
  readonly archived: "all" | "part" | "none";
}

/** What can be restored. */
export interface Timeline {
  /** Oldest first. */
  readonly generations: readonly TimelineGeneration[];
  readonly gaps: readonly Gap[];
}

/** How old a timeline may be: each look asks the database. */
const FRESH_MS = 1000;

/** The last hours of a replica, and what of its past can be restored. */
export class Past {
  readonly #replica: Replica;
  readonly #clock: Clock;
  #known: Timeline | undefined;
  #askedMs = 0;

  constructor(replica: Replica, clock: Clock) {
    this.#replica = replica;
    this.#clock = clock;
  }

  get #tables(): RecentTables {
    return this.#replica.directory.holdings.recent;
  }

  /** @param most how many generations. @throws ReplicaError of the database. */
  timeline(most: number): Timeline {
    const nowMs = this.#clock.monotonicMs();
    if (this.#known !== undefined && nowMs - this.#askedMs < FRESH_MS) return this.#known;
    const { past } = this.#tables;
    const generations = past.generations(most);
    this.#askedMs = nowMs;
    return (this.#known = {
      generations: generations.map((one) => ({ ...one, archived: this.#archived(one) })),
      gaps: past.gaps(generations, this.#clock.now()),
    });
  }

  #archived({ id, state, durableOffset }: PastGeneration): TimelineGeneration["archived"] {
    const { carrier } = this.#replica.directory.holdings;
    if (carrier === undefined) return "none";
    if (state === "sealed" && carrier.has(id)) return "all";
    const offset = carrier.archivedOffset(id);
    if (offset === undefined) return "none";
    return offset >= durableOffset ? "all" : "part";
  }

  /** The last events, the newest first. @throws ReplicaError of the database. */
  events(most: number): readonly RecentEvent[] {
    return this.#tables.events(most);
  }

  /** What is kept of the samples, oldest first. @throws ReplicaError of the database. */
  samples(most: number): readonly Sample[] {
    return this.#tables.samples(most);
  }

  /** See `RecentTables.addSamples`. @throws ReplicaError of the database. */
  addSamples(samples: readonly Sample[], keptMs: number): void {
    this.#tables.addSamples(samples, this.#clock.now(), keptMs);
  }
}
