import type { Command } from "../faults/seeded-load.ts";
import { Random } from "../support/fill.ts";
import type { RespClient } from "../support/resp-client.ts";
import { ReplyError } from "../support/resp.ts";
import type { RealServer } from "../support/servers.ts";
import { until } from "../support/wait.ts";
import { library, nextMove } from "./moves.ts";

const CLIENTS = 2;
const MOVES_AT_ONCE = 30;
const BETWEEN_BATCHES_MS = 40;
const BEFORE_RECONNECT_MS = 100;

/** Errors that the load must not cause. A missing key, or a server in another role, is expected. */
const UNEXPECTED_ERRORS =
  /^(WRONGTYPE|NOPERM|NOAUTH|MISCONF)|unknown (sub)?command|wrong number|syntax error/i;
/** The server is no longer the primary. */
const MOVED_ERRORS = /^(READONLY|MASTERDOWN)/;

/** Seeded clients that keep writing to the current primary, through all its failures. */
export class Load implements AsyncDisposable {
  readonly #primary: () => RealServer;
  readonly #clients: Promise<void>[];
  #isPaused = false;
  #isStopped = false;
  #busy = 0;
  #commands = 0;
  #failure: Error | undefined;

  private constructor(primary: () => RealServer, seed: number) {
    this.#primary = primary;
    this.#clients = Array.from({ length: CLIENTS }, (_, i) => this.#run(new Random(seed + i)));
  }

  /** @param primary returns the current primary; called again after each break. */
  static start(primary: () => RealServer, seed: number): Load {
    return new Load(primary, seed);
  }

  /** Number of answered commands. */
  get commands(): number {
    return this.#commands;
  }

  /** Pauses; resolves when everything sent is answered. @throws Error if a reply was unexpected. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await until(() => this.#busy === 0, { what: "the load to pause", timeoutMs: 50_000 });
    if (this.#failure !== undefined) throw this.#failure;
  }

  resume(): void {
    this.#isPaused = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#clients);
  }

  async #run(random: Random): Promise<void> {
    while (!this.#isStopped) {
      let client: RespClient | undefined;
      try {
        client = await this.#primary().connect();
        await this.#write(client, random);
      } catch {
        // It has died, or is starting.
        await Bun.sleep(BEFORE_RECONNECT_MS);
      } finally {
        client?.close();
      }
    }
  }

  /** Writes until the server is no longer the primary. @throws Error if the connection breaks. */
  async #write(client: RespClient, random: Random): Promise<void> {
    let first: Command[] = [["FUNCTION", "LOAD", "REPLACE", library(0)]];
    while (!this.#isStopped) {
      await Bun.sleep(BETWEEN_BATCHES_MS);
      if (this.#isPaused) continue;
      const moves = Array.from({ length: MOVES_AT_ONCE }, () => nextMove(random)).flat();
      const batch = [...first, ...moves];
      first = [];
      this.#busy++;
      try {
        const replies = await client.exchange(batch);
        this.#commands += batch.length;
        const errors = replies.filter((reply) => reply instanceof ReplyError);
        const odd = errors.find(({ message }) => UNEXPECTED_ERRORS.test(message));
        if (odd !== undefined) this.#failure = new Error(`the load got a reply: ${odd.message}`);
        if (errors.some(({ message }) => MOVED_ERRORS.test(message))) return;
      } finally {
        this.#busy--;
      }
    }
  }
}
