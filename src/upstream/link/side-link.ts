import { ReplicaError } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import { errorWithoutSecret, printableAscii, withoutSecret } from "../../base/printable.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { parseInfo } from "../../resp/info-text.ts";
import { type ArrayHead, type Reply, ReplyReader } from "../../resp/reply-reader.ts";
import { authCommand } from "../../session/commands.ts";
import { readAuth } from "../../session/replies.ts";
import { Link, type LinkEvents, type Peer, type TlsFiles } from "./link.ts";
import type { PrimaryLogin } from "./primary-login.ts";

export interface SideLinkOptions {
  readonly tls: TlsFiles;
  /** The login of the link that follows, read at each connect; without a password, none is sent. */
  readonly login: Pick<PrimaryLogin, "read">;
  /** How long an answer may take, the connect included; milliseconds. */
  readonly syncTimeoutMs: number;
  /** How many replies one question may bring, the elements of arrays among them; undefined: `MAX_REPLIES`. */
  readonly maxReplies?: number;
  /** Undefined: the primary. */
  readonly peer?: Peer;
}

/** How many replies one question may bring, the elements of arrays among them: CONFIG GET brings three. */
const MAX_REPLIES = 64;

/** A question that is out. */
interface Question {
  readonly answers: PromiseWithResolvers<readonly Reply[]>;
  readonly came: Reply[];
  /** How many replies are still to come. */
  left: number;
  /** How many bytes of text came. */
  bytes: number;
}

/**
 * A second connection to the primary, for questions: once a replica is attached, its own link carries the stream
 * alone. Connects at the first question and stays open for the next ones; after a failure the next one connects anew.
 */
export class SideLink {
  readonly #target: PrimaryTarget;
  readonly #options: SideLinkOptions;
  #link: Link | undefined;
  #reader: ReplyReader;
  /** The login whose reply is still to come: where it is from, for an error. */
  #awaitsLogin: string | undefined;
  /** What the connection logged in with: the primary may repeat it. */
  #secret: string | undefined;
  #question: Question | undefined;

  constructor(target: PrimaryTarget, options: SideLinkOptions) {
    this.#target = target;
    this.#options = options;
    this.#reader = this.#newReader();
  }

  #newReader(): ReplyReader {
    const { maxReplies: maxElements } = this.#options;
    return new ReplyReader({ maxReplyBytes: limits.statusReplyBytes, maxElements });
  }

  /** True while a question waits for its answer. */
  get isAsking(): boolean {
    return this.#question !== undefined;
  }

  /**
   * Sends commands at once and resolves with their replies, errors among them; an array's elements come after its
   * head. One question at a time.
   * @throws ReplicaError as a link does; TIMED_OUT, AUTH_FAILED, PROTOCOL. LINK_LOST after `close`.
   */
  async ask(...commands: readonly (readonly string[])[]): Promise<readonly Reply[]> {
    const answers = Promise.withResolvers<readonly Reply[]>();
    this.#question = { answers, came: [], left: commands.length, bytes: 0 };
    const { syncTimeoutMs } = this.#options;
    const timer = setTimeout(() => {
      const message = `no answer within ${syncTimeoutMs} ms (--sync-timeout)`;
      answers.reject(new ReplicaError("TIMED_OUT", { message }));
    }, syncTimeoutMs);
    try {
      const bytes = Buffer.concat(commands.map((words) => encodeCommand(...words)));
      if (this.#link === undefined) this.#connect(bytes);
      else this.#link.send(bytes);
      return await answers.promise;
    } catch (error) {
      // A late answer would be taken for that of the next question.
      this.#drop();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#question = undefined;
    }
  }

  /** Closes it, and rejects what is asked. */
  close(): void {
    this.#question?.answers.reject(
      new ReplicaError("LINK_LOST", { message: "this question is not asked any more" }),
    );
    this.#drop();
  }

  #drop(): void {
    this.#link?.close();
    this.#link = undefined;
  }

  #connect(first: Uint8Array): void {
    const { tls, peer } = this.#options;
    const login = this.#options.login.read(this.#target);
    this.#reader = this.#newReader();
    this.#awaitsLogin = login?.from;
    this.#secret = login?.password;
    const opening = login === undefined ? [] : [authCommand(login)];
    const events: LinkEvents = {
      opened: () => link.send(Buffer.concat([...opening, first])),
      bytes: (bytes) => {
        if (link === this.#link) this.#onBytes(bytes);
      },
      lost: (error) => {
        if (link !== this.#link) return;
        this.#link = undefined;
        this.#question?.answers.reject(error);
      },
    };
    const link = new Link(this.#target, tls, events, peer);
    this.#link = link;
  }

  #onBytes(bytes: Uint8Array): void {
    try {
      this.#reader.push(bytes);
      for (let reply = this.#reader.next(); reply; reply = this.#reader.next()) this.#take(reply);
    } catch (cause) {
      const error = cause instanceof ReplicaError ? errorWithoutSecret(cause, this.#secret) : cause;
      this.#question?.answers.reject(error);
      this.#drop();
    }
  }

  #take(reply: Reply | ArrayHead): void {
    if (this.#awaitsLogin !== undefined) {
      const from = this.#awaitsLogin;
      this.#awaitsLogin = undefined;
      readAuth(
        Buffer.from(`${reply.isError ? "-" : "+"}${reply.text}`),
        this.#options.peer ?? "the primary",
        from,
      );
      return;
    }
    const question = this.#question;
    if (question === undefined) return;
    const { maxReplies = MAX_REPLIES } = this.#options;
    if (question.came.length >= maxReplies) {
      throw new ReplicaError("PROTOCOL", {
        message: `got more than ${maxReplies} replies to one question: is this a Redis port?`,
      });
    }
    question.bytes += reply.text.length;
    if (question.bytes > limits.answerBytes) {
      throw new ReplicaError("PROTOCOL", {
        message: `got more than ${limits.answerBytes} bytes in answer to one question: is this a Redis port?`,
      });
    }
    const text = reply.isError ? withoutSecret(reply.text, this.#secret) : reply.text;
    question.came.push({ ...reply, text });
    question.left += ("elements" in reply ? reply.elements : 0) - 1;
    if (question.left === 0) question.answers.resolve(question.came);
  }
}

const MAX_SAID_CHARACTERS = 200;

/**
 * Asks a primary for INFO once, over a connection that is closed afterwards.
 * @throws ReplicaError as `SideLink.ask`; PRIMARY_REFUSED where it may not be asked; PROTOCOL for an array.
 */
export async function askInfo(
  target: PrimaryTarget,
  options: SideLinkOptions,
): Promise<ReadonlyMap<string, string>> {
  const side = new SideLink(target, options);
  try {
    const [reply, more] = await side.ask(["INFO", "default"]);
    if (more !== undefined) {
      throw new ReplicaError("PROTOCOL", { message: "INFO is answered with an array" });
    }
    if (reply === undefined || reply.isError) {
      const said = printableAscii(reply?.text ?? "", MAX_SAID_CHARACTERS);
      throw new ReplicaError("PRIMARY_REFUSED", { message: `INFO is refused: ${said}` });
    }
    return parseInfo(reply.text);
  } finally {
    side.close();
  }
}
