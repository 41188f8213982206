import type { Socket } from "bun";
import { type Settings } from "../config/settings.ts";
import { ReplicaError } from "../base/errors.ts";
import { giveBack } from "../store/disk/disk.ts";
import { logger } from "../base/logger.ts";
import { error } from "../resp/reply.ts";
import type { PortContext, ProgramActions, ReplicaActions } from "./call.ts";
import { Client, type Wait } from "./client.ts";
import { COMMANDS } from "./commands.ts";
import { answer } from "./dispatch.ts";
import { listenFailure } from "../base/listen-failure.ts";
import { LoginThrottle, OwnPassword } from "./logins.ts";
import { PubSub } from "./pubsub.ts";
import { isSentinel } from "./refuse-unknown.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { noCounts } from "../monitor/port-counts.ts";
import { limits } from "../config/limits.ts";

type PortSocket = Socket<Client>;

const ALARM_EVERY_MS = 60_000;
/** How many bytes of a pipeline's replies are collected for one write. */
const GATHERED_BYTES = 16 * 1024;

const WAIT_SECONDS: Record<Wait, number> = {
  login: limits.loginSeconds,
  rest: limits.commandSeconds,
  next: limits.clientIdleSeconds,
  nothing: 0,
};

/** The replica's own port. Answers Redis's tools in RESP2, and in RESP3 after `HELLO 3`; feeds other replicas. */
export class Port {
  readonly #listener: Bun.TCPSocketListener<Client>;
  readonly #settings: Settings;
  readonly #version: string;
  readonly #pubsub = new PubSub();
  readonly #clients = new Set<Client>();
  readonly #counts = noCounts();
  /** Whether clients are being turned away; logged once. */
  #isFull = false;
  /** The client whose commands are being answered now. */
  #answered: Client | undefined;
  #alarmedAtMs = 0;
  #sentinelGoneAtMs = -Infinity;
  #context: PortContext | undefined;
  #nextId = 1;

  /**
   * Starts to listen. Port 0 picks a free one.
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
            logger.error("disconnected a client of the port: its command failed", {
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

  /** Begins to answer commands; until then, clients get LOADING. */
  serve(status: ReplicaStatus, replica: ReplicaActions, program: ProgramActions): void {
    const { port } = this;
    const { requirepass } = this.#settings;
    this.#context = {
      status,
      replica,
      ...program,
      port,
      commands: COMMANDS,
      pubsub: this.#pubsub,
      clients: this.#clients,
      logins: new LoginThrottle(),
      ownPassword: requirepass && new OwnPassword(requirepass),
      settings: this.#settings,
      version: this.#version,
      counts: this.#counts,
      now: () => Date.now(),
      sentinelGoneAtMs: () => this.#sentinelGoneAtMs,
      alarm: (client) => this.#alarm(client),
    };
  }

  stop(): void {
    this.#listener.stop(true);
  }

  #onOpen(socket: PortSocket): void {
    this.#counts.connections++;
    if (this.#clients.size >= limits.clients) return this.#turnAway(socket);
    // A client that left before it was accepted has no address.
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

  /** Logs at most once a minute: a page may try as often as it likes. */
  #alarm(client: Client): void {
    const nowMs = Date.now();
    if (nowMs - this.#alarmedAtMs < ALARM_EVERY_MS) return;
    this.#alarmedAtMs = nowMs;
    logger.warn(
      "disconnected a client of the port that spoke HTTP: a web page may have sent it here",
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
        `${this.#clients.size} clients are connected: further ones are refused until some leave`,
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
    if (isSentinel(client)) this.#sentinelGoneAtMs = Date.now();
    client.onGone();
    // Below the limit, so that a client that reconnects at the limit does not flood the log.
    if (this.#clients.size < limits.clients * 0.9) this.#isFull = false;
  }

  /** Closes a connection at once. */
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

  /**
   * Refuses a client that has sent more than a login needs without being logged in. A pipeline may begin with its
   * login, so this is asked after the login was answered. Returns whether the client was refused.
   */
  #refuseBeforeLogin(client: Client): boolean {
    if (!client.login.isExceeded(client.inbox.bytes)) return false;
    client.leaving = true;
    client.send(error("NOAUTH too much input without a login"));
    return true;
  }

  /**
   * Answers the commands that were received, unless the client does not read its replies. A client that has used
   * up its turn waits until the others have had theirs.
   * @param late returns the reply that the client was blocked for, which is sent first.
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
          if (!this.#refuseBeforeLogin(client)) this.#awaitTurn(socket, client);
          break;
        }
        const command = client.reader.next();
        if (command === undefined) {
          if (this.#refuseBeforeLogin(client) || !readOn(client)) break;
          continue;
        }
        took++;
        const reply = answer(context, client, command);
        if (reply !== undefined) client.send(reply);
        if (client.login.answered()) this.#refuseBeforeLogin(client);
      }
    } catch (failure) {
      if (!(failure instanceof ReplicaError)) throw failure;
      // An error reply would land in its stream.
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
    // Nothing is buffered for a client without a login.
    if (client.stalled && !isFed(client) && !client.login.isLoggedIn) return this.#cut(socket);
    this.#giveTime(socket, client, took > 0);
  }

  #awaitTurn(socket: PortSocket, client: Client): void {
    client.awaitsTurn = true;
    setImmediate(() => {
      client.awaitsTurn = false;
      if (!client.leaving) this.#takeCommands(socket, client);
    });
  }

  /** Sets the timeout for what the client is to do next. Bytes do not extend the time for a login or a command. */
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
    // Replies of a pipeline are sent together: a write for each would cost more than all else.
    if (this.#answered !== client || client.unsentBytes > GATHERED_BYTES) {
      this.#flush(socket, client);
    }
    // A client that reads too slowly is disconnected, rather than buffered without limit.
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
      if (sent < 0) return; // closed; the close event follows
      this.#counts.outputBytes += sent;
      client.stalled = sent < bytes.length;
      client.unsent = client.stalled ? [bytes.subarray(sent)] : [];
      client.unsentBytes -= sent;
    }
    if (client.leaving && !client.stalled) socket.end();
  }
}

/** Passes more received bytes to the reader. Returns whether there were any. */
function readOn(client: Client): boolean {
  const piece = client.inbox.take(limits.turnBytes);
  if (piece === undefined) return false;
  client.login.read(piece.length);
  client.reader.push(piece);
  return true;
}

/** Resumes the socket, or pauses it, which leaves further bytes to the kernel. */
function listen(socket: PortSocket, client: Client): void {
  const hasRead = client.inbox.bytes === 0 && (!client.stalled || isFed(client));
  // A blocked client is read, so that its disconnect is noticed.
  const listens = client.blocked || (hasRead && !client.awaitsTurn);
  if (listens === client.listens) return;
  client.listens = listens;
  if (listens) socket.resume();
  else socket.pause();
}

/** Whether it is an attached replica. Its ACKs are read however slowly it reads the stream. */
function isFed(client: Client): boolean {
  return client.downstream !== undefined;
}

function waitOf(client: Client): Wait {
  if (isFed(client) || client.blocked) return "nothing";
  if (!client.login.isLoggedIn) return "login";
  // A client that must first read its replies has complete commands here.
  const hasBegun = client.reader.hasBegun && !client.awaitsTurn && client.inbox.bytes === 0;
  if (hasBegun && !client.stalled) return "rest";
  // A subscriber may send nothing for days.
  return client.subscriptions > 0 ? "nothing" : "next";
}

/** Redis's format: an IPv6 address in brackets. */
function addressOf(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
