import { ReplicaError } from "../../base/errors.ts";
import { errorWithoutSecret, withoutSecret } from "../../base/printable.ts";
import { limits } from "../../config/limits.ts";
import { describeTarget, type PrimaryTarget } from "../../config/primary-url.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { type ArrayHead, type Reply, ReplyReader } from "../../resp/reply-reader.ts";
import { authCommand } from "../../session/commands.ts";
import { readAuth } from "../../session/replies.ts";
import { Link, type TlsFiles } from "../../upstream/link/link.ts";
import type { PrimaryLogin } from "../../upstream/link/primary-login.ts";

export interface TargetLinkOptions {
  readonly tls: TlsFiles;
  /** Read at each connect; without a password, none is sent. */
  readonly login: Pick<PrimaryLogin, "read">;
  /** How long connecting and logging in may take; milliseconds. */
  readonly syncTimeoutMs: number;
  /** How long it may take nothing and say nothing while an answer is awaited; milliseconds. */
  readonly timeoutMs: number;
  /** Once it aborts, nothing more is opened or sent. */
  readonly signal: AbortSignal;
}

/** What an exchange brought: as many replies as came before the link broke, if it did. */
export interface Exchanged {
  readonly replies: readonly Reply[];
  readonly broken: ReplicaError | undefined;
  /** Whether anything was sent: not where the link was broken before. */
  readonly wasSent: boolean;
}

/** What is awaited. */
interface Awaited {
  readonly came: Reply[];
  /** How many replies are still to come, the elements of arrays among them. */
  left: number;
  readonly done: PromiseWithResolvers<Exchanged>;
}

/** A value has at most 512 MiB by a server's default, and a pipeline is as large as its batch, or as one value. */
const MAX_UNSENT_BYTES = 2 ** 40;
/** How often is looked whether anything moved. */
const LOOK_MS = 500;
/** How long answers are still awaited once it is to stop: an exit may take two seconds. */
const GRACE_MS = 1_000;

/**
 * A connection to a server for pipelines of commands, whose values may be large and whose replies are short. It is
 * opened once; once it is closed or broken, it stays so.
 */
export class TargetLink {
  readonly target: PrimaryTarget;
  /** The database that it is in. */
  db = 0;
  readonly #options: TargetLinkOptions;
  readonly #reader = new ReplyReader({ maxReplyBytes: limits.statusReplyBytes });
  #link: Link | undefined;
  #awaited: Awaited | undefined;
  #broken: ReplicaError | undefined;
  /** What it logged in with: the server may repeat it. */
  #secret: string | undefined;
  #heardBytes = 0;

  constructor(target: PrimaryTarget, options: TargetLinkOptions) {
    this.target = target;
    this.#options = options;
  }

