import type { Socket } from "bun";
import { limits, type Settings } from "../config.ts";
import { ReplicaError } from "../errors.ts";
import { error } from "../resp/reply.ts";
import type { PortContext } from "./call.ts";
import { Client } from "./client.ts";
import { answer } from "./commands.ts";
import { LoginThrottle } from "./login-throttle.ts";
import { PubSub } from "./pubsub.ts";
import type { Replica } from "./replica.ts";

type PortSocket = Socket<Client>;

/** The replica's own port: what Redis's tools ask a replica, in RESP2, and RESP3 after `HELLO 3`. */
export class Port {
  readonly #listener: Bun.TCPSocketListener<Client>;
  readonly #settings: Settings;
  readonly #version: string;
  readonly #pubsub = new PubSub();
  readonly #clients = new Set<Client>();
  readonly #counts = { commands: 0, connections: 0 };
  #context: PortContext | undefined;
  #nextId = 1;

  /**
   * Begins to listen; `port` 0 picks a free one.
   * @throws ReplicaError PORT_IN_USE.
   */
  constructor(settings: Settings, version: string) {
    this.#settings = settings;
    this.#version = version;
    try {
      this.#listener = Bun.listen<Client>({
        hostname: settings.bind,
        port: settings.port,
        socket: {
          binaryType: "uint8array",
          open: (socket) => this.#onOpen(socket),
          data: (socket, bytes) => this.#onData(socket, bytes),
          drain: (socket) => this.#flush(socket),
          close: (socket) => this.#onClose(socket),
          timeout: (socket) => socket.terminate(),
          error: (socket) => socket.terminate(),
        },
      });
    } catch (cause) {
      throw new ReplicaError("PORT_IN_USE", {
        retry: "never",
        message: `can't listen on ${settings.bind}:${settings.port}: ${cause instanceof Error ? cause.message : cause}; choose another --port, or 0 for a free one`,
        cause,
      });
    }
  }

  get port(): number {
    return this.#listener.port;
  }

  /** Whom the commands speak of, and what they can do beside it. */
  serve(replica: Replica, actions: Pick<PortContext, "rewrite" | "shutdown">): void {
    const { port } = this;
    this.#context = {
      replica,
      ...actions,
      port,
      pubsub: this.#pubsub,
      clients: this.#clients,
      logins: new LoginThrottle(),
      settings: this.#settings,
      version: this.#version,
      counts: this.#counts,
      now: () => Date.now(),
    };
  }

  stop(): void {
    this.#listener.stop(true);
  }

  #onOpen(socket: PortSocket): void {
    this.#counts.connections++;
    if (this.#clients.size >= limits.clients) {
      socket.write(error("ERR max number of clients reached"));
      socket.end();
      return;
    }
    const client = new Client(
      {
        id: this.#nextId++,
        address: addressOf(socket.remoteAddress, socket.remotePort),
        localAddress: addressOf(socket.localAddress, socket.localPort),
        nowMs: Date.now(),
        needsLogin: this.#settings.requirepass !== undefined,
      },
      { send: (reply) => this.#send(socket, reply), end: () => socket.terminate() },
    );
    socket.data = client;
    this.#clients.add(client);
    // Whoever has a password gives it at once.
    socket.timeout(client.loggedIn ? limits.clientIdleSeconds : limits.loginSeconds);
  }

  #onClose(socket: PortSocket): void {
    const client = socket.data;
    if (client === undefined) return;
    this.#pubsub.forget(client);
    this.#clients.delete(client);
  }

  #onData(socket: PortSocket, bytes: Uint8Array): void {
    const client = socket.data;
    const context = this.#context;
    if (client === undefined || client.leaving) return;
    if (context === undefined) return this.#send(socket, error("LOADING the replica is starting"));
    const wasLoggedIn = client.loggedIn;
    try {
      client.reader.push(bytes);
      for (;;) {
        const command = client.reader.next();
        if (command === undefined || client.leaving) break;
        const reply = answer(context, client, command);
        if (reply !== undefined) this.#send(socket, reply);
      }
    } catch (failure) {
      if (!(failure instanceof ReplicaError)) throw failure;
      client.leaving = true;
      this.#send(socket, error(`ERR ${failure.message}`));
    }
    // One who listens says nothing for days.
    if (client.subscriptions > 0) socket.timeout(0);
    else if (client.loggedIn) socket.timeout(limits.clientIdleSeconds);
    else if (wasLoggedIn) socket.timeout(limits.loginSeconds);
    if (client.leaving) this.#flush(socket);
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
}

/** As Redis writes it: an IPv6 address in brackets. */
function addressOf(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
