/** Up to this length a string lies in one piece with its object ("Redis, object.c": OBJ_ENCODING_EMBSTR_SIZE_LIMIT). */
const EMBSTR_BYTES = 44;
/** A string of more characters is no 64-bit number. */
export const INTEGER_CHARACTERS = 20;

const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
/** The digits of the largest 64-bit numbers; of the negative ones the last digit is one more. */
const LARGEST = "9223372036854775807";

/** The encoding that servers choose for a string. */
export function textEncoding(bytes: Uint8Array, from: number, to: number): string {
  const length = to - from;
  if (length <= INTEGER_CHARACTERS && isInteger(bytes, from, to)) return "int";
  return encodingByLength(length);
}

/** The encoding that servers choose for a string that is no number. */
export function encodingByLength(length: number): string {
  return length <= EMBSTR_BYTES ? "embstr" : "raw";
}

/** How many characters a number of 32 bits has as text. */
export function decimalLength(value: number): number {
  let length = value < 0 ? 2 : 1;
  for (let left = Math.abs(value); left >= 10; left = Math.floor(left / 10)) length++;
  return length;
}

/** Whether bytes are a 64-bit number as it is printed, which servers keep as such ("Redis, util.c": string2ll). */
export function isInteger(bytes: Uint8Array, from: number, to: number): boolean {
  const isNegative = to - from > 1 && bytes[from] === MINUS;
  const first = isNegative ? from + 1 : from;
  const digits = to - first;
  if (digits < 1 || digits > LARGEST.length) return false;
  if (bytes[first] === ZERO) return digits === 1 && !isNegative;
  for (let at = first; at < to; at++) {
    if (bytes[at]! < ZERO || bytes[at]! > NINE) return false;
  }
  if (digits < LARGEST.length) return true;
  for (let place = 0; place < digits; place++) {
    const difference = bytes[first + place]! - LARGEST.charCodeAt(place);
    const isLast = place === digits - 1;
    if (difference > (isNegative && isLast ? 1 : 0)) return false;
    if (difference < 0) return true;
  }
  return true;
}
