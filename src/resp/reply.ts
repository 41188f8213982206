/** The protocol a client chose with HELLO: 2 unless it asked for 3. */
export type Proto = 2 | 3;

/*
 * Encodes replies as RESP ("RESP protocol specification"). Each function returns encoded bytes; a reply
 * that contains others takes them encoded.
 */

/** `+text`; line ends, which would end the reply early, become blanks. */
export function simple(text: string): Uint8Array {
  return Buffer.from(`+${oneLine(text)}\r\n`);
}

/** `-text`, which begins with its code: `ERR …`; line ends become blanks. Use latin1 to quote a peer's bytes. */
export function error(text: string, encoding: "utf8" | "latin1" = "utf8"): Uint8Array {
  return Buffer.from(`-${oneLine(text)}\r\n`, encoding);
}

/** `:value`. */
export function integer(value: number | bigint): Uint8Array {
  return Buffer.from(`:${value}\r\n`);
}

/** A bulk string; `null` is RESP2's null bulk string: where the protocol is known, use `nil`. */
export function bulk(value: string | Uint8Array | null): Uint8Array {
  if (value === null) return Buffer.from("$-1\r\n");
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n")]);
}

/** No value: `_` in RESP3, the null bulk string in RESP2. */
export function nil(proto: Proto): Uint8Array {
  return proto === 3 ? Buffer.from("_\r\n") : bulk(null);
}

/** True or false: `#t` or `#f` in RESP3, 1 or 0 in RESP2. */
export function bool(value: boolean, proto: Proto): Uint8Array {
  return proto === 3 ? Buffer.from(value ? "#t\r\n" : "#f\r\n") : integer(value ? 1 : 0);
}

/** A list of encoded replies. */
export function array(items: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([Buffer.from(`*${items.length}\r\n`), ...items]);
}

/** Pairs of encoded replies: a map in RESP3; in RESP2 a flat list of key, value, key, value. */
export function map(
  entries: readonly (readonly [Uint8Array, Uint8Array])[],
  proto: Proto,
): Uint8Array {
  if (proto === 2) return array(entries.flat());
  return Buffer.concat([Buffer.from(`%${entries.length}\r\n`), ...entries.flat()]);
}

/** A text for people (INFO): a verbatim string in RESP3, a bulk string in RESP2. */
export function verbatim(text: string, proto: Proto): Uint8Array {
  if (proto === 2) return bulk(text);
  // The length counts the format and its colon.
  return Buffer.from(`=${Buffer.byteLength(text) + 4}\r\ntxt:${text}\r\n`);
}

/** An unrequested message (pub/sub): a push in RESP3, a list in RESP2. */
export function push(items: readonly Uint8Array[], proto: Proto): Uint8Array {
  if (proto === 2) return array(items);
  return Buffer.concat([Buffer.from(`>${items.length}\r\n`), ...items]);
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]+/g, " ");
}
