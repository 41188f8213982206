import { CommandReader } from "../../resp/command-reader.ts";
import type { Proto } from "../../resp/reply.ts";
import { limits } from "../../config/limits.ts";
import { PIECE_BYTES } from "../../store/disk/disk.ts";
import { Inbox } from "./inbox.ts";
import { LoginAllowance } from "./logins.ts";
import type { Downstream, ReplconfAnnouncement } from "../../downstream/downstream.ts";

/** What a word of a command takes in memory beside its bytes: measured, an array of its own takes some 200. */
export const WORD_BYTES = 200;

/** A transaction between MULTI and EXEC. */
export interface Transaction {
  readonly commands: (readonly Uint8Array[])[];
  bytes: number;
  /** A command was refused, so EXEC will abort. */
  refused: boolean;
}

/**
 * The reply to a command; a promise, which never rejects, where it has to wait; undefined where everything was sent
 * already, or nothing is to be sent.
 */
export type Answer = Uint8Array | Promise<Uint8Array> | undefined;

/** A command that takes longer than a turn may. */
export interface Work {
  /** Each step does a part of it; the last one returns its reply. */
  readonly steps: Iterator<void, Answer>;
  /** What it holds in memory. */
  bytes: number;
}

/** What a client has limited time for: its login, the rest of a command, the next command; or nothing. */
export type Wait = "login" | "rest" | "next" | "nothing";

/** How long it may take for that; 0: as long as it likes. */
export const WAIT_SECONDS: Record<Wait, number> = {
  login: limits.loginSeconds,
  rest: limits.commandSeconds,
  next: limits.clientIdleSeconds,
  nothing: 0,
};

/** The connection to a client. The port owns the socket. */
export interface ClientSocket {
  send(reply: Uint8Array): void;
  offer(bytes: Uint8Array): number;
  /** Gives it a turn, in which `client.late` is sent and the commands that it sent meanwhile are read. */
  proceed(): void;
  end(): void;
}

function nothingAnnounced(): ReplconfAnnouncement {
  const whole = { rdbOnly: false, newerThan: undefined };
  return { listeningPort: 0, ip: "", psync2: false, runId: "", ...whole };
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
  /** What its subscriptions take in memory. */
  subscribedBytes = 0;
  proto: Proto = 2;
  name = "";
  libName = "";
  libVersion = "";
  database = 0;
  transaction: Transaction | undefined;
  /** The command that is being answered, where it takes more than one turn. */
  work: Work | undefined;
  /** What is held in memory of a reply that it waits for. */
  waitingBytes = 0;
  /** Makes the reply that it was blocked for, and that is to be sent now. */
  late: (() => Uint8Array | undefined) | undefined;
  lastCommand = "";
  lastAtMs: number;
  unsent: Uint8Array[] = [];
  unsentBytes = 0;
  /** Whether the kernel takes no more bytes, because the client does not read. */
  stalled = false;
  /** Whether the socket is read, rather than paused. */
  listens = true;
  /** Whether it has used up its turn with commands left, and waits for the next. */
  awaitsTurn = false;
  /** Whether a command came since its timeout was set. */
  hasAsked = false;
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
    this.late = reply;
    this.#socket.proceed();
  }

  /** Closes its connection at once. */
  kill(): void {
    this.#socket.end();
  }

  /** Bytes that it has sent and that were not answered yet. */
  get heldBytes(): number {
    return this.reader.heldBytes + this.inbox.bytes;
  }

  /** What it makes this process hold. */
  get memoryBytes(): number {
    const unsent = this.unsentBytes + this.unsent.length * PIECE_BYTES;
    const begunWords = this.reader.heldArgs * WORD_BYTES;
    const received = this.reader.heldBytes + begunWords + this.inbox.memoryBytes;
    const begun = (this.transaction?.bytes ?? 0) + (this.work?.bytes ?? 0);
    return unsent + received + begun + this.waitingBytes + this.subscribedBytes;
  }

  /** Whether it is to be closed, and nothing is left to be answered. */
  get isAnswered(): boolean {
    return this.leaving && this.work === undefined;
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

/** What a client is to do next. */
export function waitOf(client: Client): Wait {
  if (client.downstream !== undefined || client.blocked) return "nothing";
  if (!client.login.isLoggedIn) return "login";
  // A client that must first read its replies has complete commands here.
  const hasBegun = client.reader.hasBegun && !client.awaitsTurn && client.inbox.bytes === 0;
  if (hasBegun && !client.stalled) return "rest";
  // A subscriber may send nothing for days.
  return client.subscriptions > 0 ? "nothing" : "next";
}
