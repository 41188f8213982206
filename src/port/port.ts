import type { Socket } from "bun";
import { type Settings } from "../config/settings.ts";
import { ReplicaError } from "../base/errors.ts";
import { giveBack } from "../store/disk/disk.ts";
import { logger } from "../base/logger.ts";
import { error } from "../resp/reply.ts";
import { type PortContext } from "./call.ts";
import { Client, type Wait } from "./client.ts";
import { answer } from "./commands.ts";
import { listenFailure } from "../base/listen-failure.ts";
import { LoginThrottle } from "./login-throttle.ts";
import { PubSub } from "./pubsub.ts";
import type { Replica } from "../replica/replica.ts";
import { noCounts } from "../monitor/port-counts.ts";
import { limits } from "../config/limits.ts";

type PortSocket = Socket<Client>;

const ALARM_EVERY_MS = 60_000;
/** So much of a pipeline's answers is gathered for one write. */
const GATHERED_BYTES = 16 * 1024;

const WAIT_SECONDS: Record<Wait, number> = {
  login: limits.loginSeconds,
  rest: limits.commandSeconds,
  next: limits.clientIdleSeconds,
  nothing: 0,
};

/** The replica's own port: what Redis's tools ask a replica, in RESP2, and RESP3 after `HELLO 3`. */
export class Port {
  readonly #listener: Bun.TCPSocketListener<Client>;
  readonly #settings: Settings;
  readonly #version: string;
  readonly #pubsub = new PubSub();
  readonly #clients = new Set<Client>();
  readonly #counts = noCounts();
  /** Whether clients are being turned away, for that to be said once. */
  #isFull = false;
  /** Whose commands are being answered now. */
  #answered: Client | undefined;
  #alarmedAtMs = 0;
  #context: PortContext | undefined;
  #nextId = 1;

  /**
   * Begins to listen; `port` 0 picks a free one.
   * @throws ReplicaError PORT_IN_USE, LISTEN_FAILED.
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
          drain: (socket) => this.#onDrain(socket),
          close: (socket) => this.#forget(socket.data),
          timeout: (socket) => this.#cut(socket),
          error: (socket, failure) => {
            logger.error("a client of the port was cut off: its command failed", {
              error: failure,
            });
            this.#cut(socket);
          },
        },
      });
    } catch (cause) {
      const { bind, port } = settings;
      const wanted = { what: "listen", addressFlag: "--bind", portFlag: "--port" } as const;
      throw listenFailure({ host: bind, port }, wanted, cause);
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
      alarm: (client) => this.#alarm(client),
    };
  }

  stop(): void {
    this.#listener.stop(true);
  }

  #onOpen(socket: PortSocket): void {
    this.#counts.connections++;
    if (this.#clients.size >= limits.clients) return this.#turnAway(socket);
    // One that had gone before it was accepted has no address any more.
    if (socket.remoteAddress === undefined) return void socket.terminate();
    const client = new Client(
      {
        id: this.#nextId++,
        address: addressOf(socket.remoteAddress, socket.remotePort),
        localAddress: addressOf(socket.localAddress, socket.localPort),
        nowMs: Date.now(),
        needsLogin: this.#settings.requirepass !== undefined,
      },
      {
        send: (reply) => this.#send(socket, client, reply),
        offer: (bytes) => this.#offer(socket, client, bytes),
        proceed: (reply) => this.#takeCommands(socket, client, reply),
        end: () => this.#cut(socket),
      },
    );
    socket.data = client;
    this.#clients.add(client);
    socket.setKeepAlive(true, limits.clientKeepAliveMs);
    this.#giveTime(socket, client, false);
  }

  /** Once a minute at most: a page may try as often as it likes. */
  #alarm(client: Client): void {
    const nowMs = Date.now();
    if (nowMs - this.#alarmedAtMs < ALARM_EVERY_MS) return;
    this.#alarmedAtMs = nowMs;
    logger.warn(
      "a client of the port spoke HTTP and was cut off: a web page may have sent it here",
      {
        client: client.address,
      },
    );
  }

