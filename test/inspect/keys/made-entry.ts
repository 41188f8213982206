import type { KeyEntry } from "../../../src/inspect/keys/key-entry.ts";

/** An entry of a snapshot as tests need it; it takes 10 bytes unless told otherwise. */
export function entryOf(
  key: string | Uint8Array,
  more: Partial<KeyEntry> & { readonly bytes?: number } = {},
): KeyEntry {
  const { bytes = 10, ...rest } = more;
  const keyBuffer = typeof key === "string" ? Buffer.from(key) : key;
  return {
    db: 0,
    keyBuffer,
    keyStart: 0,
    keyEnd: keyBuffer.length,
    kind: "string",
    module: undefined,
    encoding: "raw",
    expiresAtMs: undefined,
    elements: 1,
    startByte: 100,
    endByte: 100 + bytes,
    ...rest,
  };
}
