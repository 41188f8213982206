/** Characters that move a terminal's cursor, end a line or reorder text, and halves of surrogate pairs. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Makes a peer's or a file's text safe to show on one line: unsafe characters become `?`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, "?");
}

/**
 * The same for bytes of an ASCII protocol, decoded as Latin-1 or UTF-8: everything else becomes `?`.
 * @param maxCharacters longer text is cut there.
 */
export function printableAscii(text: string, maxCharacters: number): string {
  return text.slice(0, maxCharacters).replace(/[^ -~]/g, "?");
}
