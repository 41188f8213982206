import { isAtLeast, type Release } from "../../rdb/releases.ts";
import { payloadVersion } from "../../rdb/payload-format.ts";
import { invariant } from "../../base/errors.ts";
import { payloadOf } from "./entry.ts";
import { FIRST_ABSOLUTE } from "./fit.ts";
import type { Parcel } from "./parcel.ts";

/** Words up to this long are copied together, into buffers of this size; longer ones go out as they are. */
const TOGETHER_BYTES = 64 * 1024;
/** `$` or `*`, a length and a line end. */
const HEAD_BYTES = 24;

/** A word of a command; it may come in parts. */
export type Word = string | number | Uint8Array | readonly Uint8Array[];

/** Encodes commands one after the other: small words together, large ones without a copy. */
export class Pipeline {
  readonly #pieces: Uint8Array[] = [];
  #buffer = Buffer.allocUnsafe(TOGETHER_BYTES);
  /** What is written of the buffer, and where what isn't a piece yet begins. */
  #at = 0;
  #from = 0;

  /** Adds a command. */
  add(words: readonly Word[]): void {
    this.#head("*", words.length);
    for (const word of words) {
      if (word instanceof Uint8Array) {
        this.#head("$", word.length);
        this.#put(word);
      } else if (typeof word === "object") {
        this.#head(
          "$",
          word.reduce((sum, part) => sum + part.length, 0),
        );
        for (const part of word) this.#put(part);
      } else {
        // ASCII: names of commands, and numbers.
        const text = String(word);
        this.#head("$", text.length);
        this.#text(text);
      }
      this.#text("\r\n");
    }
  }

  /** What was added, in pieces. */
  end(): readonly Uint8Array[] {
    this.#cut();
    return this.#pieces;
  }

  #head(type: "*" | "$", length: number): void {
    this.#text(`${type}${length}\r\n`);
  }

  #text(text: string): void {
    this.#room(text.length + HEAD_BYTES);
    this.#at += this.#buffer.write(text, this.#at, "latin1");
  }

  #put(bytes: Uint8Array): void {
    if (bytes.length > TOGETHER_BYTES / 2) {
      this.#cut();
      this.#pieces.push(bytes);
      return;
    }
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    this.#cut();
    this.#buffer = Buffer.allocUnsafe(TOGETHER_BYTES);
    this.#at = 0;
    this.#from = 0;
  }

  #cut(): void {
    if (this.#at > this.#from) this.#pieces.push(this.#buffer.subarray(this.#from, this.#at));
    this.#from = this.#at;
  }
}

/** How RESTORE is to be sent. */
export interface RestoreForm {
  readonly server: Release;
  readonly replace: boolean;
  /** Of the target's clock, in milliseconds since 1970: before Redis 5.0, an expiry counts from when it arrives. */
  readonly nowMs: number;
}

/**
 * The words of `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds | FREQ counter]` ("Redis 5.0, cluster.c,
 * restoreCommand"). How long it wasn't used and how often it was are of use to a policy alone; others pass over them.
 */
export function restoreWords({ entry }: Parcel, { server, replace, nowMs }: RestoreForm) {
  const { key, opcode, magic, rdbVersion, expiresAtMs, idleSeconds, frequency } = entry;
  const version = payloadVersion(opcode, { magic, version: rdbVersion }, server);
  invariant(version !== undefined, "the target was asked whether it knows the type");
  const isNew = isAtLeast(server, FIRST_ABSOLUTE, 0);
  const ttl = expiresAtMs === undefined ? 0 : isNew ? expiresAtMs : expiresAtMs - nowMs;
  const words: Word[] = [
    "RESTORE",
    key,
    // 0 means none.
    expiresAtMs === undefined ? 0 : Math.max(1, Math.round(ttl)),
    payloadOf(entry, version),
  ];
  if (replace) words.push("REPLACE");
  if (!isNew) return words;
  if (expiresAtMs !== undefined) words.push("ABSTTL");
  if (idleSeconds !== undefined) words.push("IDLETIME", idleSeconds);
  else if (frequency !== undefined) words.push("FREQ", frequency);
  return words;
}
