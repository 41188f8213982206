import { type ErrorCode, invariant, ReplicaError, unreachable } from "../base/errors.ts";
import { type Offset, type Position, type ReplicationId } from "../base/history.ts";
import { printableBytes } from "../base/printable.ts";
import {
  authCommand,
  capabilitiesCommand,
  type Credentials,
  infoCommand,
  ipAddressCommand,
  listeningPortCommand,
  pingCommand,
  psyncCommand,
  rdbOnlyCommand,
  syncCommand,
  versionCommand,
} from "./commands.ts";
import { isNotNow, isWorthAsking, notNow, readDoor, sentinelDoor, UNKNOWN_DOOR } from "./doors.ts";
import { InfoReply, readReplid } from "./info-reply.ts";
import { readAuth, readPong, readPsync } from "./replies.ts";
import { Rights } from "./rights.ts";
import {
  isNoPermission,
  isRefusedCommand,
  isUnknownCommand,
  noSyncOffered,
  withoutArguments,
  STOCK_COMMANDS,
  type SyncCommands,
} from "./services.ts";
import type { FullSyncGrant, HandshakeState, State, TwoLinks } from "./state.ts";

export interface HandshakeOptions {
  /** `snapshot-only` asks for no stream (REPLCONF rdb-only, Redis 7.0): a backup, or a renewal. */
  readonly purpose: "follow" | "snapshot-only";
  /** Undefined: no port is announced, and no address either. */
  readonly listeningPort: number | undefined;
  readonly announceIp: string | undefined;
  /** See `versionCommand`. */
  readonly announcedVersion?: string | undefined;
  /** Names this process to another `replica`, which refuses to feed itself; undefined for a backup. */
  readonly runId?: string | undefined;
}

/** What is known before an attempt. */
export interface AttemptTerms {
  /** The last byte that is kept, to resume after it. */
  readonly resume: Position | undefined;
  /** Undefined: none is sent. */
  readonly login: Credentials | undefined;
  /** Why a login is withheld from this primary, and what to do; for the error where it wants one. */
  readonly withheld?: string | undefined;
  /** Whether to ask for INFO before PSYNC, which may cost the primary a fork. */
  readonly weighs?: boolean;
  /** How many links a full sync may take; 1 by default. */
  readonly links?: 1 | 2;
  /** A primary that is a `replica` itself is to give a snapshot newer than this, which it may have to take first. */
  readonly newerThan?: Offset | undefined;
  /** Who is asked; undefined: a stock server, of which nothing is asked but a sync. */
  readonly peer?: PeerTerms | undefined;
}

/** Who is asked for a sync, and how. */
export interface PeerTerms {
  /** `host:port`, for an error that names it; undefined for a unix socket. */
  readonly address: string | undefined;
  readonly isTls: boolean;
  readonly commands: SyncCommands;
  /** Whether INFO may be asked to find out why it refuses. */
  readonly asksInfo: boolean;
}

const STOCK_PEER: PeerTerms = {
  address: undefined,
  isTls: false,
  commands: STOCK_COMMANDS,
  asksInfo: false,
};

/** What follows from a reply. */
export type HandshakeStep =
  /** Send a command, and await its reply in `state`. */
  | { readonly next: "ask"; readonly command: Uint8Array; readonly state: HandshakeState }
  /** The line was a keepalive: it counts for the timeout and for nothing else. */
  | { readonly next: "wait" }
  /** What the primary says of itself is there, and is looked at before PSYNC. */
  | {
      readonly next: "weigh";
      readonly info: string | undefined;
      readonly ask: HandshakeStep & { next: "ask" };
    }
  /** A full resync is granted; `command` goes out first where SYNC has to ask for it. */
  | {
      readonly next: "full";
      readonly grant: FullSyncGrant;
      readonly command: Uint8Array | undefined;
      /** The line that begins the payload, where it has come already. */
      readonly header?: Uint8Array;
    }
  /** A full resync is granted whose snapshot comes on a second link. */
  | { readonly next: "two-links"; readonly two: TwoLinks }
  /** The primary continues after `asked`, under `replid` where that is new. */
  | {
      readonly next: "continue";
      readonly asked: Position;
      readonly replid: ReplicationId | undefined;
    };

