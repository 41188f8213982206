import { isUtf8 } from "node:buffer";
import { jsonLine, printable } from "../../base/printable.ts";

/** A word is written in pieces of so many bytes, a multiple of 3 for base64: a value of 512 MB takes no memory again. */
const PIECE_BYTES = 3 * 256 * 1024;

/** Takes text that is to be written. */
export type Write = (text: string) => void;

/** Writes bytes as JSON: text where they are UTF-8, else `{"base64":"…"}`. */
export function writeJsonWord(word: Uint8Array, write: Write): void {
  if (isPlain(word)) {
    write(`"${latin1.call(word, 0, word.length)}"`);
    return;
  }
  if (word.length <= PIECE_BYTES) {
    write(isUtf8(word) ? jsonLine(textOf(word, "utf8")) : inBase64(textOf(word, "base64")));
    return;
  }
  const isText = isUtf8(word);
  write(isText ? '"' : '{"base64":"');
  for (const piece of piecesOf(word, isText)) {
    write(isText ? jsonLine(textOf(piece, "utf8")).slice(1, -1) : textOf(piece, "base64"));
  }
  write(isText ? '"' : '"}');
}

const latin1: (this: Uint8Array, from: number, to: number) => string = Buffer.prototype.latin1Slice;
/** Longer words are looked through natively. */
const SHORT_BYTES = 128;

/** Whether a short word is ASCII that nothing needs to be done about, as most are. */
function isPlain(word: Uint8Array): boolean {
  if (word.length > SHORT_BYTES || word.length === 0) return false;
  for (let at = 0; at < word.length; at++) {
    const byte = word[at]!;
    if (byte <= SPACE || byte > TILDE || byte === QUOTE || byte === BACKSLASH) return false;
  }
  return true;
}

const SPACE = 0x20;
const TILDE = 0x7e;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

function inBase64(text: string): string {
  return `{"base64":"${text}"}`;
}

/** What stands in the place of a character that would move a cursor, end a line or a word. */
const ESCAPES: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  '"': '\\"',
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/**
 * Writes bytes for people, on one line: as they are where that is plain text, else in quotes and escaped as redis-cli does and
 * reads it.
 */
export function writeShownWord(word: Uint8Array, write: Write): void {
  if (isPlain(word)) {
    write(latin1.call(word, 0, word.length));
    return;
  }
  const isText = isUtf8(word);
  if (isText && word.length <= PIECE_BYTES) {
    const text = textOf(word, "utf8");
    const isBare = /^[^\s"\\]+$/u.test(text) && printable(text) === text;
    write(isBare ? text : `"${escapedText(text)}"`);
    return;
  }
  write('"');
  for (const piece of piecesOf(word, isText)) {
    write(isText ? escapedText(textOf(piece, "utf8")) : escapedBytes(piece));
  }
  write('"');
}

/** The beginning of a word, with no part of a character at its end. */
export function beginningOf(word: Uint8Array, maxBytes: number): Uint8Array {
  return word.subarray(0, isUtf8(word) ? characterEnd(word, maxBytes) : maxBytes);
}

function escapedText(text: string): string {
  return text.replace(
    /[\\"\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
    (character) => ESCAPES[character] ?? hexOf(Buffer.from(character)),
  );
}

const HEX = Buffer.from("0123456789abcdef");

/** Bytes that are no text, with those that aren't ASCII in hex. */
function escapedBytes(piece: Uint8Array): string {
  const shown = Buffer.allocUnsafe(piece.length * "\\xff".length);
  let end = 0;
  for (let at = 0; at < piece.length; at++) {
    const byte = piece[at]!;
    if (byte >= SPACE && byte <= TILDE && byte !== QUOTE && byte !== BACKSLASH) {
      shown[end++] = byte;
      continue;
    }
    shown[end++] = BACKSLASH;
    const letter = byte < ESCAPED.length ? ESCAPED[byte]! : 0;
    if (letter !== 0) {
      shown[end++] = letter;
      continue;
    }
    shown[end++] = LETTER_X;
    shown[end++] = HEX[byte >> 4]!;
    shown[end++] = HEX[byte & 0xf]!;
  }
  return latin1.call(shown, 0, end);
}

const LETTER_X = 0x78;
/** What follows the backslash of a byte that has an escape of its own; 0 for all others. */
const ESCAPED = Uint8Array.from({ length: 128 }, (_, byte) => {
  return ESCAPES[String.fromCharCode(byte)]?.charCodeAt(1) ?? 0;
});

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

function textOf(bytes: Uint8Array, encoding: "utf8" | "base64"): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(encoding);
}

/** While a large word is held, the garbage collector would let as much text of written pieces pile up beside it. */
const COLLECT_BYTES = 32 * 1024 * 1024;

function* piecesOf(word: Uint8Array, isText: boolean): Generator<Uint8Array> {
  let collectAt = COLLECT_BYTES;
  for (let at = 0; at < word.length;) {
    const end = Math.min(at + PIECE_BYTES, word.length);
    const to = isText ? characterEnd(word, end) : end;
    yield word.subarray(at, to);
    at = to;
    if (at < collectAt) continue;
    Bun.gc(true);
    collectAt += COLLECT_BYTES;
  }
}

/** The end of the last whole character of UTF-8 that ends at a byte or before. */
function characterEnd(text: Uint8Array, at: number): number {
  let end = Math.min(at, text.length);
  while (end > 0 && end < text.length && (text[end]! & 0xc0) === 0x80) end--;
  return end;
}
