import { describeAddress } from "../base/address.ts";
import { type Settings } from "../config/settings.ts";
import { ReplicaError } from "../base/errors.ts";
import { giveBack } from "../store/disk/disk.ts";
import { logger } from "../base/logger.ts";
import { error } from "../resp/reply.ts";
import { MAY_ONLY_LOOK, type PortContext } from "./call.ts";
import { Alarms } from "./clients/alarms.ts";
import { Client, WAIT_SECONDS, waitOf } from "./clients/client.ts";
import type { Serving } from "./command-table.ts";
import { answer, settled } from "./dispatch.ts";
import { descriptorLimit } from "../base/libc.ts";
import { Listener, type PortSocket } from "./listener.ts";
import { LoginThrottle, OwnPassword } from "./clients/logins.ts";
import { PubSub } from "./clients/pubsub.ts";
import { HeldBytes, Rounds, type Turn } from "./clients/rounds.ts";
import { isSentinel } from "./refuse-unknown.ts";
import { noCounts } from "../monitor/port-counts.ts";
import { limits } from "../config/limits.ts";

/** How many bytes of a pipeline's replies are collected for one write. */
const GATHERED_BYTES = 16 * 1024;

/** The replica's own port. Answers Redis's tools in RESP2, and in RESP3 after `HELLO 3`; feeds other replicas. */
export class Port {
  readonly #listener: Listener;
  readonly #settings: Settings;
  readonly #version: string;
  readonly #pubsub = new PubSub();
  readonly #clients = new Set<Client>();
  readonly #rounds = new Rounds<PortSocket>((socket, endMs) => this.#serve(socket, endMs));
  readonly #counts = noCounts();
  readonly #held = new HeldBytes(this.#counts);
  /** How many clients are served at once. */
  readonly #places = Math.min(
    limits.clients,
    Math.max(1, descriptorLimit() - limits.ownDescriptors),
  );
  /** Whether clients are being turned away; logged once. */
  #isFull = false;
  /** The client whose commands are being answered now. */
  #answered: Client | undefined;
  readonly #alarms = new Alarms();
  #sentinelGoneAtMs = -Infinity;
  #context: PortContext | undefined;
  #nextId = 1;

  /**
   * Starts to listen. Port 0 picks a free one.
   * @throws ReplicaError PORT_IN_USE, LISTEN_FAILED; USAGE for a certificate that can't be used.
   */
  constructor(settings: Settings, version: string) {
    this.#settings = settings;
    this.#version = version;
    const events = {
      open: (socket: PortSocket) => this.#onOpen(socket),
      data: (socket: PortSocket, bytes: Uint8Array) => this.#onData(socket, bytes),
      drain: (socket: PortSocket) => this.#onDrain(socket),
      close: (socket: PortSocket) => this.#forget(socket),
      timeout: (socket: PortSocket) => this.#cut(socket),
      error: (socket: PortSocket, failure: Error) => this.#failed(socket, failure),
    };
    this.#listener = new Listener(settings, events, this.#alarms);
  }

  get port(): number {
    return this.#listener.port;
  }

  /** Begins to answer commands; until then, clients get LOADING. */
  serve({ parts, commands, hasPassword }: Serving): void {
    const { port } = this;
    const { requirepass, unprotected } = this.#settings;
    const isOpen = requirepass === undefined && !unprotected;
    const mayChange = !isOpen || !hasPassword;
    if (!mayChange) logger.info(`clients may look and change nothing: ${MAY_ONLY_LOOK}`);
    this.#context = {
      ...parts,
      port,
      commands,
      pubsub: this.#pubsub,
      clients: this.#clients,
      maxClients: this.#places,
      logins: new LoginThrottle(),
      mayChange,
      ownPassword: requirepass && new OwnPassword(requirepass),
      settings: this.#settings,
      version: this.#version,
      counts: this.#counts,
      now: () => Date.now(),
      sentinelGoneAtMs: () => this.#sentinelGoneAtMs,
      alarm: (client, warning) => this.#alarms.warn(warning, client.address),
    };
  }

  stop(): void {
    this.#listener.stop();
    for (const client of this.#clients) client.kill();
  }

  #onOpen(socket: PortSocket): void {
    this.#counts.connections++;
    // A client that left before it was accepted has no address.
    if (socket.remoteAddress === undefined) return void socket.terminate();
    if (this.#clients.size >= this.#places && !this.#makeRoom()) return this.#turnAway(socket);
    const client = new Client(
      {
        id: this.#nextId++,
        address: describeAddress({ host: socket.remoteAddress, port: socket.remotePort }),
        localAddress: describeAddress({ host: socket.localAddress, port: socket.localPort }),
        nowMs: Date.now(),
        needsLogin: this.#settings.requirepass !== undefined,
      },
      {
        send: (reply) => this.#send(socket, client, reply),
        offer: (bytes) => this.#offer(socket, client, bytes),
        proceed: () => this.#rounds.add(socket),
        end: () => this.#cut(socket),
      },
    );
    socket.data = client;
    this.#clients.add(client);
    socket.setKeepAlive(true, limits.clientKeepAliveMs);
    this.#giveTime(socket, client);
  }

  /**
   * Disconnects whoever has been silent the longest before a login, so that nobody can take all places without one.
   * Those whose login waits for its answer stay. Returns whether there was one.
   */
  #makeRoom(): boolean {
    const silent = this.#clients.values().find((one) => !one.login.isLoggedIn && !one.blocked);
    if (silent === undefined) return false;
    this.#counts.rejected++;
    silent.kill();
    return true;
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

  #forget(socket: PortSocket): void {
    const client = socket.data;
    // Turned away, or cut off before it closed.
    if (client === undefined || !this.#clients.delete(client)) return;
    client.leaving = true;
    client.work = undefined;
    client.unsent = [];
    client.unsentBytes = 0;
    client.inbox.clear();
    this.#pubsub.forget(client);
    this.#rounds.remove(socket);
    this.#held.forget(client);
    if (isSentinel(client)) this.#sentinelGoneAtMs = Date.now();
    client.onGone();
    // Below the limit, so that a client that reconnects at the limit does not flood the log.
    if (this.#clients.size < this.#places * 0.9) this.#isFull = false;
  }

  /** Closes a connection at once. */
  #cut(socket: PortSocket): void {
    this.#forget(socket);
    socket.terminate();
  }

  #failed(socket: PortSocket, failure: unknown): void {
    logger.error("disconnected a client of the port: its command failed", { error: failure });
    this.#cut(socket);
  }

  #onData(socket: PortSocket, bytes: Uint8Array): void {
    const client = socket.data;
    this.#counts.inputBytes += bytes.length;
    if (client === undefined || client.leaving) return giveBack(bytes);
    client.downstream?.heard();
    const waits = client.inbox.bytes > 0;
    client.inbox.push(bytes);
    this.#held.count(client);
    const mayHold = client.login.isLoggedIn ? limits.clientHeldBytes : limits.loginInputBytes;
    if (client.blocked && client.memoryBytes > mayHold) return this.#cut(socket);
    if (client.leaving) return;
    this.#rounds.add(socket);
    if (waits) listen(socket, client);
  }

  #onDrain(socket: PortSocket): void {
    const client = socket.data;
    if (client === undefined) return;
    client.stalled = false;
    this.#rounds.add(socket);
    if (client.downstream === undefined) return;
    this.#flush(socket, client);
    if (!client.stalled && !client.leaving) client.downstream.drained();
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

  /** A client's turn. */
  #serve(socket: PortSocket, roundEndMs: number): Turn {
    const client = socket.data;
    const context = this.#context;
    // A newline for who waits may have come just before its reply, and PSYNC is refused with output left.
    if (client.late !== undefined) this.#flush(socket, client);
    this.#answered = client;
    try {
      if (context !== undefined) this.#takeCommands(context, client, roundEndMs);
      else refuseAll(client);
    } catch (failure) {
      if (!(failure instanceof ReplicaError)) {
        this.#failed(socket, failure);
        return "idle";
      }
      // An error reply would land in its stream.
      client.downstream?.end(failure.message);
      client.leaving = true;
      client.work = undefined;
      client.send(error(`ERR ${failure.message}`));
    } finally {
      this.#answered = undefined;
    }
    this.#flush(socket, client);
    if (client.leaving) client.inbox.clear();
    listen(socket, client);
    if (this.#clients.has(client)) this.#held.count(client);
    const turn = client.hasAsked ? "answered" : "idle";
    if (client.isAnswered) return turn;
    // Nothing is buffered for a client without a login.
    if (client.stalled && !isFed(client) && !client.login.isLoggedIn) {
      this.#cut(socket);
      return turn;
    }
    this.#giveTime(socket, client);
    return client.awaitsTurn ? "unfinished" : turn;
  }

  /**
   * Answers the commands that were received, unless the client does not read its replies. A client that has used
   * up its turn waits until the others have had theirs.
   */
  #takeCommands(context: PortContext, client: Client, roundEndMs: number): void {
    const endMs = performance.now() + limits.turnMs;
    client.awaitsTurn = false;
    const { late } = client;
    client.late = undefined;
    const reply = late?.();
    if (reply !== undefined) client.send(reply);
    for (let took = 0; !client.isAnswered && !client.blocked; took++) {
      if (client.stalled && !isFed(client)) return;
      const nowMs = performance.now();
      if (took > 0 && (nowMs > roundEndMs || (took >= limits.turnCommands && nowMs > endMs))) {
        client.awaitsTurn = !this.#refuseBeforeLogin(client);
        return;
      }
      if (!this.#answerNext(context, client)) return;
    }
  }

  /** Answers the next command or a part of it, or reads on. Returns whether there was anything to do. */
  #answerNext(context: PortContext, client: Client): boolean {
    const { work } = client;
    if (work !== undefined) {
      const { done, value } = work.steps.next();
      if (done !== true) return true;
      const reply = settled(client, value);
      client.work = undefined;
      if (reply !== undefined) client.send(reply);
      return true;
    }
    const command = client.reader.next();
    if (command === undefined) return !this.#refuseBeforeLogin(client) && readOn(client);
    client.hasAsked = true;
    const reply = answer(context, client, command);
    if (reply !== undefined) client.send(reply);
    if (client.login.answered()) this.#refuseBeforeLogin(client);
    return true;
  }

  /** Sets the timeout for what the client is to do next. Bytes do not extend the time for a login or a command. */
  #giveTime(socket: PortSocket, client: Client): void {
    const wait = waitOf(client);
    const isAnew = wait !== client.waitsFor || (client.hasAsked && wait !== "login");
    client.waitsFor = wait;
    client.hasAsked = false;
    if (isAnew) socket.timeout(WAIT_SECONDS[wait]);
  }

  #send(socket: PortSocket, client: Client, reply: Uint8Array): void {
    if (!this.#clients.has(client)) return;
    client.unsent.push(reply);
    client.unsentBytes += reply.length;
    // Replies of a pipeline are sent together: a write for each would cost more than all else.
    if (this.#answered !== client) {
      this.#rounds.add(socket);
      this.#held.count(client);
    } else if (client.unsentBytes > GATHERED_BYTES) {
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
      // A copy: a few bytes that are left must not keep all of them.
      client.unsent = client.stalled ? [new Uint8Array(bytes.subarray(sent))] : [];
      client.unsentBytes -= sent;
    }
    if (client.isAnswered && !client.stalled) socket.end();
  }
}

/** Answers what a client asks before there is anything to answer it with. */
function refuseAll(client: Client): void {
  do {
    while (client.reader.next() !== undefined) {
      client.send(error("LOADING the replica is starting"));
    }
  } while (readOn(client));
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
