import { ReplicaError } from "../base/errors.ts";
import { printableAscii } from "../base/printable.ts";

const CRLF = "\r\n";
const EMPTY = Buffer.alloc(0);

/** One reply: its text; for an error, without the `-`. A null is an empty text. */
export interface Reply {
  readonly isError: boolean;
  readonly text: string;
}

/** The head of an array: so many replies that follow are its elements. */
export interface ArrayHead extends Reply {
  readonly elements: number;
}

/** How many elements an array may have where nobody says more: those of CONFIG GET are a name and a value. */
const MAX_ELEMENTS = 64;

/**
 * Reads a server's replies that are a line, a number or a bulk string, as those to PING, INFO and DEBUG
 * DIGEST are; split anywhere. An array, as CONFIG GET's, comes as its head and then its elements.
 *
 * Holds what was pushed and not yet taken, at most one reply of `maxReplyBytes`.
 */
export class ReplyReader {
  readonly #maxReplyBytes: number;
  readonly #maxElements: number;
  #unread: Buffer = EMPTY;

  /**
   * @param options.maxReplyBytes the longest reply that is accepted.
   * @param options.maxElements the longest array, each of which counts by itself where they are nested.
   */
  constructor(options: { maxReplyBytes: number; maxElements?: number | undefined }) {
    this.#maxReplyBytes = options.maxReplyBytes;
    this.#maxElements = options.maxElements ?? MAX_ELEMENTS;
  }

  push(chunk: Uint8Array): void {
    this.#unread = Buffer.concat([this.#unread, chunk]);
  }

  /**
   * Takes the next reply.
   * @returns `undefined` where the rest of it has not come yet.
   * @throws ReplicaError PROTOCOL for another type, a longer array, and a reply longer than `maxReplyBytes`.
   */
  next(): Reply | ArrayHead | undefined {
    const lineEnd = this.#unread.indexOf(CRLF);
    if (lineEnd === -1) return this.#wait(this.#unread.length);
    const line = this.#unread.toString("utf8", 1, lineEnd);
    const type = String.fromCharCode(this.#unread[0]!);
    if (/[+:-]/.test(type)) return this.#take(type, 0, lineEnd, line);
    if (type === "*" && /^\d{1,6}$/.test(line) && Number(line) <= this.#maxElements) {
      return { ...this.#take(type, 0, lineEnd, line), elements: Number(line) };
    }
    const isNull = line === "-1";
    if (type !== "$" || !(isNull || /^\d{1,15}$/.test(line))) {
      const shown = printableAscii(`${type}${line}`, 61);
      throw new ReplicaError("PROTOCOL", {
        message: `expected a line, a number or a bulk string, got '${shown}'`,
      });
    }
    if (isNull) return this.#take(type, 0, lineEnd, "");
    const end = lineEnd + CRLF.length + Number(line);
    if (end + CRLF.length > this.#unread.length) return this.#wait(end);
    return this.#take(type, lineEnd + CRLF.length, end);
  }

  #take(type: string, start: number, end: number, line?: string): Reply {
    const text = line ?? this.#unread.toString("utf8", start, end);
    this.#unread = this.#unread.subarray(end + CRLF.length);
    return { isError: type === "-", text };
  }

  #wait(bytes: number): undefined {
    if (bytes <= this.#maxReplyBytes) return undefined;
    throw new ReplicaError("PROTOCOL", {
      message: `got a reply longer than ${this.#maxReplyBytes} bytes: is this a Redis port?`,
    });
  }
}
