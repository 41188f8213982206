const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NAME_LENGTH = 9;
/** Below the name stands the version of the encoding. */
const VERSION_BITS = 10;
const CHARACTER_BITS = 6;

/** The name of a module's type, 9 characters, from the id of it ("Redis, module.c": moduleTypeNameByID). */
export function moduleName(bytes: Uint8Array, at: number): string {
  let left = 0n;
  for (let byte = 0; byte < 8; byte++) left = (left << 8n) | BigInt(bytes[at + byte]!);
  left >>= BigInt(VERSION_BITS);
  let name = "";
  for (let place = 0; place < NAME_LENGTH; place++) {
    name = ALPHABET[Number(left & 63n)]! + name;
    left >>= BigInt(CHARACTER_BITS);
  }
  return name;
}
