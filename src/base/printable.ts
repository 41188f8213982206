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
