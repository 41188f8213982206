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

/**
 * Encodes `SELECT <db>`, the first bytes of a log: a server starts every append-only file in database 0,
 * so a log without its SELECT would silently go to the wrong one.
 */
export function selectCommand(db: number): Uint8Array {
  return encodeCommand("SELECT", db);
}