  #turnAway(socket: PortSocket): void {
    this.#counts.rejected++;
    if (!this.#isFull) {
      this.#isFull = true;
      logger.warn(
        `${this.#clients.size} clients are connected: others are refused until some leave`,
      );
    }
    socket.write(error("ERR max number of clients reached"));
    socket.end();
  }

  #forget(client: Client | undefined): void {
    if (client === undefined) return;
    client.leaving = true;
    client.unsent = [];
    client.unsentBytes = 0;
    client.inbox.clear();
    this.#pubsub.forget(client);
    this.#clients.delete(client);
    client.onGone();
    // Not at the very limit: one who comes and goes there would fill the log.
    if (this.#clients.size < limits.clients * 0.9) this.#isFull = false;
  }

  /** Ends a link at once. */
  #cut(socket: PortSocket): void {
    this.#forget(socket.data);
    socket.terminate();
  }

  #onData(socket: PortSocket, bytes: Uint8Array): void {
    const client = socket.data;
    this.#counts.inputBytes += bytes.length;
    if (client === undefined || client.leaving) return giveBack(bytes);
    client.downstream?.heard();
    client.inbox.push(bytes);
    if (client.blocked && client.heldBytes > limits.clientHeldBytes) this.#cut(socket);
    else if (!client.awaitsTurn) this.#takeCommands(socket, client);
  }

  #onDrain(socket: PortSocket): void {
    const client = socket.data;
    if (client === undefined) return;
    client.stalled = false;
    this.#flush(socket, client);
    if (client.stalled || client.leaving) return;
    if (!client.awaitsTurn) this.#takeCommands(socket, client);
    client.downstream?.drained();
  }

  /** Lets a client go that has sent more than logins, and none was right; a pipeline may begin with one. */
  #refuseStranger(client: Client): boolean {
    if (client.loggedIn) return false;
    const { strangerBytes, strangerCommands, inbox } = client;
    const bytes = strangerBytes === 0 ? 0 : strangerBytes + inbox.bytes;
    if (bytes <= limits.loginInputBytes && strangerCommands <= limits.loginCommands) return false;
    client.leaving = true;
    client.send(error("NOAUTH too much was sent without a login"));
    return true;
  }

  /**
   * Answers what has come, as long as the answers are read: who doesn't read isn't listened to. Whoever has
   * had his time waits until the others had theirs.
   * @param late what it waited for, which goes out first.
   */
  #takeCommands(
    socket: PortSocket,
    client: Client,
    late: () => Uint8Array | undefined = () => undefined,
  ): void {
    const context = this.#context;
    if (context === undefined) return client.send(error("LOADING the replica is starting"));
    let took = 0;
    const endMs = performance.now() + limits.turnMs;
    this.#answered = client;
    try {
      const lateReply = late();
      if (lateReply !== undefined) client.send(lateReply);
      while (!client.leaving && !client.blocked && (!client.stalled || isFed(client))) {
        if (took >= limits.turnCommands && performance.now() > endMs) {
          if (!this.#refuseStranger(client)) this.#awaitTurn(socket, client);
          break;
        }
        const command = client.reader.next();
        if (command === undefined) {
          if (this.#refuseStranger(client) || !readOn(client)) break;
          continue;
        }
        took++;
        const reply = answer(context, client, command);
        if (reply !== undefined) client.send(reply);
        if (!client.loggedIn && ++client.strangerCommands > limits.loginCommands)
          this.#refuseStranger(client);
      }
    } catch (failure) {
      if (!(failure instanceof ReplicaError)) throw failure;
      // An error would stand in its stream.
      client.downstream?.end(failure.message);
      client.leaving = true;
      client.send(error(`ERR ${failure.message}`));
    } finally {
      this.#answered = undefined;
    }
    this.#flush(socket, client);
    if (client.leaving) client.inbox.clear();
    listen(socket, client);
    if (client.leaving) return;
    // Who has no password may make it hold nothing.
    if (client.stalled && !isFed(client) && !client.loggedIn) return this.#cut(socket);
    this.#giveTime(socket, client, took > 0);
  }

  #awaitTurn(socket: PortSocket, client: Client): void {
    client.awaitsTurn = true;
    setImmediate(() => {
      client.awaitsTurn = false;
      if (!client.leaving) this.#takeCommands(socket, client);
    });
  }

  /** A link has its time for what it waits for; time for a login or a command can't be had twice. */
  #giveTime(socket: PortSocket, client: Client, took: boolean): void {
    const wait = waitOf(client);
    const isAnew = wait !== client.waitsFor || (took && wait !== "login");
    client.waitsFor = wait;
    if (isAnew) socket.timeout(WAIT_SECONDS[wait]);
  }

  #send(socket: PortSocket, client: Client, reply: Uint8Array): void {
    if (!this.#clients.has(client)) return;
    client.unsent.push(reply);
    client.unsentBytes += reply.length;
    // The answers of a pipeline go out together: a write of its own for each is what costs most.
    if (this.#answered !== client || client.unsentBytes > GATHERED_BYTES) {
      this.#flush(socket, client);
    }
    // A slow reader is cut off, not buffered without end.
    if (client.unsentBytes > limits.clientUnsentBytes) this.#cut(socket);
  }

  #offer(socket: PortSocket, client: Client, bytes: Uint8Array): number {
    this.#flush(socket, client);
    if (client.stalled || client.leaving) return 0;
    const sent = Math.max(0, socket.write(bytes));
    this.#counts.outputBytes += sent;
    client.stalled = sent < bytes.length;
    return sent;
  }

  #flush(socket: PortSocket, client: Client): void {
    if (client.stalled) return;
    if (client.unsentBytes > 0) {
      const [first, ...more] = client.unsent;
      const bytes = first !== undefined && more.length === 0 ? first : Buffer.concat(client.unsent);
      const sent = socket.write(bytes);
      if (sent < 0) return; // closed: the event follows
      this.#counts.outputBytes += sent;
      client.stalled = sent < bytes.length;
      client.unsent = client.stalled ? [bytes.subarray(sent)] : [];
      client.unsentBytes -= sent;
    }
    if (client.leaving && !client.stalled) socket.end();
  }
}

