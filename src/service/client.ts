import { CommandReader } from "../resp/command-reader.ts";
import type { Proto } from "../resp/reply.ts";
import { limits } from "../config.ts";

/** A transaction that is being queued; `refused` once a command of it was wrong, as EXEC then says. */
export interface Transaction {
  readonly commands: Uint8Array[][];
  bytes: number;
  refused: boolean;
}

/** What a client is given time for: its login, the rest of a command, the next one; or for nothing. */
export type Wait = "login" | "rest" | "next" | "nothing";

/** One client of the replica's own port, and what it has set for itself. */
export class Client {
  readonly id: number;
  /** `host:port`, as CLIENT LIST shows it. */
  readonly address: string;
  readonly localAddress: string;
  readonly beganAtMs: number;
  readonly reader: CommandReader;
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
  /** What the time that runs now was given for; the port's. */
  waitsFor: Wait | undefined;
  /** No more commands are taken; the link ends once what is unsent has gone out. */
  leaving = false;
  readonly #needsLogin: boolean;
  #loggedIn: boolean;
  readonly #send: (reply: Uint8Array) => void;
  readonly #end: () => void;

  constructor(
    about: {
      id: number;
      address: string;
      localAddress: string;
      nowMs: number;
      needsLogin: boolean;
    },
    socket: { send: (reply: Uint8Array) => void; end: () => void },
  ) {
    this.id = about.id;
    this.address = about.address;
    this.localAddress = about.localAddress;
    this.beganAtMs = about.nowMs;
    this.lastAtMs = about.nowMs;
    this.#needsLogin = about.needsLogin;
    this.#loggedIn = !about.needsLogin;
    this.reader = new CommandReader(this.#loggedIn ? limits.command : limits.loginCommand);
    this.#send = socket.send;
    this.#end = socket.end;
  }

  get loggedIn(): boolean {
    return this.#loggedIn;
  }

  set loggedIn(isSo: boolean) {
    this.#loggedIn = isSo;
    this.reader.limits = isSo ? limits.command : limits.loginCommand;
  }

  send(reply: Uint8Array): void {
    this.#send(reply);
  }

  /** Ends its link at once. */
  kill(): void {
    this.#end();
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
    this.loggedIn = !this.#needsLogin;
  }

  /** Its line in CLIENT LIST ("Redis 7.2, networking.c, catClientInfoString"). */
  describe(nowMs: number): string {
    const seconds = (sinceMs: number) => Math.max(0, Math.floor((nowMs - sinceMs) / 1000));
    const flags = this.subscriptions > 0 ? "P" : this.transaction === undefined ? "N" : "x";
    const fields: [string, string | number][] = [
      ["id", this.id],
      ["addr", this.address],
      ["laddr", this.localAddress],
      ["name", this.name],
      ["age", seconds(this.beganAtMs)],
      ["idle", seconds(this.lastAtMs)],
      ["flags", flags],
      ["db", this.database],
      ["sub", this.channels.size],
      ["psub", this.patterns.size],
      ["multi", this.transaction?.commands.length ?? -1],
      ["qbuf", this.reader.heldBytes],
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
