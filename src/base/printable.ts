/** Characters that move a terminal's cursor, end a line or reorder text, and halves of surrogate pairs. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

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
  return line.length > maxBytes ? `${text}…` : text;
}
