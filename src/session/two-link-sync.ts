import { ReplicaError, unreachable } from "../base/errors.ts";
import type { Position } from "../base/history.ts";
import { printableBytes } from "../base/printable.ts";
import type { LineReader } from "../resp/line-reader.ts";
import { psyncCommand, rdbClientIdCommand } from "./commands.ts";
import type { AttemptTerms, HandshakeOptions } from "./handshake.ts";
import { readClientIdSet, readStreamBegins, SecondLink } from "./second-link.ts";
import { STOCK_COMMANDS, type SyncCommands } from "./services.ts";
import type { FirstLink, SecondAt, TwoLinks } from "./state.ts";

/** What follows from bytes of the first link. */
export interface FirstSaid {
  readonly first: FirstLink;
  /** A command to send on it. */
  readonly send: Uint8Array | undefined;
  /** The next bytes of the stream. */
  readonly stream: Uint8Array;
}

/** What follows from bytes of the second link, before the payload. */
export type SecondSaid =
  | { readonly next: "ask"; readonly at: SecondAt; readonly command: Uint8Array }
  | { readonly next: "granted"; readonly position: Position; readonly clientId: string | undefined }
  /** More has to come; `heard` tells whether a whole line has. */
  | { readonly next: "wait"; readonly heard: boolean };

const EMPTY = new Uint8Array(0);
const LF = 0x0a;
const CR = 0x0d;
const ARRAY = 0x2a;

/**
 * What the two links of a full sync say besides payload and stream. The table in "Two links for a full sync" of
 * docs/ARCHITECTURE.md has both forms, step by step.
 */
export class TwoLinkSync {
  /** The second link, up to its payload. */
  readonly second: SecondLink;
  /** What the first link does at first. */
  readonly first: FirstLink;
  readonly #lines: LineReader;
  readonly #commands: SyncCommands;
  #hasBegun = false;
  /** Stream that came before there was a file for it. */
  #early: Uint8Array[] = [];

  /** @param lines what was read of the first link so far, and what is still unread. */
  constructor(
    two: TwoLinks,
    options: HandshakeOptions & { readonly maxLineBytes: number },
    attempt: AttemptTerms,
    lines: LineReader,
  ) {
    this.second = new SecondLink(two, options, attempt);
    this.#commands = attempt.peer?.commands ?? STOCK_COMMANDS;
    this.first = two.by === "redis" ? { does: "stream", streamedBytes: 0 } : { does: "wait" };
    this.#lines = lines;
  }

  /**
   * Takes bytes of the first link.
   * @throws ReplicaError PRIMARY_REFUSED for an error; PROTOCOL for what no primary says there, a payload above all.
   */
  onFirst(first: FirstLink, bytes: Uint8Array): FirstSaid {
    this.#lines.push(bytes);
    let now = first;
    let send: Uint8Array | undefined;
    while (now.does !== "stream" && now.does !== "lost") {
      const line = this.#lines.next();
      if (line === undefined) return { first: now, send, stream: EMPTY };
      if (line.length === 0) this.#lines.skipEmpty();
      else ({ first: now, send } = this.#onFirstLine(now, line));
    }
    const stream = this.#streamOf(this.#lines.rest());
    if (now.does !== "stream") return { first: now, send, stream };
    return { first: { ...now, streamedBytes: now.streamedBytes + stream.length }, send, stream };
  }

  #onFirstLine(first: FirstLink, line: Uint8Array): Omit<FirstSaid, "stream"> {
    switch (first.does) {
      case "wait":
        throw new ReplicaError(line[0] === 0x2d ? "PRIMARY_REFUSED" : "PROTOCOL", {
          message: `the primary says "${printableBytes(line)}" on the first link before the second one is granted`,
        });
      case "name-second":
        readClientIdSet(line);
        return {
          first: { does: "ask", position: first.position },
          send: psyncCommand(first.position, this.#commands.psync),
        };
      case "ask":
        readStreamBegins(line, first.position.replid);
        return { first: { does: "stream", streamedBytes: 0 }, send: undefined };
      case "stream":
      case "lost":
        throw new Error(`invariant broken: a line of a link that does ${first.does}`);
      default:
        return unreachable(first);
    }
  }

  /** A stream begins with a command; keepalives before that are none of it. */
  #streamOf(bytes: Uint8Array): Uint8Array {
    if (this.#hasBegun) return bytes;
    const from = bytes.findIndex((byte) => byte !== LF && byte !== CR);
    if (from === -1) return EMPTY;
    if (bytes[from] !== ARRAY) {
      throw new ReplicaError("PROTOCOL", {
        message: `the primary sends no stream on the first link of a full sync, but "${printableBytes(bytes.subarray(from, from + 64))}"`,
      });
    }
    this.#hasBegun = true;
    return bytes.subarray(from);
  }

  /** Keeps stream that has no file yet. The link is paused then, so that it is little. */
  hold(stream: Uint8Array): void {
    if (stream.length > 0) this.#early.push(stream);
  }

  /** Takes what was kept. */
  takeHeld(): readonly Uint8Array[] {
    const held = this.#early;
    this.#early = [];
    return held;
  }

  /**
   * Takes bytes of the second link before its grant. After "granted" the payload's header comes from `second.line`.
   * @throws ReplicaError as `SecondLink.reply`.
   */
  onSecond(at: SecondAt, bytes: Uint8Array): SecondSaid {
    this.second.push(bytes);
    let heard = false;
    for (let line = this.second.line(); line !== undefined; line = this.second.line()) {
      heard = true;
      const step = this.second.reply(at, line);
      if (step.next === "wait") this.second.skipEmpty();
      else if (step.next === "full") return { ...step, next: "granted" };
      else return step;
    }
    return { next: "wait", heard };
  }

  /** The first link learns what the second one was granted; undefined where nothing has to be asked for. */
  ask(position: Position, clientId: string | undefined): Pick<FirstSaid, "first" | "send"> {
    if (clientId === undefined) return { first: this.first, send: undefined };
    return { first: { does: "name-second", position }, send: rdbClientIdCommand(clientId) };
  }
}
