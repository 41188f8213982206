/**
 * RESP for tests, independent of the program's own implementation, so that the two check each other.
 */

/** An error reply; the message is the line without its "-". */
export class ReplyError extends Error {}

export type Reply =
  string | number | bigint | boolean | null | ReplyError | readonly Reply[] | Map<string, Reply>;

/** A reply, or a RESP3 push message. */
export interface Incoming {
  readonly push: boolean;
  readonly value: Reply;
}

/** A command as the array of bulk strings that clients send. */
export function encodeCommand(words: readonly (string | number | Uint8Array)[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(`*${words.length}\r\n`)];
  for (const word of words) {
    const bytes = word instanceof Uint8Array ? word : Buffer.from(String(word));
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

/** Received bytes that aren't parsed yet. */
export class ByteQueue {
  #bytes: Buffer = Buffer.alloc(0);
  #chunks: Uint8Array[] = [];

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  /** All of them, as one view. */
  get bytes(): Buffer {
    if (this.#chunks.length > 0) {
      this.#bytes = Buffer.concat([this.#bytes, ...this.#chunks]);
      this.#chunks = [];
    }
    return this.#bytes;
  }

  drop(count: number): void {
    this.#bytes = this.bytes.subarray(count);
  }
}

interface Parsed {
  readonly value: Reply;
  readonly push: boolean;
  readonly end: number;
}

/** Parses RESP2 and RESP3 replies from bytes that arrive in any pieces. */
export class ReplyReader {
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;

  push(chunk: Uint8Array): void {
    const rest = this.#bytes.subarray(this.#at);
    this.#bytes = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    this.#at = 0;
  }

  /** The next reply, or `undefined` while it is incomplete. */
  next(): Incoming | undefined {
    const parsed = parseReply(this.#bytes, this.#at);
    if (parsed === undefined) return undefined;
    this.#at = parsed.end;
    return { push: parsed.push, value: parsed.value };
  }
}

function parseReply(bytes: Buffer, start: number): Parsed | undefined {
  const lineEnd = bytes.indexOf("\r\n", start, "latin1");
  if (lineEnd < 0) return undefined;
  const type = String.fromCharCode(bytes[start] ?? 0);
  const line = bytes.toString("utf8", start + 1, lineEnd);
  const end = lineEnd + 2;
  const simple = (value: Reply): Parsed => ({ value, push: false, end });
  switch (type) {
    case "+":
      return simple(line);
    case "-":
      return simple(new ReplyError(line));
    case ":":
      return simple(Number(line));
    case ",":
      return simple(line === "inf" ? Infinity : line === "-inf" ? -Infinity : Number(line));
    case "(":
      return simple(BigInt(line));
    case "#":
      return simple(line === "t");
    case "_":
      return simple(null);
    case "$":
    case "=":
    case "!":
      return parseBulk(bytes, type, Number(line), end);
    case "*":
    case "~":
    case ">":
    case "%":
      return parseAggregate(bytes, type, Number(line), end);
    default:
      throw new Error(`not RESP: ${JSON.stringify(type + line.slice(0, 60))}`);
  }
}

function parseBulk(bytes: Buffer, type: string, length: number, at: number): Parsed | undefined {
  if (length < 0) return { value: null, push: false, end: at };
  const end = at + length + 2;
  if (bytes.length < end) return undefined;
  const text = bytes.toString("utf8", at, at + length);
  const value = type === "!" ? new ReplyError(text) : type === "=" ? text.slice(4) : text;
  return { value, push: false, end };
}

function parseAggregate(
  bytes: Buffer,
  type: string,
  count: number,
  at: number,
): Parsed | undefined {
  if (count < 0) return { value: null, push: false, end: at };
  const items: Reply[] = [];
  let end = at;
  for (let left = type === "%" ? count * 2 : count; left > 0; left--) {
    const item = parseReply(bytes, end);
    if (item === undefined) return undefined;
    items.push(item.value);
    end = item.end;
  }
  if (type !== "%") return { value: items, push: type === ">", end };
  const map = new Map<string, Reply>();
  for (let i = 0; i < items.length; i += 2) map.set(String(items[i]), items[i + 1] ?? null);
  return { value: map, push: false, end };
}
