import { type Settings } from "../../config/settings.ts";
import { type ErrorCode, ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import type { SentinelSource } from "../../config/primary-source.ts";
import { describeTarget, type PrimaryTarget, targetAt } from "../../config/primary-url.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { LineReader } from "../../resp/line-reader.ts";
import { errorWithoutSecret, printableBytes } from "../../base/printable.ts";
import { readAuth } from "../../session/replies.ts";
import type { Clock } from "../../base/clock.ts";
import { Link } from "./link.ts";
import { type Address, describeAddress } from "../../base/address.ts";
import { limits } from "../../config/limits.ts";

/** The errors of a sentinel that can't be reached. */
const SILENT: ReadonlySet<ErrorCode> = new Set(["CONNECT_FAILED", "LINK_LOST", "TIMED_OUT"]);

/** The settings for asking a sentinel. */
export type SentinelSettings = Pick<Settings, "sentinel" | "syncTimeoutMs" | "tls">;

/** Asks the sentinels of a source where its primary is ("Guidelines for Redis clients with Sentinel"). */
export class Sentinels {
  readonly #source: SentinelSource;
  readonly #clock: Clock;
  readonly #settings: SentinelSettings;
  /** In the order in which they are asked. */
  #sentinels: readonly Address[];
  /** The sentinel that answered last, and the primary it named. */
  #answer: { readonly sentinel: Address; readonly target: PrimaryTarget } | undefined;
  /** What was said last of all being away; empty since one answered. */
  #told = "";

  constructor(source: SentinelSource, clock: Clock, settings: SentinelSettings) {
    this.#source = source;
    this.#clock = clock;
    this.#settings = settings;
    this.#sentinels = source.sentinels;
  }

  /**
   * Asks the sentinels in turn; the first one that knows the primary decides. It comes with the login of
   * the source. Undefined as soon as `signal` is aborted.
   * @param followed is returned, with a warning, where no sentinel can be reached: their absence is no
   * reason to leave the primary.
   * @throws ReplicaError PRIMARY_UNKNOWN with every sentinel's answer, where none names a primary.
   */
  async locate(signal: AbortSignal, followed?: PrimaryTarget): Promise<PrimaryTarget | undefined> {
    this.#answer = undefined;
    const failures: { sentinel: Address; error: ReplicaError }[] = [];
    for (const sentinel of this.#sentinels) {
      try {
        const target = await this.#ask(sentinel, signal);
        if (signal.aborted) return undefined;
        this.#answer = { sentinel, target };
        this.#told = "";
        return target;
      } catch (error) {
        if (signal.aborted) return undefined;
        if (!(error instanceof ReplicaError)) throw error;
        failures.push({ sentinel, error });
      }
    }
    const reasons = Map.groupBy(failures, ({ error }) => error.message);
    const said = [...reasons].map(([reason, those]) => {
      const who = those.map(({ sentinel }) => describeAddress(sentinel)).join(", ");
      return `${reason} (${who})`;
    });
    const message = `no sentinel names the primary: ${said.join("; ")}`;
    if (followed !== undefined && failures.every(({ error }) => SILENT.has(error.code))) {
      const news = `${message}; trying ${describeTarget(followed)} again, the primary that was followed last`;
      // Once, and not at each attempt of the outage.
      logger[news === this.#told ? "debug" : "warn"](news);
      this.#told = news;
      return followed;
    }
    throw new ReplicaError("PRIMARY_UNKNOWN", { message, cause: failures.at(-1)?.error });
  }

  /**
   * Takes the outcome of the attempt with a primary. The sentinel that named it is asked first from now on
   * where the link connected, else last: one that missed a failover names a dead primary for ever.
   */
  judge(target: PrimaryTarget, isConnected: boolean): void {
    const answer = this.#answer;
    if (answer === undefined || answer.target !== target) return;
    this.#answer = undefined;
    const others = this.#sentinels.filter((other) => other !== answer.sentinel);
    this.#sentinels = isConnected ? [answer.sentinel, ...others] : [...others, answer.sentinel];
  }

  async #ask(sentinel: Address, signal: AbortSignal): Promise<PrimaryTarget> {
    const { tls, syncTimeoutMs, sentinel: login } = this.#settings;
    const { promise, resolve, reject } = Promise.withResolvers<PrimaryTarget>();
    const password = login.password?.read();
    const answer = new Answer(this.#source, password !== undefined);
    const link = new Link(
      { kind: this.#source.tls ? "tls" : "tcp", ...sentinel },
      tls,
      {
        opened: () => link.send(question(this.#source.master, login.username, password)),
        bytes: (bytes) => {
          try {
            const target = answer.push(bytes);
            if (target !== undefined) resolve(target);
          } catch (error) {
            reject(error instanceof ReplicaError ? errorWithoutSecret(error, password) : error);
          }
        },
        lost: reject,
      },
      "the sentinel",
    );
    const over = new AbortController();
    void this.#clock.sleep(syncTimeoutMs, AbortSignal.any([signal, over.signal])).then(() =>
      reject(
        new ReplicaError("TIMED_OUT", {
          message: `no answer within ${syncTimeoutMs} ms (--sync-timeout)`,
        }),
      ),
    );
    try {
      return await promise;
    } finally {
      over.abort();
      link.close();
    }
  }
}

/** The login, if any, goes before the question: its reply comes first. */
function question(
  master: string,
  username: string | undefined,
  password: string | undefined,
): Uint8Array {
  const ask = encodeCommand("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master);
  if (password === undefined) return ask;
  const login = username === undefined ? [password] : [username, password];
  return Buffer.concat([encodeCommand("AUTH", ...login), ask]);
}

/** A sentinel's answer as it comes in: a line or five, after the reply to AUTH. */
class Answer {
  readonly #source: SentinelSource;
  readonly #reader = new LineReader({ maxLineBytes: limits.sentinelLineBytes });
  readonly #lines: Uint8Array[] = [];
  #awaitsAuth: boolean;

  constructor(source: SentinelSource, awaitsAuth: boolean) {
    this.#source = source;
    this.#awaitsAuth = awaitsAuth;
  }

  /**
   * Takes the next bytes and returns the primary once it is named; undefined means that the rest comes
   * with the next chunk.
   * @throws ReplicaError AUTH_FAILED, PRIMARY_UNKNOWN, PRIMARY_REFUSED; PROTOCOL for a malformed answer.
   */
  push(bytes: Uint8Array): PrimaryTarget | undefined {
    this.#reader.push(bytes);
    for (let line = this.#reader.next(); line !== undefined; line = this.#reader.next()) {
      if (this.#awaitsAuth) {
        readAuth(line, "the sentinel", "--sentinel-username and --sentinel-password-file");
        this.#awaitsAuth = false;
        continue;
      }
      this.#lines.push(line);
      const target = this.#read();
      if (target !== undefined) return target;
    }
    return undefined;
  }

  /** Expects `*2`, then twice `$<length>` and a text; whatever has come so far must fit. */
  #read(): PrimaryTarget | undefined {
    const [head, hostLength, host, portLength, port] = this.#lines;
    if (head !== undefined && printableBytes(head) !== "*2") throw this.#refusal(head);
    checkText(hostLength, host);
    checkText(portLength, port);
    if (host === undefined || port === undefined) return undefined;
    const kind = this.#source.tls ? "tls" : "tcp";
    return targetAt(kind, textOf(host), textOf(port), this.#source);
  }

  #refusal(line: Uint8Array): ReplicaError {
    const said = printableBytes(line);
    if (["*-1", "$-1", "_"].includes(said)) {
      return new ReplicaError("PRIMARY_UNKNOWN", {
        message: `the master's name ${JSON.stringify(this.#source.master)} is not known there: check the name in the URL`,
      });
    }
    if (said.startsWith("-NOAUTH")) {
      return new ReplicaError("AUTH_FAILED", {
        message: `the sentinel requires a password (${said}): set --sentinel-password-file`,
      });
    }
    if (said.startsWith("-NOPERM")) {
      return new ReplicaError("AUTH_FAILED", {
        message: `the sentinel refuses the question: ${said}; set --sentinel-username and --sentinel-password-file`,
      });
    }
    if (/^-ERR unknown command/i.test(said)) {
      return new ReplicaError("PROTOCOL", {
        message: `this isn't a sentinel: it answers ${said.replace(/,? with args.*$/i, "")}; if it is the primary itself, give ${this.#source.tls ? "rediss" : "redis"}://host:port`,
      });
    }
    if (said.startsWith("-")) {
      return new ReplicaError("PRIMARY_REFUSED", { message: `the sentinel refuses: ${said}` });
    }
    return malformed(line);
  }
}

/** Checks as much of a bulk string as has come; it holds no line end. */
function checkText(length: Uint8Array | undefined, text: Uint8Array | undefined): void {
  if (length !== undefined && !/^\$\d{1,4}$/.test(textOf(length))) throw malformed(length);
  if (length === undefined || text === undefined) return;
  if (text.length !== Number(textOf(length).slice(1))) throw malformed(text);
}

function textOf(line: Uint8Array): string {
  return Buffer.from(line).toString();
}

function malformed(line: Uint8Array): ReplicaError {
  return new ReplicaError("PROTOCOL", {
    message: `this isn't a sentinel: it answers "${printableBytes(line)}"`,
  });
}
