import { ReplicaError, unreachable } from "../base/errors.ts";
import {
  parseOffset,
  parseReplicationId,
  type Position,
  type ReplicationId,
} from "../base/history.ts";
import { printableBytes } from "../base/printable.ts";
import { LineReader } from "../resp/line-reader.ts";
import { authCommand, psyncCommand, secondLinkCommand, syncCommand } from "./commands.ts";
import type { AttemptTerms, HandshakeOptions } from "./handshake.ts";
import { readAuth, readPsync } from "./replies.ts";
import { STOCK_COMMANDS, type SyncCommands } from "./services.ts";
import type { SecondAt, TwoLinks } from "./state.ts";

/** What a line on the second link leads to. */
export type SecondStep =
  | { readonly next: "ask"; readonly command: Uint8Array; readonly at: SecondAt }
  /** A keepalive. */
  | { readonly next: "wait" }
  /** The snapshot is granted; with `clientId` the first link then asks for the stream (Valkey). */
  | {
      readonly next: "full";
      readonly position: Position;
      readonly clientId: string | undefined;
    };

/** The end of the snapshot, as Valkey tells it on the second link. */
export interface EndOffset {
  readonly position: Position;
  /** Under which the primary knows the second link. */
  readonly clientId: string;
}

const MINUS = 0x2d;
const PLUS = 0x2b;
const decoder = new TextDecoder("latin1");

/**
 * The second link of a full sync, up to its grant: AUTH, one REPLCONF, and PSYNC (Redis) or SYNC (Valkey). No PING: the
 * primary has just answered on the first link. (Redis 8.0 and Valkey 9.1, recorded.)
 */
export class SecondLink {
  readonly #how: TwoLinks;
  readonly #options: HandshakeOptions;
  readonly #login: AttemptTerms["login"];
  readonly #commands: SyncCommands;
  readonly #lines: LineReader;

  constructor(
    how: TwoLinks,
    options: HandshakeOptions & { readonly maxLineBytes: number },
    { login, peer }: AttemptTerms,
  ) {
    this.#how = how;
    this.#options = options;
    this.#login = login;
    this.#commands = peer?.commands ?? STOCK_COMMANDS;
    this.#lines = new LineReader(options);
  }

  /** Takes what came before the payload; `line` gives it back line by line. */
  push(bytes: Uint8Array): void {
    this.#lines.push(bytes);
  }

  /**
   * The next line; undefined where its end has not come yet.
   * @throws ReplicaError PROTOCOL for one that is too long.
   */
  line(): Uint8Array | undefined {
    return this.#lines.next();
  }

  /** Passes over further keepalives. */
  skipEmpty(): void {
    this.#lines.skipEmpty();
  }

  /** What came behind the last line. */
  rest(): Uint8Array {
    return this.#lines.rest();
  }

  /** The link is open. */
  begin(): SecondStep & { next: "ask" } {
    if (this.#login === undefined) return this.#announce();
    return { next: "ask", command: authCommand(this.#login), at: "auth" };
  }

  /**
   * Takes one reply.
   * @throws ReplicaError AUTH_FAILED; PRIMARY_REFUSED for an error; PROTOCOL for an answer that no primary gives.
   */
  reply(at: SecondAt, line: Uint8Array): SecondStep {
    switch (at) {
      case "connect":
        throw new ReplicaError("PROTOCOL", {
          message: "bytes came before the second link was open",
        });
      case "auth":
        if (isFull(line)) throw refused("AUTH", line);
        readAuth(line, "the primary", this.#login?.from ?? "");
        return this.#announce();
      case "replconf":
        if (line[0] !== PLUS) throw refused("REPLCONF", line);
        return {
          next: "ask",
          command:
            this.#how.by === "redis"
              ? psyncCommand(undefined, this.#commands.psync)
              : syncCommand(this.#commands.sync),
          at: "sync",
        };
      case "sync":
        return line.length === 0 ? { next: "wait" } : this.#onSync(line);
      default:
        return unreachable(at);
    }
  }

  #announce(): SecondStep & { next: "ask" } {
    const { listeningPort: port, announceIp: ip, announcedVersion: version } = this.#options;
    const clientId = this.#how.by === "redis" ? this.#how.clientId : undefined;
    return {
      next: "ask",
      command: secondLinkCommand({ clientId, port, ip, version }),
      at: "replconf",
    };
  }

  #onSync(line: Uint8Array): SecondStep {
    if (this.#how.by === "valkey") {
      const { position, clientId } = readEndOffset(line);
      return { next: "full", position, clientId };
    }
    const reply = readPsync(line);
    if (reply.kind !== "full") throw refused("PSYNC", line);
    return { next: "full", position: reply.position, clientId: undefined };
  }
}

/**
 * Reads `$ENDOFF:<offset> <replid> <database> <client id>`, Valkey's answer to SYNC on a second link (replication.c,
 * dual channel). The database is in the snapshot's header, too.
 * @throws ReplicaError PRIMARY_REFUSED for an error; PROTOCOL for any other answer.
 */
export function readEndOffset(line: Uint8Array): EndOffset {
  const [, offset, replid, clientId] =
    /^\$ENDOFF:(\d+) (\S+) -?\d+ (\d+)$/.exec(decoder.decode(line)) ?? [];
  if (offset === undefined || replid === undefined || clientId === undefined)
    throw refused("SYNC", line);
  return {
    position: { replid: parseReplicationId(replid), offset: parseOffset(offset) },
    clientId,
  };
}

/**
 * Reads what Valkey says on the first link to `REPLCONF set-rdb-client-id`.
 * @throws ReplicaError PRIMARY_REFUSED, PROTOCOL.
 */
export function readClientIdSet(line: Uint8Array): void {
  if (line[0] !== PLUS) throw refused("REPLCONF set-rdb-client-id", line, "first");
}

/**
 * Reads what Valkey says to the PSYNC that asks for the stream behind a snapshot which the second link brings.
 * @param replid the snapshot's.
 * @throws ReplicaError PRIMARY_REFUSED, PROTOCOL.
 */
export function readStreamBegins(line: Uint8Array, replid: ReplicationId): void {
  const reply = readPsync(line);
  const isSame =
    reply.kind === "partial" && (reply.replid === undefined || reply.replid === replid);
  if (!isSame) throw refused("PSYNC", line, "first");
}

/** What a server says to a connection that it has no room for, to whatever comes first. */
function isFull(line: Uint8Array): boolean {
  return decoder.decode(line).startsWith("-ERR max number of clients");
}

function refused(
  command: string,
  line: Uint8Array,
  link: "first" | "second" = "second",
): ReplicaError {
  const message = `the primary answers ${command} on the ${link} link of a full sync with "${printableBytes(line)}"`;
  return new ReplicaError(line[0] === MINUS ? "PRIMARY_REFUSED" : "PROTOCOL", { message });
}
