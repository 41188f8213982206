import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import { limits } from "../../config/limits.ts";
import type { PortCounts } from "../../monitor/port-counts.ts";
import type { Client } from "./client.ts";

/** What came of a turn: another is needed, all was answered, or nothing was asked. */
export type Turn = "unfinished" | "answered" | "idle";

/**
 * Gives turns to what has something to do: one after the other, in rounds, and no longer in one than `roundMs` and
 * the turns that began last. Between two rounds the event loop does all else, the primary's link above all, however
 * many wait here. Whoever took a whole turn for its last answers waits for those that didn't, so that a crowd with large
 * questions holds up no small one; but each round has room for one of them.
 */
export class Rounds<T extends object> {
  /** Those that wait, in the order in which they are due. */
  readonly #quick = new Set<T>();
  readonly #slow = new Set<T>();
  /** Whose last answers took longer than `turnMs`. */
  readonly #wasSlow = new WeakSet<T>();
  readonly #serve: (one: T, roundEndMs: number) => Turn;
  #isDue = false;

  /** @param serve gives a turn. It never throws. */
  constructor(serve: (one: T, roundEndMs: number) => Turn) {
    this.#serve = serve;
  }

  /** Asks for a turn; one that waits already keeps its place. */
  add(one: T): void {
    (this.#wasSlow.has(one) ? this.#slow : this.#quick).add(one);
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => this.#run());
  }

  remove(one: T): void {
    this.#quick.delete(one);
    this.#slow.delete(one);
  }

  #run(): void {
    const endMs = performance.now() + limits.roundMs;
    this.#serveAll(this.#quick, endMs);
    this.#serveAll(this.#slow, endMs);
    this.#isDue = this.#quick.size + this.#slow.size > 0;
    if (this.#isDue) setImmediate(() => this.#run());
  }

  /** Serves these until the round is over, and at least one. */
  #serveAll(waiting: Set<T>, endMs: number): void {
    // What is added meanwhile comes at the end of this round.
    for (const one of waiting) {
      waiting.delete(one);
      const beganMs = performance.now();
      const turn = this.#serve(one, endMs);
      const endedMs = performance.now();
      if (endedMs - beganMs > limits.turnMs) this.#wasSlow.add(one);
      else if (turn !== "idle") this.#wasSlow.delete(one);
      if (turn === "unfinished") this.add(one);
      if (endedMs >= endMs) break;
    }
  }
}

const LOG_EVERY_MS = 60_000;

/** Bounds what is held in memory for all clients together. */
export class HeldBytes {
  readonly #counts: PortCounts;
  readonly #of = new Map<Client, number>();
  #total = 0;
  #loggedMs = -Infinity;

  constructor(counts: PortCounts) {
    this.#counts = counts;
  }

  /** Counts what is held for a client now. Where that is too much for all, disconnects those who hold the most. */
  count(client: Client): void {
    const { memoryBytes } = client;
    this.#total += memoryBytes - (this.#of.get(client) ?? 0);
    this.#of.set(client, memoryBytes);
    while (this.#total > limits.clientsBytes) this.#evict();
  }

  /** It has left. */
  forget(client: Client): void {
    this.#total -= this.#of.get(client) ?? 0;
    this.#of.delete(client);
  }

  /** Of those without a login, or else of all, the one that holds most ("Redis 7.0, networking.c, evictClients"). */
  #evict(): void {
    const rank = ([client, bytes]: readonly [Client, number]) =>
      client.login.isLoggedIn ? bytes : bytes + limits.clientsBytes;
    const [most, bytes] = [...this.#of].reduce((most, one) =>
      rank(one) > rank(most) ? one : most,
    );
    this.forget(most);
    most.kill();
    this.#counts.evicted++;
    const nowMs = performance.now();
    if (nowMs - this.#loggedMs < LOG_EVERY_MS) return;
    this.#loggedMs = nowMs;
    const limit = formatBytes(limits.clientsBytes);
    logger.warn(
      `disconnected a client of the port that held ${formatBytes(bytes)}, the most of all: together they held more than ${limit}`,
      { client: most.address },
    );
  }
}
