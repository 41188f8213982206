import { hkdfSync } from "node:crypto";
import { giveBack } from "../../store/disk/disk.ts";

/** The payload of an age file (age-encryption.org/v1): chunks of 64 KiB, each with a tag, after a nonce. */
const CHUNK_BYTES = 64 * 1024;
const TAG_BYTES = 16;
export const NONCE_BYTES = 16;
/** How many chunks are in work at once: enough for all threads of the pool. */
const AT_ONCE = 16;

const CIPHER = "ChaCha20-Poly1305";

/** Bun's WebCrypto has this cipher, its types don't. */
const subtle = crypto.subtle as unknown as {
  importKey(
    format: "raw-secret",
    key: Uint8Array,
    algorithm: string,
    extractable: boolean,
    usages: readonly ("encrypt" | "decrypt")[],
  ): Promise<CryptoKey>;
  encrypt(algorithm: object, key: CryptoKey, bytes: Uint8Array): Promise<ArrayBuffer>;
  decrypt(algorithm: object, key: CryptoKey, bytes: Uint8Array): Promise<ArrayBuffer>;
};

/** How many bytes a payload has, the nonce before it included. */
export function payloadBytes(plainBytes: number): number {
  return NONCE_BYTES + plainBytes + Math.max(1, Math.ceil(plainBytes / CHUNK_BYTES)) * TAG_BYTES;
}

/**
 * Encrypts `plain` into `payload`, which has `payloadBytes` of room, on the thread pool. `plain` may lie in the same memory
 * where it ends no earlier than `payload`: each chunk is read before what replaces it is written.
 */
export async function encryptPayload(
  fileKey: Uint8Array,
  nonce: Uint8Array,
  plain: Uint8Array,
  payload: Uint8Array,
): Promise<void> {
  const key = await payloadKey(fileKey, nonce);
  const chunks = Math.max(1, Math.ceil(plain.length / CHUNK_BYTES));
  const seal = (index: number) => {
    const chunk = plain.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
    return subtle.encrypt(algorithm(index, index === chunks - 1), key, chunk);
  };
  payload.set(nonce);
  const room = payload.subarray(NONCE_BYTES);
  await inBatches(chunks, seal, (index, sealed) =>
    takeInto(room, sealed, index * (CHUNK_BYTES + TAG_BYTES)),
  );
}

/**
 * Decrypts a payload in its own memory, on the thread pool: what it held is gone, whether it succeeds or not.
 * @param isWhole false: `payload` is the beginning of one, and a chunk that isn't whole in it is left out.
 * @returns a part of `payload`; undefined where it was changed or cut short.
 */
export async function decryptPayload(
  fileKey: Uint8Array,
  payload: Uint8Array,
  isWhole: boolean,
): Promise<Uint8Array | undefined> {
  if (payload.length < NONCE_BYTES) return isWhole ? undefined : payload.subarray(0, 0);
  const key = await payloadKey(fileKey, payload.subarray(0, NONCE_BYTES));
  const sealed = payload.subarray(NONCE_BYTES);
  const size = CHUNK_BYTES + TAG_BYTES;
  // Of a beginning, the last chunk may be the file's last one, or not be whole: it isn't needed.
  const chunks = isWhole
    ? Math.max(1, Math.ceil(sealed.length / size))
    : Math.max(0, Math.ceil(sealed.length / size) - 1);
  const lastBytes = sealed.length - (chunks - 1) * size - TAG_BYTES;
  // Only a file without content has a last chunk without any.
  if (isWhole && (lastBytes < 0 || (lastBytes === 0 && chunks > 1))) return undefined;
  const open = (index: number) => {
    const chunk = sealed.subarray(index * size, (index + 1) * size);
    return subtle.decrypt(algorithm(index, isWhole && index === chunks - 1), key, chunk);
  };
  try {
    // No chunk reaches into one behind it: without its tag it is shorter, and begins earlier.
    await inBatches(chunks, open, (index, opened) => takeInto(sealed, opened, index * CHUNK_BYTES));
  } catch {
    return undefined;
  }
  return sealed.subarray(0, isWhole ? sealed.length - chunks * TAG_BYTES : chunks * CHUNK_BYTES);
}

/** Copies a chunk to its place; its own memory then serves the next one. */
function takeInto(whole: Uint8Array, chunk: ArrayBuffer, at: number): void {
  const bytes = new Uint8Array(chunk);
  whole.set(bytes, at);
  giveBack(bytes);
}

/** The nonce of a chunk: its number in eleven bytes, and whether it is the last. */
function algorithm(index: number, isLast: boolean): object {
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(7, index);
  iv[11] = isLast ? 1 : 0;
  return { name: CIPHER, iv };
}

async function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Promise<CryptoKey> {
  const key = new Uint8Array(hkdfSync("sha256", fileKey, nonce, "payload", 32));
  return await subtle.importKey("raw-secret", key, CIPHER, false, ["encrypt", "decrypt"]);
}

/** Does work on some chunks side by side, and takes what it gave once all of these are read. */
async function inBatches(
  count: number,
  work: (index: number) => Promise<ArrayBuffer>,
  take: (index: number, made: ArrayBuffer) => void,
): Promise<void> {
  for (let at = 0; at < count; at += AT_ONCE) {
    const batch = Array.from({ length: Math.min(AT_ONCE, count - at) }, (_, n) => work(at + n));
    for (const [n, made] of (await Promise.all(batch)).entries()) take(at + n, made);
  }
}
