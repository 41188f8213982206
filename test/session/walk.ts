import { encodeCommand } from "../../src/resp/encode.ts";
import { parseReplicationId, type Position } from "../../src/base/history.ts";
import type { ReplicaError } from "../../src/base/errors.ts";
import type { Effect, Event } from "../../src/session/events.ts";
import type { AttemptTerms } from "../../src/session/handshake.ts";
import { Session, type SessionOptions } from "../../src/session/session.ts";
import type { State } from "../../src/session/state.ts";

export const REPLID = parseReplicationId("0123456789abcdef0123456789abcdef01234567");
export const OTHER_REPLID = parseReplicationId("f".repeat(40));
export const MARK = "M".repeat(39) + "!";
export const GETACK = text(encodeCommand("REPLCONF", "GETACK", "*"));

export function bytes(latin1: string): Uint8Array {
  return new Uint8Array(Buffer.from(latin1, "latin1"));
}

export function text(raw: Uint8Array): string {
  return Buffer.from(raw).toString("latin1");
}

export interface WalkOptions extends Partial<SessionOptions> {
  /** The login of each attempt. */
  readonly username?: string;
  readonly password?: string;
  /** What is asked for with PSYNC; nothing unless told. */
  readonly resume?: Position;
  /** Where the stream begins after the snapshot; 1000 unless told. */
  readonly baseOffset?: number;
  /** Whether the store answers `open-snapshot` and `finish-snapshot` by itself; yes unless told. */
  readonly storeAnswers?: boolean;
  /** What else is asked for; nothing unless told. */
  readonly wishes?: Pick<AttemptTerms, "weighs" | "newerThan" | "links" | "peer">;
}

type EffectOf<D extends Effect["do"]> = Extract<Effect, { do: D }>;

/** A session that is led through a scripted sync, and everything that it did. */
export class Walk {
  readonly session: Session;
  readonly effects: Effect[] = [];
  /** Each state that was seen after a step, without repetition. */
  readonly states: string[] = [];
  readonly #options: WalkOptions;
  nowMs = 0;

  constructor(options: WalkOptions = {}) {
    this.#options = options;
    this.session = new Session({
      purpose: "follow",
      listeningPort: options.purpose === "snapshot-only" ? undefined : 6380,
      announceIp: undefined,
      syncTimeoutMs: 5000,
      timeoutMs: 60_000,
      maxLineBytes: 1024,
      ...options,
    });
  }

  /** Follows a primary up to the open link: PING is out. */
  static opened(options: WalkOptions = {}): Walk {
    const walk = new Walk(options);
    walk.step({ type: "follow" });
    walk.attempt();
    walk.step({ type: "opened", nowMs: walk.nowMs });
    return walk;
  }

  /** As `opened`, and then these lines, each with its end. */
  static said(options: WalkOptions, ...lines: string[]): Walk {
    const walk = Walk.opened(options);
    for (const line of lines) walk.say(`${line}\r\n`);
    return walk;
  }

  attempt(): readonly Effect[] {
    const { resume, username, password, wishes = {} } = this.#options;
    const login =
      password === undefined
        ? undefined
        : { username, password, from: "where the test has it from" };
    return this.step({ type: "attempt", nowMs: this.nowMs, resume, login, ...wishes });
  }

  step(event: Event): readonly Effect[] {
    const effects = this.session.step(event);
    this.effects.push(...effects);
    const { at } = this.session.state;
    if (this.states.at(-1) !== at) this.states.push(at);
    if (this.#options.storeAnswers ?? true) {
      for (const effect of effects) this.#answer(effect);
    }
    return effects;
  }

