import { type Offset, parseOffset } from "../base/history.ts";

/** The answer to a command before the sync; `text` is a whole RESP reply. */
export type Answer =
  | { readonly type: "reply"; readonly text: string }
  | { readonly type: "silence" }
  | { readonly type: "sync" }
  /** `offset` is the first byte requested; 0 for none ("-1"). */
  | { readonly type: "psync"; readonly replid: string; readonly offset: Offset };

const OK: Answer = { type: "reply", text: "+OK\r\n" };
const SILENCE: Answer = { type: "silence" };
const NOT_AN_INTEGER = "-ERR value is not an integer or out of range";

/**
 * Answers a peer of the embedded primary before its sync, as Redis 7.0 does. Does no I/O and uses no
 * clock.
 */
export class Handshake {
  readonly #password: string | undefined;
  readonly #info: (section: string | undefined) => string;
  readonly #capabilities = new Set<string>();
  #authenticated: boolean;
  #announcedAddress: string | undefined;
  #listeningPort = 0;
  #rdbOnly = false;

  /** @param options.info returns the text of INFO; `section` is in lower case. */
  constructor(options: {
    password: string | undefined;
    info: (section: string | undefined) => string;
  }) {
    this.#password = options.password;
    this.#info = options.info;
    this.#authenticated = options.password === undefined;
  }

  /** The address from `REPLCONF ip-address`. */
  get announcedAddress(): string | undefined {
    return this.#announcedAddress;
  }

  /** The port from `REPLCONF listening-port`; 0 if there was none. */
  get listeningPort(): number {
    return this.#listeningPort;
  }

  /** Whether the replica wants only the payload, and no stream. */
  get rdbOnly(): boolean {
    return this.#rdbOnly;
  }

  /** Whether the replica sent `REPLCONF capa <capability>`. */
  can(capability: "eof" | "psync2"): boolean {
    return this.#capabilities.has(capability);
  }

  /** Answers one command; its name comes first. */
  answer(args: readonly string[]): Answer {
    const [name = "", ...rest] = args;
    const command = name.toUpperCase();
    if (!this.#authenticated && command !== "AUTH")
      return reply("-NOAUTH Authentication required.");
    switch (command) {
      case "PING":
        return rest[0] === undefined ? reply("+PONG") : bulk(rest[0]);
      case "AUTH":
        return this.#onAuth(rest);
      case "REPLCONF":
        return this.#onReplconf(rest);
      case "PSYNC":
        return this.#onPsync(rest);
      case "SYNC":
        return { type: "sync" };
      case "INFO":
        return bulk(this.#info(rest[0]?.toLowerCase()));
      default:
        return reply(
          `-ERR unknown command '${name.slice(0, 128)}', with args beginning with: ` +
            rest.map((arg) => `'${arg.slice(0, 128)}' `).join(""),
        );
    }
  }

  #onAuth(args: readonly string[]): Answer {
    const [first, second] = args;
    if (first === undefined || args.length > 2) {
      return reply("-ERR wrong number of arguments for 'auth' command");
    }
    if (second === undefined && this.#password === undefined) {
      return reply(
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
      );
    }
    const user = second === undefined ? "default" : first;
    const password = second ?? first;
    // Without a password, the default user accepts any (Redis, acl.c, nopass).
    const matches = this.#password === undefined || password === this.#password;
    if (user !== "default" || !matches) {
      return reply("-WRONGPASS invalid username-password pair or user is disabled.");
    }
    this.#authenticated = true;
    return OK;
  }

  // Pairs of option and value, with one reply for all (Redis 7.0, replication.c, replconfCommand).
  #onReplconf(args: readonly string[]): Answer {
    if (args.length % 2 !== 0) return reply("-ERR syntax error");
    for (let at = 0; at < args.length; at += 2) {
      const option = (args[at] ?? "").toLowerCase();
      const value = args[at + 1] ?? "";
      switch (option) {
        case "listening-port": {
          const port = Number(value);
          if (!/^\d+$/.test(value) || port > 65535) return reply(NOT_AN_INTEGER);
          this.#listeningPort = port;
          break;
        }
        case "ip-address":
          this.#announcedAddress = oneLine(value.slice(0, 255));
          break;
        case "capa":
          this.#capabilities.add(value.toLowerCase());
          break;
        case "rdb-only":
          this.#rdbOnly = value !== "0";
          break;
        case "version":
          // Sent by Valkey; it changes nothing here.
          break;
        case "ack":
        case "getack":
          // Meaningful only from an attached replica, and never answered.
          return SILENCE;
        default:
          return reply(`-ERR Unrecognized REPLCONF option: ${option.slice(0, 128)}`);
      }
    }
    return OK;
  }

  #onPsync(args: readonly string[]): Answer {
    const [replid, offsetText] = args;
    if (replid === undefined || offsetText === undefined) {
      return reply("-ERR wrong number of arguments for 'psync' command");
    }
    const offset = offsetText === "-1" ? 0 : readOffset(offsetText);
    if (offset === undefined) return reply(NOT_AN_INTEGER);
    return { type: "psync", replid, offset };
  }
}

/** Parses an offset from a peer; undefined if it is not one. */
export function readOffset(text: string): Offset | undefined {
  try {
    return parseOffset(text);
  } catch {
    return undefined;
  }
}

function reply(line: string): Answer {
  return { type: "reply", text: `${oneLine(line)}\r\n` };
}

function bulk(text: string): Answer {
  return { type: "reply", text: `$${Buffer.byteLength(text)}\r\n${text}\r\n` };
}

// Text quoted from a peer must not end the line.
function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]/g, " ");
}
