import type { Clock } from "../base/clock.ts";
import type { Replica } from "./replica.ts";

/**
 * The one notion of how fresh the copy is: the newest moment that can be restored, and how long ago that is.
 * While the link is up, that is the time of the last mark; a primary's pings, one every 10 s by default, keep it
 * moving. Once the link is down it stays, however many attempts follow: a mark that is made later covers bytes
 * that came before.
 */
export class Freshness {
  readonly #replica: Replica;
  readonly #clock: Clock;
  readonly #startedMs: number;
  /** The last mark of the process before this one: marks of a start cover what that one had received. */
  readonly #inheritedMs: number | undefined;

  constructor(replica: Replica, clock: Clock) {
    this.#replica = replica;
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
    this.#inheritedMs = replica.directory.holdings.lastMs;
  }

  /** Milliseconds since 1970; undefined where nothing is kept yet. */
  get newestMs(): number | undefined {
    const { directory, links, state } = this.#replica;
    const { lastMs } = directory.holdings;
    if (lastMs === undefined || state.at === "connected") return lastMs;
    const heardUntilMs = links.downAtMs ?? this.#inheritedMs ?? 0;
    // A snapshot that became current since is as new as its own first mark.
    return Math.min(lastMs, Math.max(heardUntilMs, directory.current?.currentAtMs ?? 0));
  }

  /** Milliseconds since 1970; undefined where nothing is kept yet. @throws ReplicaError of the database. */
  get oldestMs(): number | undefined {
    return this.#replica.directory.holdings.firstMs;
  }

  /** How long ago the newest moment is; undefined where nothing is kept yet. */
  get staleSeconds(): number | undefined {
    const { newestMs } = this;
    return newestMs === undefined ? undefined : Math.max(0, (this.#clock.now() - newestMs) / 1000);
  }

  /** Seconds since the link was last up, or since the start where it never was; 0 while it is up. */
  get linkDownSeconds(): number {
    const { links, state } = this.#replica;
    if (state.at === "connected") return 0;
    return links.downSeconds ?? Math.floor((this.#clock.monotonicMs() - this.#startedMs) / 1000);
  }
}