  /** As it is told to people. */
  get name(): string {
    return describeTarget(this.target);
  }

  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  /** @throws ReplicaError as a link does; TIMED_OUT, AUTH_FAILED; STOPPED after `close`. */
  async open(): Promise<void> {
    const { tls, login, syncTimeoutMs, signal } = this.#options;
    signal.throwIfAborted();
    const credentials = login.read(this.target);
    this.#secret = credentials?.password;
    const opened = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      const message = `${this.name} doesn't answer within ${syncTimeoutMs} ms (--sync-timeout)`;
      this.#break(new ReplicaError("TIMED_OUT", { message }));
      opened.reject(this.#broken);
    }, syncTimeoutMs);
    const events = {
      opened: () => opened.resolve(),
      bytes: (bytes: Uint8Array) => this.#onBytes(bytes),
      lost: (error: ReplicaError) => {
        this.#break(this.#named(error));
        opened.reject(this.#broken);
      },
    };
    const stop = () => {
      this.close();
      opened.reject(this.#broken);
    };
    signal.addEventListener("abort", stop, { once: true });
    this.#link = new Link(this.target, tls, events, "the target", MAX_UNSENT_BYTES);
    try {
      await opened.promise;
      if (credentials === undefined) return;
      const { replies, broken } = await this.#exchange([authCommand(credentials)], 1);
      const [reply] = replies;
      if (reply === undefined) throw broken;
      readAuth(
        Buffer.from(`${reply.isError ? "-" : "+"}${reply.text}`),
        "the target",
        credentials.from,
      );
    } catch (error) {
      this.close();
      throw error instanceof ReplicaError ? errorWithoutSecret(error, this.#secret) : error;
    } finally {
      signal.removeEventListener("abort", stop);
      clearTimeout(timer);
    }
  }

  /**
   * Sends encoded commands and waits for their replies. One exchange at a time. Once it is to stop, what is out gets
   * another second.
   * @param count of replies; an array's elements come after its head.
   */
  async exchange(pieces: readonly Uint8Array[], count: number): Promise<Exchanged> {
    const { signal } = this.#options;
    let grace: ReturnType<typeof setTimeout> | undefined;
    const stop = () => {
      grace = setTimeout(() => this.#break(stopped()), GRACE_MS);
    };
    if (signal.aborted) return { replies: [], broken: stopped(), wasSent: false };
    signal.addEventListener("abort", stop, { once: true });
    try {
      return await this.#exchange(pieces, count);
    } finally {
      clearTimeout(grace);
      signal.removeEventListener("abort", stop);
    }
  }

  /**
   * Asks short questions.
   * @returns their replies, errors among them; an array's elements come after its head.
   * @throws ReplicaError where the link breaks first.
   */
  async ask(...commands: readonly (readonly string[])[]): Promise<readonly Reply[]> {
    const pieces = commands.map((words) => encodeCommand(...words));
    const { replies, broken } = await this.exchange(pieces, commands.length);
    if (broken !== undefined) throw broken;
    return replies;
  }

  close(): void {
    this.#break(stopped());
  }

  async #exchange(pieces: readonly Uint8Array[], count: number): Promise<Exchanged> {
    if (this.#broken !== undefined) return { replies: [], broken: this.#broken, wasSent: false };
    if (count === 0) return { replies: [], broken: undefined, wasSent: false };
    const awaited: Awaited = { came: [], left: count, done: Promise.withResolvers() };
    this.#awaited = awaited;
    const watch = this.#watchSilence();
    try {
      for (const piece of pieces) this.#link?.send(piece);
      return await awaited.done.promise;
    } finally {
      clearInterval(watch);
      this.#awaited = undefined;
    }
  }

  /** Breaks the link once nothing has moved for too long: a large value takes its time on a slow one. */
  #watchSilence(): ReturnType<typeof setInterval> {
    const { timeoutMs } = this.#options;
    const look = () => `${this.#heardBytes} ${this.#link?.unsentBytes ?? 0}`;
    let [last, movedMs] = [look(), performance.now()];
    return setInterval(() => {
      const now = look();
      if (now !== last) [last, movedMs] = [now, performance.now()];
      if (performance.now() - movedMs < timeoutMs) return;
      const message = `${this.name} takes nothing and says nothing for ${timeoutMs / 1000} s (--timeout)`;
      this.#break(new ReplicaError("TIMED_OUT", { message }));
    }, LOOK_MS);
  }

  #onBytes(bytes: Uint8Array): void {
    this.#heardBytes += bytes.length;
    try {
      this.#reader.push(bytes);
      for (let reply = this.#reader.next(); reply; reply = this.#reader.next()) this.#take(reply);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#break(this.#named(errorWithoutSecret(error, this.#secret)));
    }
  }

  #take(reply: Reply | ArrayHead): void {
    const awaited = this.#awaited;
    if (awaited === undefined || awaited.left === 0) {
      const message = "it answers what wasn't asked: is this a Redis port?";
      throw new ReplicaError("PROTOCOL", { message });
    }
    const text = reply.isError ? withoutSecret(reply.text, this.#secret) : reply.text;
    awaited.came.push({ isError: reply.isError, text });
    awaited.left += ("elements" in reply ? reply.elements : 0) - 1;
    if (awaited.left === 0)
      awaited.done.resolve({ replies: awaited.came, broken: undefined, wasSent: true });
  }

  #named(error: ReplicaError): ReplicaError {
    const { code, retry, message } = error;
    return new ReplicaError(code, { retry, message: `${this.name}: ${message}`, cause: error });
  }

  #break(error: ReplicaError): void {
    if (this.#broken !== undefined) return;
    this.#broken = error;
    this.#link?.close();
    this.#awaited?.done.resolve({ replies: this.#awaited.came, broken: error, wasSent: true });
  }
}

function stopped(): ReplicaError {
  return new ReplicaError("STOPPED", { message: "it was stopped", retry: "never" });
}
