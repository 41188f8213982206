import type { Socket } from "bun";
import { timingSafeEqual } from "node:crypto";
import { limits } from "../config.ts";
import { ReplicaError } from "../errors.ts";
import { CommandReader } from "../resp/command-reader.ts";
import { array, bulk, error, integer, map, type Proto, simple, verbatim } from "../resp/reply.ts";
import { infoSections, infoText } from "./info.ts";
import type { Replica } from "./replica.ts";

interface Client {
  readonly id: number;
  readonly reader: CommandReader;
  proto: Proto;
  loggedIn: boolean;
  unsent: Uint8Array[];
  unsentBytes: number;
  /** No more commands are taken; the link ends once what is unsent has gone out. */
  leaving: boolean;
}

type PortSocket = Socket<Client>;

const NO_KEYS = "ERR this replica keeps its data on disk and answers no key commands";

/** The replica's own port: what Redis's tools ask a replica, in RESP2, and RESP3 after `HELLO 3`. */
export class Port {
  readonly #listener: Bun.TCPSocketListener<Client>;
  readonly #requirepass: string | undefined;
  readonly #version: string;
  readonly #clients = new Set<PortSocket>();
  #replica: Replica | undefined;
  #nextId = 1;

  /**
   * Begins to listen; `port` 0 picks a free one.
   * @throws ReplicaError PORT_IN_USE.
   */
  constructor(options: {
    bind: string;
    port: number;
    requirepass: string | undefined;
    version: string;
  }) {
    this.#requirepass = options.requirepass;
    this.#version = options.version;
    try {
      this.#listener = Bun.listen<Client>({
        hostname: options.bind,
        port: options.port,
        socket: {
          binaryType: "uint8array",
          open: (socket) => this.#onOpen(socket),
          data: (socket, bytes) => this.#onData(socket, bytes),
          drain: (socket) => this.#flush(socket),
          close: (socket) => {
            this.#clients.delete(socket);
          },
          timeout: (socket) => socket.terminate(),
          error: (socket) => socket.terminate(),
        },
      });
    } catch (cause) {
      throw new ReplicaError("PORT_IN_USE", {
        retry: "never",
        message: `can't listen on ${options.bind}:${options.port}: ${cause instanceof Error ? cause.message : cause}; choose another --port, or 0 for a free one`,
        cause,
      });
    }
  }

  get port(): number {
    return this.#listener.port;
  }

  /** Whom INFO and ROLE speak of. */
  serve(replica: Replica): void {
    this.#replica = replica;
  }

  stop(): void {
    this.#listener.stop(true);
  }

  #onOpen(socket: PortSocket): void {
    if (this.#clients.size >= limits.clients) {
      socket.write(error("ERR max number of clients reached"));
      socket.end();
      return;
    }
    socket.data = {
      id: this.#nextId++,
      reader: new CommandReader(limits.command),
      proto: 2,
      loggedIn: this.#requirepass === undefined,
      unsent: [],
      unsentBytes: 0,
      leaving: false,
    };
    this.#clients.add(socket);
    socket.timeout(limits.clientIdleSeconds);
  }

  #onData(socket: PortSocket, bytes: Uint8Array): void {
    const client = socket.data;
    if (client === undefined || client.leaving) return;
    try {
      client.reader.push(bytes);
      for (;;) {
        const command = client.reader.next();
        if (command === undefined || client.leaving) return;
        this.#send(socket, this.#answer(client, command));
      }
    } catch (failure) {
      if (!(failure instanceof ReplicaError)) throw failure;
      client.leaving = true;
      this.#send(socket, error(`ERR ${failure.message}`));
    }
  }

  #send(socket: PortSocket, reply: Uint8Array): void {
    const client = socket.data;
    client.unsent.push(reply);
    client.unsentBytes += reply.length;
    this.#flush(socket);
    // A slow reader is cut off, not buffered without end.
    if (client.unsentBytes > limits.clientUnsentBytes) socket.terminate();
  }

  #flush(socket: PortSocket): void {
    const client = socket.data;
    if (client === undefined) return;
    for (let reply = client.unsent[0]; reply !== undefined; reply = client.unsent[0]) {
      const sent = socket.write(reply);
      if (sent < 0) return;
      client.unsentBytes -= sent;
      if (sent < reply.length) {
        client.unsent[0] = reply.subarray(sent);
        return;
      }
      client.unsent.shift();
    }
    if (client.leaving) socket.end();
  }

  #answer(client: Client, command: Uint8Array[]): Uint8Array {
    const [name = "", ...args] = command.map((arg) => Buffer.from(arg).toString());
    const verb = name.toUpperCase();
    if (!client.loggedIn && verb !== "AUTH" && verb !== "HELLO" && verb !== "QUIT") {
      return error("NOAUTH Authentication required.");
    }
    switch (verb) {
      case "PING":
        return args[0] === undefined ? simple("PONG") : bulk(args[0]);
      case "ECHO":
        return args.length === 1 ? bulk(args[0]!) : wrongArgs("echo");
      case "AUTH":
        return this.#auth(client, args);
      case "HELLO":
        return this.#hello(client, args);
      case "QUIT":
        client.leaving = true;
        return simple("OK");
      case "INFO":
        return verbatim(this.#info(args), client.proto);
      case "ROLE":
        return this.#role();
      default:
        return error(NO_KEYS);
    }
  }

  #auth(client: Client, args: string[]): Uint8Array {
    const [user, password] = args.length === 1 ? ["default", args[0]!] : [args[0], args[1]];
    if (args.length < 1 || args.length > 2) return wrongArgs("auth");
    if (this.#requirepass === undefined) {
      return error(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
      );
    }
    if (user !== "default" || !same(password!, this.#requirepass)) {
      return error("WRONGPASS invalid username-password pair or user is disabled.");
    }
    client.loggedIn = true;
    return simple("OK");
  }

  #hello(client: Client, args: string[]): Uint8Array {
    const words = [...args];
    const asked = words.shift();
    if (asked !== undefined && asked !== "2" && asked !== "3") {
      return error("NOPROTO unsupported protocol version");
    }
    for (let word = words.shift(); word !== undefined; word = words.shift()) {
      const option = word.toUpperCase();
      if (option === "AUTH" && words.length >= 2) {
        const reply = this.#auth(client, words.splice(0, 2));
        if (reply[0] === 0x2d) return reply;
      } else if (option === "SETNAME" && words.length >= 1) {
        words.shift();
      } else {
        return error(`ERR Syntax error in HELLO option '${word.slice(0, 60)}'`);
      }
    }
    if (!client.loggedIn) {
      return error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
      );
    }
    if (asked !== undefined) client.proto = asked === "3" ? 3 : 2;
    const fields: [string, Uint8Array][] = [
      ["server", bulk("redis")],
      ["version", bulk(this.#version)],
      ["proto", integer(client.proto)],
      ["id", integer(client.id)],
      ["mode", bulk("standalone")],
      ["role", bulk("replica")],
      ["modules", array([])],
    ];
    return map(
      fields.map(([key, value]) => [bulk(key), value]),
      client.proto,
    );
  }

  #info(only: string[]): string {
    if (this.#replica === undefined) return "";
    const about = { version: this.#version, port: this.port, nowMs: Date.now() };
    return infoText(infoSections(this.#replica, about), only);
  }

  #role(): Uint8Array {
    const replica = this.#replica;
    if (replica === undefined) return error("LOADING the replica is starting");
    const { state, target, log } = replica;
    const [host, port] = target.kind === "unix" ? [target.path, 0] : [target.host, target.port];
    // ROLE knows five words for a replica's link ("Redis, replication.c, roleCommand").
    const link =
      state.at === "none" ||
      state.at === "connect" ||
      state.at === "connecting" ||
      state.at === "connected"
        ? state.at
        : state.at === "transfer"
          ? "sync"
          : "handshake";
    const offset = state.at === "connected" ? (log?.writtenOffset ?? 0) : -1;
    return array([bulk("slave"), bulk(host), integer(port), bulk(link), integer(offset)]);
  }
}

function wrongArgs(name: string): Uint8Array {
  return error(`ERR wrong number of arguments for '${name}' command`);
}

/** Compares without telling by its time how much was right. */
function same(given: string, right: string): boolean {
  const digest = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(right));
}
