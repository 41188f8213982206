import { ReplicaError } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import type { Login, PrimaryTarget } from "../../config/primary-url.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { parseInfo } from "../../resp/info-text.ts";
import { ReplyReader } from "../../resp/reply-reader.ts";
import { authCommand } from "../../session/commands.ts";
import { printableAscii } from "../../base/printable.ts";
import { Link, type TlsFiles } from "./link.ts";

export interface AskInfoOptions {
  readonly login: Login;
  readonly tls: TlsFiles;
  /** How long connecting and the answer may take, in milliseconds. */
  readonly syncTimeoutMs: number;
}

const MAX_SAID_CHARACTERS = 200;

/**
 * Asks a primary for INFO over a connection of its own: the one that follows carries the stream alone.
 * @throws ReplicaError as a link does; TIMED_OUT; PRIMARY_REFUSED where it may not be asked; PROTOCOL.
 */
export async function askInfo(
  target: PrimaryTarget,
  { login, tls, syncTimeoutMs }: AskInfoOptions,
): Promise<ReadonlyMap<string, string>> {
  const { promise, resolve, reject } = Promise.withResolvers<ReadonlyMap<string, string>>();
  const reader = new ReplyReader({ maxReplyBytes: limits.statusReplyBytes });
  const { username, password } = login;
  let awaitsLogin = password !== undefined;
  const opening = password === undefined ? [] : [authCommand({ username, password })];
  const onBytes = (bytes: Uint8Array) => {
    reader.push(bytes);
    for (let reply = reader.next(); reply !== undefined; reply = reader.next()) {
      if (reply.isError) {
        const message = `INFO is refused: ${printableAscii(reply.text, MAX_SAID_CHARACTERS)}`;
        throw new ReplicaError("PRIMARY_REFUSED", { message });
      }
      if (!awaitsLogin) return resolve(parseInfo(reply.text));
      awaitsLogin = false;
    }
  };
  const link = new Link(target, tls, {
    opened: () => link.send(Buffer.concat([...opening, encodeCommand("INFO", "default")])),
    bytes: (bytes) => {
      try {
        onBytes(bytes);
      } catch (error) {
        reject(error);
      }
    },
    lost: reject,
  });
  const timer = setTimeout(() => {
    const message = `INFO got no answer within ${syncTimeoutMs} ms (--sync-timeout)`;
    reject(new ReplicaError("TIMED_OUT", { message }));
  }, syncTimeoutMs);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    link.close();
  }
}
