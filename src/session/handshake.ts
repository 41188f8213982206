import { ReplicaError, unreachable } from "../base/errors.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
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
import { InfoReply } from "./info-reply.ts";
import { readAuth, readPong, readPsync } from "./replies.ts";
import type { FullSyncGrant, HandshakeState } from "./state.ts";

export interface HandshakeOptions {
  /** `snapshot-only` asks for no stream (REPLCONF rdb-only, Redis 7.0): a backup, or a renewal. */
  readonly purpose: "follow" | "snapshot-only";
  /** Undefined: no port is announced, and no address either. */
  readonly listeningPort: number | undefined;
  readonly announceIp: string | undefined;
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
  /** A primary that is a `replica` itself is to give a snapshot newer than this, which it may have to take first. */
  readonly newerThan?: Offset | undefined;
}

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
    }
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
  readonly #info = new InfoReply();

  /** @param note takes remarks for the log. */
  constructor(options: HandshakeOptions, attempt: AttemptTerms, note: (note: Note) => void) {
    this.#options = options;
    this.#attempt = attempt;
    this.#note = note;
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
    const { login, withheld } = this.#attempt;
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

  #announceCapabilities(): HandshakeStep {
    const state = { at: "receive-capa", asked: "capa" } as const;
    const command = capabilitiesCommand(this.#options.runId, this.#attempt.newerThan);
    return { next: "ask", command, state };
  }

  #onCapabilities(asked: "capa" | "rdb-only", line: Uint8Array): HandshakeStep {
    this.#passOver(`REPLCONF ${asked}`, line);
    if (asked === "capa" && this.#options.purpose === "snapshot-only") {
      const state = { at: "receive-capa", asked: "rdb-only" } as const;
      return { next: "ask", command: rdbOnlyCommand(), state };
    }
    const state = { at: "receive-version", asked: "version" } as const;
    return { next: "ask", command: versionCommand(), state };
  }

  /** Old servers and managed services refuse some of REPLCONF; none of it is needed. */
  #passOver(what: string, line: Uint8Array): void {
    if (line[0] === PLUS) return;
    if (line[0] !== MINUS) {
      throw new ReplicaError("PROTOCOL", {
        message: `the primary answers ${what} with "${printableBytes(line)}"`,
      });
    }
    // Only Valkey knows this one; everywhere else its refusal tells nothing.
    if (what === "REPLCONF version") return;
    const message = `(non-critical) the primary refuses ${what}: ${printableBytes(line)}`;
    this.#note({ level: "info", message });
  }

  #onVersion(asked: "version" | "info", line: Uint8Array): HandshakeStep {
    if (asked === "info") {
      const info = this.#info.push(line);
      return info === undefined
        ? { next: "wait" }
        : { next: "weigh", info: info.text, ask: this.#askPsync() };
    }
    this.#passOver("REPLCONF version", line);
    if (this.#attempt.weighs !== true) return this.#askPsync();
    const state = { at: "receive-version", asked: "info" } as const;
    return { next: "ask", command: infoCommand(), state };
  }

  #askPsync(): HandshakeStep & { next: "ask" } {
    const asked = this.#options.purpose === "snapshot-only" ? undefined : this.#attempt.resume;
    return { next: "ask", command: psyncCommand(asked), state: { at: "receive-psync", asked } };
  }

  #onPsync(asked: Position | undefined, line: Uint8Array): HandshakeStep {
    if (line.length === 0) return { next: "wait" };
    const reply = readPsync(line, this.#attempt.withheld);
    switch (reply.kind) {
      case "full": {
        const grant = { by: "psync", position: reply.position } as const;
        return { next: "full", grant, command: undefined };
      }
      case "partial":
        if (asked === undefined) {
          throw new ReplicaError("PROTOCOL", {
            message: "the primary continues a stream that was not asked for",
          });
        }
        return { next: "continue", asked, replid: reply.replid };
      case "unknown-command":
        this.#note({
          level: "warn",
          message: "the primary does not know PSYNC: falling back to SYNC",
        });
        return { next: "full", grant: { by: "sync" }, command: syncCommand() };
      default:
        return unreachable(reply);
    }
  }
}
