import { invariant, ReplicaError } from "../base/errors.ts";
import { BulkReader, parseBulkHeader } from "../resp/bulk-reader.ts";
import type { LineReader } from "../resp/line-reader.ts";
import { type Core, firstOf, type Inner } from "./core.ts";
import type { AttemptTerms, HandshakeOptions } from "./handshake.ts";
import { refuseFirstSilence, type SilenceLimits } from "./silence.ts";
import type { FirstLink, FullSyncGrant, TwoLinks } from "./state.ts";
import { type SecondSaid, TwoLinkSync } from "./two-link-sync.ts";

/** What a full sync hands back to its session. */
export interface FullSyncHost {
  /** Bytes of the stream, behind the payload or beside it. */
  stream(bytes: Uint8Array): void;
  fail(error: ReplicaError): void;
  /** The error for a primary that answers a granted full resync with an error. */
  refusedPayload(grant: FullSyncGrant, line: Uint8Array): ReplicaError;
}

type Options = HandshakeOptions & SilenceLimits & { readonly maxLineBytes: number };
type Transferring = Extract<Inner, { at: "transfer" }>;

const MINUS = 0x2d;

/**
 * A full sync from its grant to the complete payload: readSyncBulkPayload of Redis's replication.c. The stream comes
 * behind the payload on the same link, or beside it on the first of two.
 */
export class FullSync {
  readonly #core: Core;
  readonly #options: Options;
  readonly #host: FullSyncHost;
  #two: TwoLinkSync | undefined;
  #firstIoMs = 0;
  /** What came while the temporary file was being opened. */
  #held: Uint8Array[] = [];
  /** Why the second link broke meanwhile: the payload may have come whole before. */
  #brokenWhileHeld: ReplicaError | undefined;

  constructor(core: Core, options: Options, host: FullSyncHost) {
    this.#core = core;
    this.#options = options;
    this.#host = host;
  }

  /** Forgets what an attempt left. */
  reset(): void {
    this.#two = undefined;
    this.#held = [];
    this.#brokenWhileHeld = undefined;
  }

  /** Keeps what came before the temporary file was open. */
  hold(bytes: Uint8Array): void {
    this.#held.push(bytes);
  }

