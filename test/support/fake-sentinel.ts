import type { FakePeer } from "./fake-peer.ts";
import { fakePrimary, type FakePrimary, type FakePrimaryOptions } from "./fake-primary.ts";
import { encodeCommand } from "./resp.ts";

/** The reply that names the primary: two bulk strings, encoded as a command is. */
export function named(port: number, host = "127.0.0.1"): Buffer {
  return encodeCommand([host, port]);
}

/** The reply for an unknown master name. */
export const UNKNOWN = "*-1\r\n";

/** A sentinel that watches `main`, and the questions it was asked. */
export interface FakeSentinel extends AsyncDisposable {
  readonly port: number;
  /** The words of each question. */
  readonly asked: string[][];
  /** The connections, oldest first. */
  readonly peers: readonly FakePeer[];
  stop(): Promise<void>;
}

/**
 * Answers each question for the primary with the current result of `answer`, and checks AUTH against `password`.
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
