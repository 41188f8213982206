import { Decrypter, Encrypter, identityToRecipient } from "age-encryption";
import { invariant, usageError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";
import { objectBuffer } from "../store/object-buffers.ts";
import { damaged } from "../store/object-store.ts";
import { decryptPayload, encryptPayload, NONCE_BYTES, payloadBytes } from "./age-stream.ts";

/** What the package writes behind the header of an empty file: a nonce, and a chunk that is only a tag. */
const EMPTY_PAYLOAD_BYTES = payloadBytes(0);
/** A header has some 100 bytes for each recipient, and 2,200 for one that resists quantum computers. */
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_RECIPIENTS = 20;
/** The line that ends the header begins so. */
const MAC_LINE = Buffer.from("\n--- ");

/** The most bytes that encryption adds to so many. */
export function maxEncryptedBytes(plainBytes: number): number {
  return MAX_HEADER_BYTES + payloadBytes(plainBytes);
}

/**
 * Encrypts objects to age recipients. The package makes the header; the payload, which it would encrypt on the event
 * loop, is encrypted on the thread pool.
 */
export class Encryption {
  readonly recipients: readonly string[];

  /**
   * @param recipients `age1…`, as `age-keygen` prints them.
   * @throws ReplicaError USAGE for one that can't be, and for none or too many.
   */
  constructor(recipients: readonly string[]) {
    if (recipients.length === 0 || recipients.length > MAX_RECIPIENTS) {
      throw usageError(
        `an archive is encrypted to 1 to ${MAX_RECIPIENTS} recipients, not to ${recipients.length}`,
      );
    }
    for (const recipient of recipients) {
      try {
        new Encrypter().addRecipient(recipient);
      } catch {
        // A secret key in its place must not be shown.
        const shown = recipient.startsWith("age1") ? printable(recipient) : "what was named";
        throw usageError(
          `"${shown}" is no age recipient: it is of the form age1…, as age-keygen prints it`,
        );
      }
    }
    this.recipients = [...recipients];
  }

  /**
   * Encrypts one object, with a key of its own.
   * @param file where to, of `maxEncryptedBytes` at least; `plain` may be its end.
   * @returns the part of `file` that is used.
   */
  async encrypt(
    plain: Uint8Array,
    file: Uint8Array = objectBuffer(maxEncryptedBytes(plain.length)),
  ): Promise<Uint8Array> {
    const encrypter = new Encrypter();
    let fileKey: Uint8Array | undefined;
    encrypter.addRecipient({
      wrapFileKey: (key) => {
        fileKey = Uint8Array.from(key);
        return [];
      },
    });
    for (const recipient of this.recipients) encrypter.addRecipient(recipient);
    const empty = await encrypter.encrypt(new Uint8Array(0));
    const headerBytes = empty.length - EMPTY_PAYLOAD_BYTES;
    invariant(headerBytes <= MAX_HEADER_BYTES, "a header has at most 64 KiB");
    const stored = file.subarray(0, headerBytes + payloadBytes(plain.length));
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
    stored.set(empty.subarray(0, headerBytes));
    await encryptPayload(fileKey!, nonce, plain, stored.subarray(headerBytes));
    return stored;
  }
}

/** Decrypts objects with age identities. */
export class Decryption {
  readonly #identities: readonly string[];

  private constructor(identities: readonly string[]) {
    this.#identities = identities;
  }

  /**
   * Reads an identity file, as `age-keygen` writes it: a secret key a line, and lines that begin with #.
   * @param path for errors; what is in the file never gets into one.
   * @throws ReplicaError USAGE where it holds anything else, or no key.
   */
  static async fromFile(path: string, text: string): Promise<Decryption> {
    const lines = text.split(/\r?\n/).map((line) => line.trim());
    const identities = lines.filter((line) => line !== "" && !line.startsWith("#"));
    for (const identity of identities) {
      await identityToRecipient(identity).catch(() => {
        throw usageError(
          `${path} holds a line that is no age identity: those begin with AGE-SECRET-KEY-`,
        );
      });
    }
    if (identities.length === 0) throw usageError(`${path} holds no age identity`);
    return new Decryption(identities);
  }

  /**
   * Decrypts an object in its own memory: what `stored` held is gone, whether it succeeds or not.
   * @param isWhole false: `stored` is its beginning; the whole chunks in it are decrypted but for the last one.
   * @returns a part of `stored`.
   * @throws ReplicaError USAGE where none of the identities fits; ARCHIVE_DAMAGED where it was changed or cut short.
   */
  async decrypt(place: string, stored: Uint8Array, isWhole = true): Promise<Uint8Array> {
    const headerBytes = endOfHeader(stored);
    if (headerBytes === undefined)
      throw damaged(place, "is no age file: it was cut short or changed");
    const decrypter = new Decrypter();
    for (const identity of this.#identities) decrypter.addIdentity(identity);
    let fileKey: Uint8Array;
    try {
      fileKey = await decrypter.decryptHeader(stored.subarray(0, headerBytes));
    } catch (cause) {
      if (cause instanceof Error && /no identity matched/.test(cause.message)) {
        throw usageError(
          `${place} is encrypted to another identity: name the file of one that fits`,
        );
      }
      throw damaged(place, "has a header that was changed");
    }
    const plain = await decryptPayload(fileKey, stored.subarray(headerBytes), isWhole);
    if (plain === undefined)
      throw damaged(place, "can't be decrypted: it was cut short or changed");
    return plain;
  }
}

/** The error for an encrypted object where no identity was named. */
export function identityMissing(place: string): Error {
  return usageError(
    `${place} is encrypted: name the file of the age identity that reads it (--archive-identity)`,
  );
}

/** How many bytes the header has, its last line included. */
function endOfHeader(stored: Uint8Array): number | undefined {
  const start = Buffer.from(
    stored.buffer,
    stored.byteOffset,
    Math.min(stored.length, MAX_HEADER_BYTES),
  );
  if (!start.subarray(0, 19).equals(Buffer.from("age-encryption.org/"))) return undefined;
  const line = start.indexOf(MAC_LINE);
  const end = line === -1 ? -1 : start.indexOf("\n", line + MAC_LINE.length);
  return end === -1 ? undefined : end + 1;
}
