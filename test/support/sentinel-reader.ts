import { MASTER } from "./sentinels.ts";
import { ReplyError } from "./resp.ts";
import { RespClient } from "./resp-client.ts";

/** Which of the listed replicas a client library leaves out, by the flags that Sentinel gives them. */
export const FILTERS = {
  /** ioredis, go-redis, Lettuce */
  connected: /s_down|o_down|disconnected/,
  /** redis-py */
  notDown: /s_down|o_down/,
} as const;

export interface SentinelReaderOptions {
  readonly sentinels: readonly number[];
  readonly filter: RegExp;
  /** Picks a number from 0 to below `limit`. */
  readonly below: (limit: number) => number;
  /** For the replicas. */
  readonly password: string;
}

/** How one read ended: which replica answered what. */
export interface SentinelRead {
  readonly port: number;
  readonly value: string | undefined;
  /** The error reply; undefined where there was none. */
  readonly error: string | undefined;
}

/**
 * Reads through the "replica" role, as client libraries do: asks a sentinel for the replicas, leaves out those that it
 * flags as down, picks one at random, connects and reads; asks again where there is none, or where its connection is
 * refused or lost. An error reply is the caller's, whom it fails.
 */
export class SentinelReader {
  readonly #options: SentinelReaderOptions;

  constructor(options: SentinelReaderOptions) {
    this.#options = options;
  }

  /** One read over a new connection; undefined where there is no replica just now, or the connection was lost. */
  async read(key: string): Promise<SentinelRead | undefined> {
    const ports = await this.#replicas();
    const port = ports[this.#options.below(ports.length)];
    if (port === undefined) return undefined;
    try {
      const { password } = this.#options;
      await using client = await RespClient.connect({ port, password, timeoutMs: 5_000 });
      const value = await client.send("GET", key);
      return { port, value: value === null ? undefined : String(value), error: undefined };
    } catch (error) {
      if (!(error instanceof ReplyError)) return undefined;
      // A server that loads its data says so, and clients try again.
      if (error.message.startsWith("LOADING")) return undefined;
      return { port, value: undefined, error: error.message };
    }
  }

  async #replicas(): Promise<number[]> {
    const { sentinels, filter, below } = this.#options;
    await using client = await RespClient.connect({ port: sentinels[below(sentinels.length)]! });
    const listed = (await client.send("SENTINEL", "REPLICAS", MASTER)) as string[][];
    return listed
      .map(
        (pairs) => new Map(pairs.flatMap((name, at) => (at % 2 ? [] : [[name, pairs[at + 1]!]]))),
      )
      .filter((one) => !filter.test(one.get("flags") ?? ""))
      .map((one) => Number(one.get("port")));
  }
}
