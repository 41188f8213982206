import { CommandReader } from "../resp/command-reader.ts";
import type { Proto } from "../resp/reply.ts";
import { Inbox } from "./inbox.ts";
import { LoginAllowance } from "./logins.ts";
import type { Downstream, ReplconfAnnouncement } from "../downstream/downstream.ts";

/** A transaction between MULTI and EXEC. */
export interface Transaction {
  readonly commands: (readonly Uint8Array[])[];
  bytes: number;
  /** A command was refused, so EXEC will abort. */
  refused: boolean;
}

/** What a client has limited time for: its login, the rest of a command, the next command; or nothing. */
export type Wait = "login" | "rest" | "next" | "nothing";

/** The connection to a client. The port owns the socket. */
export interface ClientSocket {
  send(reply: Uint8Array): void;
  offer(bytes: Uint8Array): number;
  /** Sends a reply that a blocked client waited for, then reads the commands that it sent meanwhile. */
  proceed(reply: () => Uint8Array | undefined): void;
  end(): void;
}

function nothingAnnounced(): ReplconfAnnouncement {
  return { listeningPort: 0, ip: "", psync2: false, runId: "", rdbOnly: false };
}

/** One client of the replica's own port, and its state. */
export class Client {
  readonly id: number;
  /** `host:port`, as CLIENT LIST shows it. */
  readonly address: string;
  readonly localAddress: string;
  readonly beganAtMs: number;
  readonly reader: CommandReader;
  /** Bytes received and not read yet. */
  readonly inbox = new Inbox();
  /** Its login, and what it may send before that. */
  readonly login: LoginAllowance;
  readonly channels = new Set<string>();
  readonly patterns = new Set<string>();
  proto: Proto = 2;
  name = "";
  libName = "";
  libVersion = "";
  database = 0;
  transaction: Transaction | undefined;
  lastCommand = "";
  lastAtMs: number;
  unsent: Uint8Array[] = [];
  unsentBytes = 0;
  /** Whether the kernel takes no more bytes, because the client does not read. */
  stalled = false;
  /** Whether the socket is read, rather than paused. */
  listens = true;
  /** Whether it has used up its turn, and waits for the next. */
  awaitsTurn = false;
  /** What its timeout runs for. */
  waitsFor: Wait | undefined;
  /** Takes no more commands, and is closed once all replies are sent. */
  leaving = false;
  /** Waits for a reply. Further commands are read after that. */
  blocked = false;
  announced: ReplconfAnnouncement = nothingAnnounced();
  /** Set once it is attached as a replica. */
  downstream: Downstream | undefined;
  /** Called when its connection is closed. */
  onGone: () => void = () => undefined;
  readonly #socket: ClientSocket;

  constructor(
    about: {
      id: number;
      address: string;
      localAddress: string;
      nowMs: number;
      needsLogin: boolean;
    },
    socket: ClientSocket,
  ) {
    this.id = about.id;
    this.address = about.address;
    this.localAddress = about.localAddress;
    this.beganAtMs = about.nowMs;
    this.lastAtMs = about.nowMs;
    this.login = new LoginAllowance(about.needsLogin);
    this.reader = new CommandReader(this.login.commandLimits);
    this.#socket = socket;
  }

  /** AUTH succeeded. */
  logIn(): void {
    this.login.logIn();
    this.reader.limits = this.login.commandLimits;
  }

  send(reply: Uint8Array): void {
    this.#socket.send(reply);
  }

  /** Hands bytes to the kernel after all unsent replies. Buffers nothing; returns how many the kernel took. */
  offer(bytes: Uint8Array): number {
    return this.#socket.offer(bytes);
  }

  /** Sends the reply that it was blocked for, and reads what it sent meanwhile. */
  unblock(reply: () => Uint8Array | undefined): void {
    this.blocked = false;
    this.#socket.proceed(reply);
  }

  /** Closes its connection at once. */
  kill(): void {
    this.#socket.end();
  }

  /** Bytes that it has sent and that were not answered yet. */
  get heldBytes(): number {
    return this.reader.heldBytes + this.inbox.bytes;
  }

  /** How many subscriptions it has. In RESP2 a client with any may send few other commands. */
  get subscriptions(): number {
    return this.channels.size + this.patterns.size;
  }

  /** RESET: back to its first state, except for its id. The caller ends its subscriptions. */
  reset(): void {
    this.proto = 2;
    this.name = "";
    this.database = 0;
    this.transaction = undefined;
    this.announced = nothingAnnounced();
    this.login.reset();
    this.reader.limits = this.login.commandLimits;
  }

  /** Its type for CLIENT LIST and CLIENT KILL. */
  get type(): "normal" | "pubsub" | "replica" {
    if (this.downstream !== undefined) return "replica";
    return this.subscriptions > 0 ? "pubsub" : "normal";
  }

  get #flags(): string {
    if (this.downstream !== undefined) return "S";
    if (this.blocked) return "b";
    if (this.subscriptions > 0) return "P";
    return this.transaction === undefined ? "N" : "x";
  }

  /** Its line in CLIENT LIST ("Redis 7.2, networking.c, catClientInfoString"). */
  describe(nowMs: number): string {
    const seconds = (sinceMs: number) => Math.max(0, Math.floor((nowMs - sinceMs) / 1000));
    const fields: [string, string | number][] = [
      ["id", this.id],
      ["addr", this.address],
      ["laddr", this.localAddress],
      ["name", this.name],
      ["age", seconds(this.beganAtMs)],
      ["idle", seconds(this.lastAtMs)],
      ["flags", this.#flags],
      ["db", this.database],
      ["sub", this.channels.size],
      ["psub", this.patterns.size],
      ["multi", this.transaction?.commands.length ?? -1],
      ["qbuf", this.heldBytes],
      ["omem", this.unsentBytes],
      ["cmd", this.lastCommand],
      ["user", "default"],
      ["resp", this.proto],
      ["lib-name", this.libName],
      ["lib-ver", this.libVersion],
    ];
    return `${fields.map(([key, value]) => `${key}=${value}`).join(" ")}\n`;
  }
}
