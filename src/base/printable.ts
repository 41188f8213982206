import { ReplicaError } from "./errors.ts";

/** Characters that move a terminal's cursor, end a line or reorder text, and halves of surrogate pairs. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const CUT = "…";
const HIDDEN = "***";

/** Makes a peer's or a file's text safe to show on one line: unsafe characters become `?`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, "?");
}

/**
 * The same for text of an ASCII protocol: everything that isn't printable ASCII becomes `?`.
 * @param maxCharacters longer text is cut there.
 */
export function printableAscii(text: string, maxCharacters = Infinity): string {
  return text.slice(0, maxCharacters).replace(/[^ -~]/g, "?");
}

/**
 * The same for a peer's line in bytes.
 * @param maxBytes a longer line is cut there, and ends with `…`.
 */
export function printableBytes(line: Uint8Array, maxBytes = 120): string {
  const text = printableAscii(Buffer.from(line.subarray(0, maxBytes)).toString("latin1"));
  return line.length > maxBytes ? `${text}${CUT}` : text;
}

/** What a quoted name shows in another way; redis-cli reads it back. */
const ESCAPES: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  '"': '\\"',
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/**
 * Shows a name that is any bytes, on one line, so that two that differ look different: as it is where that is text, else in
 * quotes and escaped as redis-cli does and reads it (`"raw:\x00\n"`).
 */
export function printableName(name: Uint8Array): string {
  const text = utf8Of(name);
  if (
    text !== undefined &&
    /^[^\s"\\](?:[^"\\]*[^\s"\\])?$/u.test(text) &&
    printable(text) === text
  )
    return text;
  let shown = "";
  for (let at = 0; at < name.length;) {
    const { character, bytes } = characterAt(name, at);
    shown += character ?? `\\x${name[at]!.toString(16).padStart(2, "0")}`;
    at += bytes;
  }
  return `"${shown}"`;
}

/** The text that bytes are in UTF-8; undefined where they are none. */
export function utf8Of(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes as JSON: text where they are UTF-8, else `{"base64": "…"}`. */
export function bytesToJson(bytes: Uint8Array): string | { readonly base64: string } {
  return utf8Of(bytes) ?? { base64: Buffer.from(bytes).toString("base64") };
}

/** What JSON may hold as it stands, and a terminal acts on: DEL, C1 controls, marks that reorder text. */
const UNSAFE_IN_JSON = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** JSON on one line that changes nothing on a terminal, and means the same: such characters are escaped. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE_IN_JSON, (character) =>
    Array.from({ length: character.length }, (_, at) => {
      return `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`;
    }).join(""),
  );
}

/** Whether text has a character that a terminal acts on, or that ends a line. */
export function hasControls(text: string): boolean {
  return /\p{Cc}/u.test(text);
}

/** Bytes without the beginning of a UTF-8 character that was cut off at their end. */
export function wholeCharacters(bytes: Uint8Array): Uint8Array {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) break;
    if (byte < 0xc0) continue;
    return characterBytes(byte) > back ? bytes.subarray(0, bytes.length - back) : bytes;
  }
  return bytes;
}

/** How many bytes a UTF-8 character has that begins with this one. */
function characterBytes(lead: number): number {
  if (lead < 0xc0) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/** How a character in quotes is shown, and how many bytes it has; undefined: its first byte is to be shown in hex. */
function characterAt(
  name: Uint8Array,
  at: number,
): { readonly character: string | undefined; readonly bytes: number } {
  const lead = name[at]!;
  const bytes = characterBytes(lead);
  const text = utf8Of(name.subarray(at, at + bytes));
  if (text === undefined) return { character: undefined, bytes: 1 };
  const character = ESCAPES[text] ?? (printable(text) === text ? text : undefined);
  return { character, bytes: character === undefined ? 1 : bytes };
}

/**
 * Hides a secret in what is shown of a peer that repeats it, also where the text was cut within it.
 * @param text as the functions above make it.
 * @param secret undefined: there is none.
 */
export function withoutSecret(text: string, secret: string | undefined): string {
  if (secret === undefined || secret === "") return text;
  const asBytes = Buffer.from(secret).toString("latin1");
  // The longest first: another may be its beginning.
  const forms = [
    secret,
    printable(secret),
    printableAscii(secret),
    printableAscii(asBytes),
  ].toSorted((a, b) => b.length - a.length);
  return forms.reduce((shown, form) => {
    const whole = shown.replaceAll(form, HIDDEN);
    const cut = Array.from(form, (_, at) => `${form.slice(0, at)}${CUT}`).findLast(
      (beginning) => beginning !== CUT && whole.includes(beginning),
    );
    return cut === undefined ? whole : whole.replaceAll(cut, `${HIDDEN}${CUT}`);
  }, text);
}

/** The same for an error; one that doesn't repeat the secret is returned as it is. */
export function errorWithoutSecret(error: ReplicaError, secret: string | undefined): ReplicaError {
  const message = withoutSecret(error.message, secret);
  if (message === error.message) return error;
  const { code, retry, cause } = error;
  return new ReplicaError(code, { message, retry, cause });
}