/** A remark for the log. */
export interface Note {
  readonly level: "info" | "warn";
  readonly message: string;
}

/** How a question ends that brings no answer. */
const LINK_ERRORS: ReadonlySet<ErrorCode> = new Set(["LINK_LOST", "TIMED_OUT", "PROTOCOL"]);

const PLUS = 0x2b;
const MINUS = 0x2d;

/**
 * The handshake of one attempt, command by command (Redis 7.2, replication.c, syncWithMaster): PING,
 * AUTH, REPLCONF listening-port, ip-address, capa and version, PSYNC, and SYNC where PSYNC is unknown. Where the room on
 * the disk matters, INFO comes before PSYNC.
 * One command at a time: a primary with output pending refuses PSYNC, and Redis 2.8 requires it for every command.
 */
export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #attempt: AttemptTerms;
  readonly #note: (note: Note) => void;
  readonly #peer: PeerTerms;
  readonly #rights: Rights;
  #info = new InfoReply();
  /** What the primary said of itself; undefined where it wasn't asked, or doesn't say. */
  #said: string | undefined;
  #wasAsked = false;
  /** The refusal that INFO is asked about. */
  #refusal: Uint8Array | undefined;
  /** The first answer that refused REPLCONF as such; undefined: none did. */
  #noReplconf: Uint8Array | undefined;

  /** @param note takes remarks for the log. */
  constructor(options: HandshakeOptions, attempt: AttemptTerms, note: (note: Note) => void) {
    this.#options = options;
    this.#attempt = attempt;
    this.#note = note;
    this.#peer = attempt.peer ?? STOCK_PEER;
    this.#rights = new Rights(attempt.login?.username);
  }

  /**
   * Whether the primary takes REPLCONF ACK. Where it doesn't, each would bring an error, and a server drops a replica
   * that causes a reply ("Redis 7.0, networking.c, prepareClientToWrite").
   */
  get mayAcknowledge(): boolean {
    return this.#noReplconf === undefined;
  }

  /** PING goes alone: a primary that accepts but does not answer is found out before any long step. */
  begin(): HandshakeStep & { next: "ask" } {
    return { next: "ask", command: pingCommand(), state: { at: "receive-pong" } };
  }

  /**
   * Takes one reply line.
   * @throws ReplicaError as the readers in replies.ts; PROTOCOL for an answer that no primary gives.
   */
  reply(state: HandshakeState, line: Uint8Array): HandshakeStep {
    switch (state.at) {
      case "receive-pong":
        return this.#onPong(line);
      case "receive-auth":
        readAuth(line, "the primary", this.#attempt.login?.from ?? "");
        return this.#announcePort();
      case "receive-port":
        this.#passOver("REPLCONF listening-port", line);
        return this.#announceIp();
      case "receive-ip":
        this.#passOver("REPLCONF ip-address", line);
        return this.#announceCapabilities();
      case "receive-capa":
        return this.#onCapabilities(state.asked, line);
      case "receive-version":
        return this.#onVersion(state.asked, line);
      case "receive-psync":
        return this.#onPsync(state.asked, line);
      default:
        return unreachable(state);
    }
  }

  #onPong(line: Uint8Array): HandshakeStep {
    const pong = readPong(line);
    if (pong === "not-now") return this.#lookInto(line);
    const { login, withheld } = this.#attempt;
    // Before a login it is the default user who may not.
    if (pong === "no-permission" && login === undefined) this.#rights.lack("ping", line);
    if (login !== undefined) {
      const command = authCommand(login);
      return { next: "ask", command, state: { at: "receive-auth" } };
    }
    if (pong === "needs-login") {
      throw new ReplicaError("AUTH_FAILED", {
        message: `the primary requires a password (${printableBytes(line)}): ${withheld ?? "set --password-file or REPLICA_PASSWORD"}`,
      });
    }
    return this.#announcePort();
  }

  #announcePort(): HandshakeStep {
    const { listeningPort } = this.#options;
    if (listeningPort === undefined) return this.#announceCapabilities();
    const command = listeningPortCommand(listeningPort);
    return { next: "ask", command, state: { at: "receive-port" } };
  }

  #announceIp(): HandshakeStep {
    const { announceIp } = this.#options;
    if (announceIp === undefined) return this.#announceCapabilities();
    return { next: "ask", command: ipAddressCommand(announceIp), state: { at: "receive-ip" } };
  }

  /** A backup asks for a snapshot alone, and gets it on its one link. */
  get #links(): 1 | 2 {
    return this.#options.purpose === "follow" ? (this.#attempt.links ?? 1) : 1;
  }

  #announceCapabilities(): HandshakeStep {
    const state = { at: "receive-capa", asked: "capa" } as const;
    const { newerThan } = this.#attempt;
    const { runId } = this.#options;
    const command = capabilitiesCommand({ runId, newerThan, links: this.#links });
    return { next: "ask", command, state };
  }

  #onCapabilities(asked: "capa" | "rdb-only", line: Uint8Array): HandshakeStep {
    this.#passOver(`REPLCONF ${asked}`, line);
    if (asked === "capa" && this.#options.purpose === "snapshot-only") {
      const state = { at: "receive-capa", asked: "rdb-only" } as const;
      return { next: "ask", command: rdbOnlyCommand(), state };
    }
    const state = { at: "receive-version", asked: "version" } as const;
    return { next: "ask", command: versionCommand(this.#options.announcedVersion), state };
  }

  /** Old servers and managed services refuse some of REPLCONF; none of it is needed. */
  #passOver(what: string, line: Uint8Array): void {
    if (line[0] === PLUS) return;
    if (line[0] !== MINUS) {
      throw new ReplicaError("PROTOCOL", {
        message: `the primary answers ${what} with "${printableBytes(line)}"`,
      });
    }
    if (isRefusedCommand(line)) {
      this.#noReplconf ??= line;
      if (isNoPermission(line)) this.#rights.lack("replconf", line);
      return;
    }
    // Only Valkey knows this one; everywhere else its refusal tells nothing.
    if (what === "REPLCONF version") return;
    const message = `(non-critical) the primary refuses ${what}: ${printableBytes(line)}`;
    this.#note({ level: "info", message });
  }

  /** Tells at once, where a sync is granted, that REPLCONF as such was refused, and what follows. */
  #granted<Step extends HandshakeStep>(step: Step): Step {
    const line = this.#noReplconf;
    if (line === undefined) return step;
    const mend = isNoPermission(line) ? `; send it ${this.#rights.grant}` : "";
    const message = `(non-critical) the primary takes no REPLCONF (${withoutArguments(line)}): WAIT doesn't count this replica, Sentinel doesn't find it, and snapshots are written to the primary's disk first${mend}`;
    this.#note({ level: "warn", message });
    return step;
  }

  #onVersion(asked: "version" | "info" | "door", line: Uint8Array): HandshakeStep {
    if (asked !== "version") {
      const info = this.#info.push(line);
      if (info === undefined) return { next: "wait" };
      this.#said = info.text;
      if (asked === "door") return this.#onDoor();
      const ask = this.#askPsync();
      return this.#attempt.weighs === true ? { next: "weigh", info: info.text, ask } : ask;
    }
    this.#passOver("REPLCONF version", line);
    // Without psync2 a +CONTINUE names no new id, though the history may have one since a failover.
    const asksId =
      this.#noReplconf !== undefined && this.#peer.asksInfo && this.#attempt.resume !== undefined;
    return this.#attempt.weighs === true || asksId ? this.#askInfo("info") : this.#askPsync();
  }

  #askInfo(asked: "info" | "door"): HandshakeStep & { next: "ask" } {
    this.#info = new InfoReply();
    this.#wasAsked = true;
    return { next: "ask", command: infoCommand(), state: { at: "receive-version", asked } };
  }

  /** Asks a primary that refuses what it is, so that the error says it; at once where that is known, or not worth it. */
  #lookInto(line: Uint8Array): HandshakeStep {
    this.#refusal = line;
    const mayAsk = !this.#wasAsked && this.#peer.asksInfo;
    return mayAsk && (isWorthAsking(line) || isRefusedCommand(line))
      ? this.#askInfo("door")
      : this.#onDoor();
  }

  /** What a refusal comes to. @throws ReplicaError */
  #onDoor(): HandshakeStep {
    const line = this.#refusal;
    invariant(line !== undefined, "INFO was asked about a refusal");
    const door = readDoor(this.#said);
    if (!isRefusedCommand(line)) throw notNow(line, door);
    if (door.masters !== undefined) throw sentinelDoor(door.masters, this.#peer);
    const { commands } = this.#peer;
    if (!isUnknownCommand(line)) throw noSyncOffered(line, commands, door);
    this.#note({
      level: "warn",
      message: `the primary does not know ${commands.psync}: falling back to ${commands.sync}`,
    });
    const command = syncCommand(commands.sync);
    return this.#granted({ next: "full", grant: { by: "sync" }, command });
  }

  /** What an attempt that broke off comes to: a refusal that was being looked into stays one. */
  endedBy(error: ReplicaError, state: State): ReplicaError {
    const isLooking = state.at === "receive-version" && state.asked === "door";
    const line = this.#refusal;
    if (!isLooking || line === undefined || !LINK_ERRORS.has(error.code)) return error;
    if (isUnknownCommand(line)) return error;
    return isRefusedCommand(line)
      ? noSyncOffered(line, this.#peer.commands, UNKNOWN_DOOR)
      : notNow(line, UNKNOWN_DOOR);
  }

  /** The error for a primary that answers a granted full resync with an error, even after +FULLRESYNC. */
  refusedPayload(grant: FullSyncGrant, line: Uint8Array): ReplicaError {
    if (grant.by === "sync" && isRefusedCommand(line)) {
      const { commands } = this.#peer;
      return isNoPermission(line)
        ? this.#rights.refuse(commands.sync, line, this.#attempt.withheld)
        : noSyncOffered(line, commands, readDoor(this.#said));
    }
    if (isNotNow(line)) return notNow(line, readDoor(this.#said));
    // The primary could not fork.
    return new ReplicaError("PRIMARY_REFUSED", {
      message: `the primary gave up the full resync: ${printableBytes(line)}`,
    });
  }

  #askPsync(): HandshakeStep & { next: "ask" } {
    const asked = this.#options.purpose === "snapshot-only" ? undefined : this.#attempt.resume;
    const command = psyncCommand(asked, this.#peer.commands.psync);
    return { next: "ask", command, state: { at: "receive-psync", asked } };
  }

  #onPsync(asked: Position | undefined, line: Uint8Array): HandshakeStep {
    if (line.length === 0) return { next: "wait" };
    const { psync } = this.#peer.commands;
    const reply = readPsync(line, psync !== STOCK_COMMANDS.psync);
    switch (reply.kind) {
      case "full": {
        const grant = { by: "psync", position: reply.position } as const;
        return this.#granted({ next: "full", grant, command: undefined });
      }
      case "partial":
        if (asked === undefined) {
          throw new ReplicaError("PROTOCOL", {
            message: "the primary continues a stream that was not asked for",
          });
        }
        return this.#granted({
          next: "continue",
          asked,
          replid: reply.replid ?? this.#unnamedId(asked),
        });
      case "two-links":
        if (this.#links === 2) return this.#granted({ next: "two-links", two: reply.two });
        throw new ReplicaError("PROTOCOL", {
          message: `the primary answers PSYNC with "${printableBytes(line)}", for which nobody asked`,
        });
      case "unknown-command":
      case "withheld-command":
      case "not-now":
        return this.#lookInto(line);
      case "payload": {
        const grant = { by: "sync" } as const;
        return this.#granted({ next: "full", grant, command: undefined, header: line });
      }
      case "no-right":
        throw this.#rights.refuse(psync, line, this.#attempt.withheld);
      default:
        return unreachable(reply);
    }
  }

  /** The new id of a history that a primary continues without naming it; undefined where it has none, or isn't known. */
  #unnamedId(asked: Position): ReplicationId | undefined {
    if (this.#noReplconf === undefined || this.#said === undefined) return undefined;
    const replid = readReplid(this.#said);
    return replid === asked.replid ? undefined : replid;
  }
}