  #answer(effect: Effect): void {
    if (effect.do === "open-snapshot") this.snapshotOpened();
    if (effect.do === "finish-snapshot") this.snapshotKept();
  }

  snapshotOpened(): readonly Effect[] {
    return this.step({ type: "snapshot-opened", nowMs: this.nowMs, file: "temp-1.2.rdb" });
  }

  snapshotKept(): readonly Effect[] {
    const streamed = this.stream().length;
    return this.step({
      type: "snapshot-kept",
      nowMs: this.nowMs,
      stream: {
        replid: REPLID,
        receivedOffset: (this.#options.baseOffset ?? 1000) + streamed,
      },
    });
  }

  say(what: string | Uint8Array): readonly Effect[] {
    const raw = typeof what === "string" ? bytes(what) : what;
    return this.step({ type: "bytes", nowMs: this.nowMs, bytes: raw });
  }

  /** As `say`, on the second link of a full sync. */
  saySecond(what: string | Uint8Array): readonly Effect[] {
    const raw = typeof what === "string" ? bytes(what) : what;
    return this.step({ type: "second-bytes", nowMs: this.nowMs, bytes: raw });
  }

  /** Lets time pass, and shows it to the session. */
  tick(ms: number, paused = false): readonly Effect[] {
    this.nowMs += ms;
    return this.step({ type: "tick", nowMs: this.nowMs, paused });
  }

  get state(): State {
    return this.session.state;
  }

  done<D extends Effect["do"]>(what: D): EffectOf<D>[] {
    return this.effects.filter((effect): effect is EffectOf<D> => effect.do === what);
  }

  names(): string[] {
    return this.effects.map((effect) => effect.do);
  }

  /** The commands that went out, their words with blanks between; a keepalive is `\n`. */
  sent(): string[] {
    return this.done("send").map(({ bytes: raw }) => words(raw));
  }

  /** The same of the second link. */
  sentOnSecond(): string[] {
    return this.done("send-second").map(({ bytes: raw }) => words(raw));
  }

  payload(): string {
    return this.done("payload")
      .map((effect) => text(effect.bytes))
      .join("");
  }

  stream(): string {
    return this.done("stream")
      .map((effect) => text(effect.bytes))
      .join("");
  }

  acknowledged(): number[] {
    return this.done("acknowledge").map((effect) => effect.offset);
  }

  /** Why the last attempt ended. */
  error(): ReplicaError {
    const last = this.done("failed").at(-1);
    if (last === undefined) throw new Error(`nothing failed; state ${this.state.at}`);
    return last.error;
  }

  notes(): string[] {
    return this.done("note").map((effect) => `${effect.level}: ${effect.message}`);
  }
}

function words(raw: Uint8Array): string {
  const all = text(raw);
  if (all === "\n") return all;
  return all
    .split("\r\n")
    .slice(1)
    .filter((_, index) => index % 2 === 1)
    .join(" ");
}

/** Why this walk is in a state, as the lines that led there; for tests of "from every state". */
export const WAYS: Readonly<Record<string, () => Walk>> = {
  none: () => new Walk(),
  connect: () => {
    const walk = new Walk();
    walk.step({ type: "follow" });
    return walk;
  },
  connecting: () => {
    const walk = new Walk();
    walk.step({ type: "follow" });
    walk.attempt();
    return walk;
  },
  "receive-pong": () => Walk.opened(),
  "receive-auth": () => Walk.said({ password: "secret" }, "+PONG"),
  "receive-port": () => Walk.said({}, "+PONG"),
  "receive-ip": () => Walk.said({ announceIp: "10.0.0.9" }, "+PONG", "+OK"),
  "receive-capa": () => Walk.said({}, "+PONG", "+OK"),
  "receive-version": () => Walk.said({}, "+PONG", "+OK", "+OK"),
  "receive-psync": () => Walk.said({}, ...TO_PSYNC),
  "receive-bulk-header": () => Walk.said({}, ...TO_BULK),
  "receive-bulk-header, waiting for the file": () =>
    Walk.said({ storeAnswers: false }, ...TO_BULK, "$5"),
  transfer: () => Walk.said({}, ...TO_BULK, "$50"),
  "transfer, finishing": () => {
    const walk = Walk.said({ storeAnswers: false }, ...TO_BULK, "$3");
    walk.snapshotOpened();
    walk.say("rdb");
    return walk;
  },
  connected: () => {
    const walk = Walk.said({}, ...TO_BULK, "$3");
    walk.say("rdb");
    return walk;
  },
};

/** What a primary answers up to and including REPLCONF version, which most don't know. */
export const TO_PSYNC = ["+PONG", "+OK", "+OK", "-ERR Unrecognized REPLCONF option: version"];
export const TO_BULK = [...TO_PSYNC, `+FULLRESYNC ${REPLID} 1000`];