  /**
   * Takes the line that begins the payload, or a keepalive before it.
   * @throws ReplicaError PRIMARY_REFUSED for an error, PROTOCOL.
   */
  header(grant: FullSyncGrant, line: Uint8Array): void {
    if (line.length === 0) return; // a keepalive
    if (line[0] === MINUS) throw this.#host.refusedPayload(grant, line);
    const form = parseBulkHeader(line);
    const first = firstOf(this.#core.state);
    this.#core.do({
      do: "open-snapshot",
      grant,
      form,
      ...(first === undefined ? {} : { beside: true }),
    });
    this.#core.move({
      at: "receive-bulk-header",
      waits: "file",
      grant,
      form,
      ...withFirst(first),
    });
  }

  /** The temporary file is open. */
  opened(file: string): void {
    const { state } = this.#core;
    if (state.at === "none" || state.at === "connect") return;
    invariant(
      state.at === "receive-bulk-header" && state.waits === "file",
      `a snapshot opened in state ${state.at}`,
    );
    const { grant, form, first } = state;
    const reader = new BulkReader(form);
    this.#core.lastIoMs = this.#core.nowMs;
    this.#firstIoMs = this.#core.nowMs;
    this.#core.move({
      at: "transfer",
      grant,
      reader,
      file,
      totalBytes: form.kind === "length" ? form.bytes : undefined,
      readBytes: 0,
      finishing: false,
      lost: first?.does === "lost" ? first.error : undefined,
      ...withFirst(first),
    });
    for (const bytes of this.#two?.takeHeld() ?? []) this.#host.stream(bytes);
    const held = this.#held;
    this.#held = [];
    this.#finishIfComplete();
    for (const bytes of held) this.payload(bytes);
    if (this.#brokenWhileHeld !== undefined) this.secondLost(this.#brokenWhileHeld);
  }

  get #transfer(): Transferring {
    const { state } = this.#core;
    invariant(state.at === "transfer", `payload in state ${state.at}`);
    return state;
  }

  /** Takes bytes of the link that the payload comes on. */
  payload(bytes: Uint8Array): void {
    const transfer = this.#transfer;
    const isAlone = transfer.first === undefined;
    if (transfer.reader.complete) {
      if (isAlone) this.#host.stream(bytes);
      return;
    }
    const rest = transfer.reader.push(bytes, (payload) => {
      if (payload.length > 0) this.#core.do({ do: "payload", bytes: payload });
    });
    this.#core.move({ ...transfer, readBytes: transfer.reader.payloadBytes });
    if (rest === undefined) return;
    this.#finishIfComplete();
    // Behind a payload on a link of its own comes nothing that counts.
    if (isAlone) this.#host.stream(rest);
  }

  /** Once the payload is complete, and what becomes of the stream beside it is known. */
  #finishIfComplete(): void {
    const transfer = this.#transfer;
    const { first, lost } = transfer;
    if (transfer.finishing || !transfer.reader.complete) return;
    if (first !== undefined && first.does !== "stream" && lost === undefined) return;
    if (first !== undefined) this.#core.do({ do: "close-one", link: "second" });
    this.#core.move({ ...transfer, finishing: true, totalBytes: transfer.readBytes });
    this.#core.do({ do: "finish-snapshot" });
  }

  /**
   * The link that the stream is on, or will be, broke. A payload that is complete, or comes on another link, is kept all
   * the same; the next attempt resumes behind what came.
   * @returns false where that ends the attempt.
   */
  lost(error: ReplicaError): boolean {
    const { state } = this.#core;
    if (state.at === "receive-bulk-header" && state.first !== undefined) {
      this.#loseFirst(error);
      this.#core.move({ ...state, first: { does: "lost", error } });
      return true;
    }
    if (state.at !== "transfer") return false;
    const isAlone = state.first === undefined;
    if (isAlone && !state.finishing) return false;
    if (isAlone) this.#core.do({ do: "close-link" });
    else if (state.lost === undefined) this.#loseFirst(error);
    this.#core.move({ ...state, lost: state.lost ?? error });
    this.#finishIfComplete();
    return true;
  }

  #loseFirst({ message }: ReplicaError): void {
    this.#core.do({ do: "close-one", link: "first" });
    this.#core.do({
      do: "note",
      level: "warn",
      message: `the first link of the full sync: ${message}; the snapshot goes on over the second one, and the stream is asked for again behind it`,
    });
  }

  /**
   * PSYNC was answered with a second link.
   * @param lines what is still unread of the first one.
   */
  openSecond(two: TwoLinks, attempt: AttemptTerms, lines: LineReader): void {
    this.#two = new TwoLinkSync(two, this.#options, attempt, lines);
    const { first } = this.#two;
    this.#core.do({ do: "open-second" });
    this.#core.lastIoMs = this.#core.nowMs;
    this.#core.move({ at: "receive-psync", second: "connect", first });
    this.first(first, new Uint8Array(0));
  }

  /**
   * Takes bytes of the first of two links.
   * @throws ReplicaError as `TwoLinkSync.onFirst`.
   */
  first(first: FirstLink, bytes: Uint8Array): void {
    const { state } = this.#core;
    if (first.does === "lost" || (state.at === "transfer" && state.lost !== undefined)) return;
    this.#firstIoMs = this.#core.nowMs;
    const said = this.#pair.onFirst(first, bytes);
    if (said.send !== undefined) this.#core.do({ do: "send", bytes: said.send });
    if ("first" in state) this.#core.move({ ...state, first: said.first });
    if (state.at !== "transfer") return this.#pair.hold(said.stream);
    this.#host.stream(said.stream);
    this.#finishIfComplete();
  }

  get #pair(): TwoLinkSync {
    invariant(this.#two !== undefined, "a full sync on two links");
    return this.#two;
  }

  /** The second link is open. */
  secondOpened(): void {
    if (firstOf(this.#core.state) !== undefined) this.#onSecond(this.#pair.second.begin());
  }

  /**
   * Takes bytes of the second link.
   * @throws ReplicaError as `TwoLinkSync.onSecond` and `header`.
   */
  second(bytes: Uint8Array): void {
    try {
      this.#onSecondBytes(bytes);
    } catch (error) {
      throw error instanceof ReplicaError ? ofSecondLink(error) : error;
    }
  }

  #onSecondBytes(bytes: Uint8Array): void {
    const { state } = this.#core;
    if (firstOf(state) === undefined) return;
    if (state.at === "transfer") {
      this.#core.lastIoMs = this.#core.nowMs;
      return this.payload(bytes);
    }
    if (state.at === "receive-psync" && state.second !== undefined)
      return this.#onSecond(this.#pair.onSecond(state.second, bytes));
    if (state.at === "receive-bulk-header" && state.waits === "file") return this.hold(bytes);
    this.#pair.second.push(bytes);
    this.#readHeader();
  }

  #onSecond(said: SecondSaid): void {
    const { state } = this.#core;
    if (state.at !== "receive-psync" || state.second === undefined) return;
    if (said.next !== "wait" || said.heard) this.#core.lastIoMs = this.#core.nowMs;
    if (said.next === "wait") return;
    if (said.next === "ask") {
      this.#core.do({ do: "send-second", bytes: said.command });
      this.#core.move({ ...state, second: said.at });
      // Should more have come already than was asked for.
      return this.#onSecond(this.#pair.onSecond(said.at, new Uint8Array(0)));
    }
    const { first, send } = this.#pair.ask(said.position, said.clientId);
    if (send !== undefined) this.#core.do({ do: "send", bytes: send });
    this.#firstIoMs = this.#core.nowMs;
    const grant = { by: "psync", position: said.position } as const;
    this.#core.move({ at: "receive-bulk-header", waits: "line", grant, first });
    this.#readHeader();
  }

  #readHeader(): void {
    const { second } = this.#pair;
    for (;;) {
      const { state } = this.#core;
      if (state.at !== "receive-bulk-header" || state.waits !== "line") return;
      const line = second.line();
      if (line === undefined) return;
      this.#core.lastIoMs = this.#core.nowMs;
      this.header(state.grant, line);
      if (line.length === 0) second.skipEmpty();
      else this.hold(second.rest());
    }
  }

  /** The second link broke. With the payload on it, it has done what it was for. */
  secondLost(error: ReplicaError): void {
    const { state } = this.#core;
    if (firstOf(state) === undefined) return;
    if (state.at === "transfer" && state.reader.complete) return;
    if (state.at === "receive-bulk-header" && state.waits === "file") this.#brokenWhileHeld = error;
    else this.#host.fail(error);
  }

  /**
   * Gives up a first link that has been silent for too long.
   * @returns why; undefined where it wasn't, or where there is one link.
   */
  silenceOfFirst(paused: boolean): ReplicaError | undefined {
    const { state, nowMs } = this.#core;
    if (paused) this.#firstIoMs = nowMs;
    return refuseFirstSilence(state, firstOf(state), nowMs - this.#firstIoMs, this.#options);
  }
}

/** Says which link an error is of. */
export function ofSecondLink(error: ReplicaError): ReplicaError {
  const { code, retry, message } = error;
  return new ReplicaError(code, { retry, message: `the second link: ${message}`, cause: error });
}

function withFirst(first: FirstLink | undefined): { readonly first?: FirstLink } {
  return first === undefined ? {} : { first };
}
