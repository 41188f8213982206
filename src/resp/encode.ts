/**
 * Encodes one command as RESP: an array of bulk strings ("RESP, sending commands to a Redis server").
 * @param args strings are encoded as UTF-8, numbers in decimal, bytes as they are.
 */
export function encodeCommand(...args: (string | Uint8Array | number)[]): Uint8Array {
  const pieces: (string | Uint8Array)[] = [`*${args.length}\r\n`];
  let totalBytes = pieces[0]!.length;
  for (const arg of args) {
    const piece = typeof arg === "number" ? String(arg) : arg;
    const bytes = typeof piece === "string" ? Buffer.byteLength(piece) : piece.length;
    const header = `$${bytes}\r\n`;
    pieces.push(header, piece, "\r\n");
    totalBytes += header.length + bytes + 2;
  }
  const out = Buffer.alloc(totalBytes);
  let position = 0;
  for (const piece of pieces) {
    if (typeof piece === "string") {
      position += out.write(piece, position);
    } else {
      out.set(piece, position);
      position += piece.length;
    }
  }
  return out;
}

const CR = 0x0d;
const LF = 0x0a;
const STAR = 0x2a;
const DOLLAR = 0x24;
const ZERO = 0x30;
/** The longest head of an array or a word: `$`, the digits of a length, CR and LF. */
const MAX_HEAD_BYTES = 16;

/** Up to so many, copying them one by one is faster than a call. */
const FEW_BYTES = 64;

/** Encodes commands one after the other, each as `encodeCommand` does, several times as fast. */
export function encodeCommands(commands: readonly (readonly Uint8Array[])[]): Uint8Array {
  let maxBytes = 0;
  for (const words of commands) {
    maxBytes += MAX_HEAD_BYTES;
    for (const word of words) maxBytes += MAX_HEAD_BYTES + word.length + 2;
  }
  const out = Buffer.allocUnsafe(maxBytes);
  let at = 0;
  for (const words of commands) {
    at = writeHead(out, at, STAR, words.length);
    for (const word of words) {
      at = writeHead(out, at, DOLLAR, word.length);
      const { length } = word;
      if (length > FEW_BYTES) out.set(word, at);
      else for (let index = 0; index < length; index++) out[at + index] = word[index]!;
      at += length;
      out[at++] = CR;
      out[at++] = LF;
    }
  }
  return out.subarray(0, at);
}

function writeHead(out: Uint8Array, from: number, type: number, count: number): number {
  let at = from;
  out[at++] = type;
  let digits = 1;
  for (let rest = count; rest >= 10; rest = Math.floor(rest / 10)) digits++;
  for (let index = at + digits - 1, rest = count; index >= at; index--) {
    out[index] = ZERO + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  at += digits;
  out[at++] = CR;
  out[at++] = LF;
  return at;
}

/**
 * Encodes `SELECT <db>`, the first bytes of a log: a server starts every append-only file in database 0,
 * so a log without its SELECT would silently go to the wrong one.
 */
export function selectCommand(db: number): Uint8Array {
  return encodeCommand("SELECT", db);
}
