import type { FakePeer } from "./fake-peer.ts";
import { fakePrimary, type FakePrimary, type FakePrimaryOptions } from "./fake-primary.ts";
import { encodeCommand } from "./resp.ts";

/** What a sentinel says where the primary is: a list of two bulk strings, as a command is. */
export function named(port: number, host = "127.0.0.1"): Buffer {
  return encodeCommand([host, port]);
}

/** What a sentinel says to a name that it doesn't know. */
export const UNKNOWN = "*-1\r\n";

/** A sentinel that watches `main`, and what it was asked. */
export interface FakeSentinel extends AsyncDisposable {
  readonly port: number;
  /** One for each question: all its words. */
  readonly asked: string[][];
  /** The connections, the oldest first. */
  readonly peers: readonly FakePeer[];
  stop(): Promise<void>;
}

/**
 * Answers each question for the primary with what `answer` gives then, and AUTH as `password` wants it.
 */
export function fakeSentinel(
  answer: (peer: FakePeer) => string | Uint8Array | undefined,
  { password, ...options }: FakePrimaryOptions & { readonly password?: string } = {},
): FakeSentinel {
  const asked: string[][] = [];
  const listener: FakePrimary = fakePrimary(async (peer) => {
    let loggedIn = password === undefined;
    for (;;) {
      const words = await peer.readCommand();
      if (words[0] === "AUTH") {
        loggedIn = words.at(-1) === password;
        await peer.send(loggedIn ? "+OK\r\n" : "-WRONGPASS invalid username-password pair\r\n");
        continue;
      }
      asked.push(words);
      const said = loggedIn ? answer(peer) : "-NOAUTH Authentication required.\r\n";
      if (said !== undefined) await peer.send(said);
    }
  }, options);
  return {
    port: listener.port,
    asked,
    peers: listener.peers,
    stop: () => listener.stop(),
    [Symbol.asyncDispose]: () => listener.stop(),
  };
}

/** The URL of these sentinels. */
export function sentinelUrl(
  sentinels: readonly { readonly port: number }[],
  { scheme = "redis", login = "", master = "main" } = {},
): string {
  const list = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",");
  return `${scheme}+sentinel://${login}${list}/${master}`;
}
