import { Random } from "../support/fill.ts";
import type { RespClient } from "../support/resp-client.ts";
import { ReplyError } from "../support/resp.ts";
import type { RealServer } from "../support/servers.ts";

export type Command = readonly (string | number)[];

export const DATABASES = [0, 3, 9];
/** Few, so that each key is written again and again, and a snapshot stays small. */
const KEYS = 200;
const BATCH_COMMANDS = 40;
const BETWEEN_BATCHES_MS = 8;
/** 2100-01-01: nothing expires during a test. */
const FAR_FUTURE_S = 4_102_444_800;

/** Writes commands of many types to several databases until stopped. Equal seeds give equal commands. */
export class SeededLoad implements AsyncDisposable {
  readonly #client: RespClient;
  readonly #random: Random;
  readonly #running: Promise<void>;
  #stopped = false;
  #commands = 0;

  private constructor(client: RespClient, seed: number) {
    this.#client = client;
    this.#random = new Random(seed);
    this.#running = this.#run();
    this.#running.catch(() => undefined);
  }

  /** Begins at once, on its own connection. */
  static async start(server: RealServer, seed: number): Promise<SeededLoad> {
    return new SeededLoad(await server.connect(), seed);
  }

  /** Number of answered commands. */
  get commands(): number {
    return this.#commands;
  }

  /** Ends after the current batch. @throws ReplyError the first error reply. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#running.catch(() => undefined);
    this.#client.close();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const batch = Array.from({ length: BATCH_COMMANDS }, () => nextCommands(this.#random)).flat();
      const replies = await this.#client.exchange(batch);
      const error = replies.find((reply) => reply instanceof ReplyError);
      if (error instanceof ReplyError) throw error;
      this.#commands += batch.length;
      await Bun.sleep(BETWEEN_BATCHES_MS);
    }
  }
}

/** The next commands of a load, which belong together. None of them can fail. */
export function nextCommands(random: Random): Command[] {
  const n = random.below(KEYS);
  switch (random.below(12)) {
    case 0:
      return [["SELECT", DATABASES[random.below(DATABASES.length)]!]];
    case 1:
      return [["SET", `string:${n}`, random.text(20 + random.below(400))]];
    case 2:
      return [["INCRBY", `counter:${n}`, random.below(1000)]];
    case 3:
      return [
        ["LPUSH", `list:${n}`, random.text(12), random.text(6)],
        ["LTRIM", `list:${n}`, 0, 30],
      ];
    case 4:
      return [["HSET", `hash:${n}`, `field${random.below(20)}`, random.text(15)]];
    case 5:
      return [["ZINCRBY", `zset:${n}`, random.below(100), `member${random.below(20)}`]];
    case 6:
      return [["SADD", `set:${n}`, random.below(50), random.below(50)]];
    case 7:
      // The server chooses the member: the stream must carry its choice.
      return [["SPOP", `set:${n}`]];
    case 8:
      return [["XADD", `stream:${n}`, "MAXLEN", 20, "*", "field", random.text(10)]];
    case 9:
      return [["SET", `expiring:${n}`, random.text(10), "EXAT", FAR_FUTURE_S + n]];
    case 10:
      return [
        ["MULTI"],
        ["APPEND", `appended:${n % 20}`, random.text(8)],
        ["INCR", "transactions"],
        ["EXEC"],
      ];
    default:
      return [["DEL", `${["string", "list", "hash", "zset"][random.below(4)]!}:${n}`]];
  }
}
