import { CommandReader } from "../resp/command-reader.ts";
import type { Proto } from "../resp/reply.ts";
import { limits } from "../config/limits.ts";
import { Inbox } from "./inbox.ts";
import type { Announced, Downstream } from "../downstream/downstream.ts";

/** A transaction that is being queued; `refused` once a command of it was wrong, as EXEC then says. */
export interface Transaction {
  readonly commands: Uint8Array[][];
  bytes: number;
  refused: boolean;
}

/** What a client is given time for: its login, the rest of a command, the next one; or for nothing. */
export type Wait = "login" | "rest" | "next" | "nothing";

/** The link to a client; the port's. */
export interface ClientSocket {
  send(reply: Uint8Array): void;
  offer(bytes: Uint8Array): number;
  /** Sends what was waited for, and takes what came meanwhile. */
  proceed(reply: () => Uint8Array | undefined): void;
  end(): void;
}

function nothingAnnounced(): Announced {
  return { listeningPort: 0, ip: "", psync2: false, rdbOnly: false };
}

/** One client of the replica's own port, and what it has set for itself. */
export class Client {
  readonly id: number;
  /** `host:port`, as CLIENT LIST shows it. */
  readonly address: string;
  readonly localAddress: string;
  readonly beganAtMs: number;
  readonly reader: CommandReader;
  /** What has come and waits for its turn to be read. */
  readonly inbox = new Inbox();
  /** What was read of it, and answered, while it was not logged in. */
  strangerBytes = 0;
  strangerCommands = 0;
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
  /** Whether the kernel takes no more for now: it doesn't read. */
  stalled = false;
  /** Whether the socket is read. */
  listens = true;
  /** Whether it has had its time for now, and its next turn is due. */
  awaitsTurn = false;
  /** What the time that runs now was given for; the port's. */
  waitsFor: Wait | undefined;
  /** No more commands are taken; the link ends once what is unsent has gone out. */
  leaving = false;
  /** It waits for its reply: what else it says is looked at after that. */
  blocked = false;
  announced: Announced = nothingAnnounced();
  /** What feeds it, once it is a replica. */
  downstream: Downstream | undefined;
  /** Called once its link is over. */
  onGone: () => void = () => undefined;
  readonly #needsLogin: boolean;
  #loggedIn: boolean;
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
    this.#needsLogin = about.needsLogin;
    this.#loggedIn = !about.needsLogin;
    this.reader = new CommandReader(this.#loggedIn ? limits.command : limits.loginCommand);
    this.#socket = socket;
  }

  get loggedIn(): boolean {
    return this.#loggedIn;
  }

  set loggedIn(isSo: boolean) {
    this.#loggedIn = isSo;
    this.strangerBytes = this.strangerCommands = 0;
    this.reader.limits = isSo ? limits.command : limits.loginCommand;
  }

  send(reply: Uint8Array): void {
    this.#socket.send(reply);
  }

  /** Hands bytes to the kernel behind what is unsent, and holds none; how many it took. */
  offer(bytes: Uint8Array): number {
    return this.#socket.offer(bytes);
  }

  /** Its reply is there: that goes out, and what it has said meanwhile is taken. */
  unblock(reply: () => Uint8Array | undefined): void {
    this.blocked = false;
    this.#socket.proceed(reply);
  }

  /** Ends its link at once. */
  kill(): void {
    this.#socket.end();
  }

  /** Bytes that it has sent and that are not looked at yet. */
  get heldBytes(): number {
    return this.reader.heldBytes + this.inbox.bytes;
  }

  /** Whether it has subscribed; in RESP2 it may then ask for little else. */
  get subscriptions(): number {
    return this.channels.size + this.patterns.size;
  }

  /** As it was when it came, but for its id (RESET). The caller ends its subscriptions. */
  reset(): void {
    this.proto = 2;
    this.name = "";
    this.database = 0;
    this.transaction = undefined;
    this.announced = nothingAnnounced();
    this.loggedIn = !this.#needsLogin;
  }

  /** What it is, as CLIENT LIST and CLIENT KILL take it. */
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
