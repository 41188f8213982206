const BACKSLASH = 0x5c;
const DOUBLE_QUOTE = 0x22;
const SINGLE_QUOTE = 0x27;
const LOWER_X = 0x78;

/** What `\n`, `\r`, `\t`, `\b` and `\a` stand for inside double quotes. */
const ESCAPES = new Map([
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
  [0x62, 0x08],
  [0x61, 0x07],
]);

/**
 * Splits an inline command (a line without its line end) into its arguments, by the rules of sdssplitargs
 * ("Redis, sds.c"): blanks separate; double quotes allow escapes, `\xhh` included; single quotes allow `\'`
 * only; a blank or the end must follow a closing quote.
 * @returns `undefined` for unbalanced quotes; the empty list for a blank line.
 */
export function splitInline(text: Uint8Array): Uint8Array[] | undefined {
  const args: Uint8Array[] = [];
  let at = 0;
  for (;;) {
    while (isSpace(text[at])) at++;
    if (at >= text.length) return args;
    const arg: number[] = [];
    // Quotes may open in the middle of an argument, but nothing follows them when they close.
    for (;;) {
      const byte = text[at];
      if (byte === undefined || isDivider(byte)) break;
      if (byte === DOUBLE_QUOTE || byte === SINGLE_QUOTE) {
        const end = readQuoted(text, at + 1, byte, arg);
        if (end === undefined || (end < text.length && !isSpace(text[end]))) return undefined;
        at = end;
        break;
      }
      arg.push(byte);
      at++;
    }
    args.push(Uint8Array.from(arg));
  }
}

/** Reads up to the closing quote, into `arg`. Returns the position after it; `undefined` where it is missing. */
function readQuoted(
  text: Uint8Array,
  start: number,
  quote: number,
  arg: number[],
): number | undefined {
  let at = start;
  for (;;) {
    const byte = text[at];
    if (byte === undefined) return undefined;
    if (byte === quote) return at + 1;
    const next = text[at + 1];
    if (byte !== BACKSLASH || next === undefined) {
      arg.push(byte);
      at += 1;
    } else if (quote === SINGLE_QUOTE) {
      arg.push(next === SINGLE_QUOTE ? next : byte);
      at += next === SINGLE_QUOTE ? 2 : 1;
    } else {
      const hex = next === LOWER_X ? parseHex(text.subarray(at + 2, at + 4)) : undefined;
      arg.push(hex ?? ESCAPES.get(next) ?? next);
      at += hex === undefined ? 2 : 4;
    }
  }
}

function parseHex(digits: Uint8Array): number | undefined {
  const text = String.fromCharCode(...digits);
  return /^[0-9a-fA-F]{2}$/.test(text) ? Number.parseInt(text, 16) : undefined;
}

/** C's isspace. */
function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || (byte !== undefined && byte >= 0x09 && byte <= 0x0d);
}

/** The blanks that end an argument outside quotes: fewer than isspace has, as in sdssplitargs. */
function isDivider(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