/** Gives its reader some more of what has come; whether there was more. */
function readOn(client: Client): boolean {
  const piece = client.inbox.take(limits.turnBytes);
  if (piece === undefined) return false;
  if (!client.loggedIn) client.strangerBytes += piece.length;
  client.reader.push(piece);
  return true;
}

/** Reads the socket, or leaves what comes to the kernel. */
function listen(socket: PortSocket, client: Client): void {
  const hasRead = client.inbox.bytes === 0 && (!client.stalled || isFed(client));
  // Who waits for a reply may go meanwhile.
  const listens = client.blocked || (hasRead && !client.awaitsTurn);
  if (listens === client.listens) return;
  client.listens = listens;
  if (listens) socket.resume();
  else socket.pause();
}

/** A replica is heard, however slowly it reads: what it says is what it has. */
function isFed(client: Client): boolean {
  return client.downstream !== undefined;
}

function waitOf(client: Client): Wait {
  if (isFed(client) || client.blocked) return "nothing";
  if (!client.loggedIn) return "login";
  // One whose answers wait to be read has commands here that are whole.
  const hasBegun = client.reader.hasBegun && !client.awaitsTurn && client.inbox.bytes === 0;
  if (hasBegun && !client.stalled) return "rest";
  // One who listens says nothing for days.
  return client.subscriptions > 0 ? "nothing" : "next";
}

/** As Redis writes it: an IPv6 address in brackets. */
function addressOf(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
