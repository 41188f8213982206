import { invariant, ReplicaError } from "../../base/errors.ts";

/** A part of an object, in bytes: from `from` up to, but without, `to`. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/** How an object is read. */
export interface GetOptions {
  /** The part that is wanted; what lies behind the object's end is left out. Default: the whole object. */
  readonly range?: ByteRange;
  /** The most bytes that the answer may have: the memory that it may take. */
  readonly maxBytes: number;
  /** The SHA-256 of the answer where it is known, as 64 hex digits. */
  readonly sha256?: string;
}

export interface ListedObject {
  /** Its name in the folder. */
  readonly name: string;
  readonly bytes: number;
  /** When the store took it, by the store's clock; milliseconds since 1970. */
  readonly modifiedMs: number;
}

/** A part of what a folder holds, in the order of the names. */
export interface ListPage {
  readonly objects: readonly ListedObject[];
  /** The names of the folders in it. */
  readonly folders: readonly string[];
  /** What time it is by the store's own clock, milliseconds since 1970; undefined where it doesn't tell. */
  readonly dateMs: number | undefined;
}

/**
 * Where an archive lies. Objects are written once and never changed. A key is a path below the archive's root, with
 * slashes: `generations/x/base.json`. Every call ends with the reason of `signal` once that aborts, and else throws a
 * ReplicaError: ARCHIVE_FAILED where the store is away, fails or throttles, after the tries that are worth it;
 * ARCHIVE_FORBIDDEN where it refuses.
 */
export interface ObjectStore {
  /** What people call it: `s3://bucket/prefix`, `file:///path`. */
  readonly url: string;
  /**
   * Stores an object, durably once it resolves. Where it is there already with the same bytes, that is success. The body
   * must stay as it is until then.
   * @param sha256 that of the body where it is known, so that nobody computes it again.
   * @throws ReplicaError ARCHIVE_CONFLICT, never to be retried, where it is there with other bytes.
   */
  put(key: string, body: Uint8Array, signal: AbortSignal, sha256?: Buffer): Promise<void>;
  /**
   * Reads an object, or a part of it.
   * @returns undefined where there is none of that name.
   * @throws ReplicaError ARCHIVE_DAMAGED where it is larger than `maxBytes`, or its SHA-256 is another one.
   */
  get(key: string, options: GetOptions, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /**
   * Lists one folder, at least one page; a folder that isn't there is empty. A store may leave out what was written
   * moments ago: only what is listed is certain.
   * @param folder its key, "" for the root.
   */
  list(folder: string, signal: AbortSignal): AsyncGenerator<ListPage, void>;
  /**
   * Makes durable what a folder shows, once it resolves: a process that was killed amid a `put` may have left an object
   * that a power cut still takes. A folder that isn't there is no error.
   * @param folder its key, "" for the root.
   */
  settle(folder: string, signal: AbortSignal): Promise<void>;
  /** Deletes an object, durably once it resolves; a missing one is no error. */
  delete(key: string, signal: AbortSignal): Promise<void>;
  /**
   * What time it is by the store's own clock, by which `modifiedMs` counts, too; milliseconds since 1970. A folder's is
   * that of its file system: a file is made in it for a moment.
   * @returns undefined where it doesn't tell.
   */
  now(signal: AbortSignal): Promise<number | undefined>;
}

/** What is hashed in one go: a millisecond's work. */
const HASH_AT_ONCE_BYTES = 1024 * 1024;

/** The longest key of S3, in bytes. */
const MAX_KEY_BYTES = 1024;

/** Asserts that a key leads to a place below the root, and to the same one in every store. */
export function assertKey(key: string): void {
  const isSound =
    key.length <= MAX_KEY_BYTES &&
    key
      .split("/")
      .every((part) => part !== "" && part !== "." && part !== ".." && !/\0/.test(part));
  invariant(isSound, `"${key}" is an object's key`);
}

/** What was there a moment ago is gone, or another one: what is known of it must be learned anew. */
export class LostPlace extends ReplicaError {
  constructor(message: string) {
    super("ARCHIVE_FAILED", { message });
  }
}

/** The error for an object that is there with other bytes. */
export function conflict(place: string): ReplicaError {
  return new ReplicaError("ARCHIVE_CONFLICT", {
    retry: "never",
    message: `${place} is there already, with other bytes: it is left as it is; find out who else writes to this archive`,
  });
}

/** The error for an object that isn't what it should be; `what` completes "… has". */
export function damaged(place: string, what: string): ReplicaError {
  return new ReplicaError("ARCHIVE_DAMAGED", { retry: "never", message: `${place} ${what}` });
}

/** Checks the bytes of an object against the SHA-256 that is known of it. @throws ReplicaError ARCHIVE_DAMAGED. */
export async function checkSha256(
  place: string,
  bytes: Uint8Array,
  sha256: string | undefined,
): Promise<void> {
  if (sha256 === undefined || (await sha256Of(bytes)).toString("hex") === sha256) return;
  throw otherSha256(place);
}

/** The error for an object that was changed. */
export function otherSha256(place: string): ReplicaError {
  return damaged(place, "has another SHA-256 than when it was written: it was changed");
}

/** The error for an object of a size that nobody expects. */
export function tooLarge(place: string, bytes: number, maxBytes: number): ReplicaError {
  const has = Number.isNaN(bytes) ? "more" : `${bytes} bytes, more`;
  return damaged(place, `has ${has} than the ${maxBytes} that it may have`);
}

/**
 * The SHA-256 of bytes, which must stay as they are until it resolves. WebCrypto's copies them to memory that was never
 * touched before, which costs six times as much CPU as the sum; so it is computed here, and the event loop has its turn
 * after each MiB.
 */
export async function sha256Of(bytes: Uint8Array): Promise<Buffer> {
  const hasher = new Bun.CryptoHasher("sha256");
  for (let at = 0; at < bytes.length; at += HASH_AT_ONCE_BYTES) {
    if (at > 0) await new Promise<void>((resolve) => void setImmediate(resolve));
    hasher.update(bytes.subarray(at, at + HASH_AT_ONCE_BYTES));
  }
  return hasher.digest();
}

/**
 * What `work` gives, unless `signal` aborts first: a disk or a source of credentials may never answer. Work that is left
 * so ends by itself.
 * @throws what `work` throws; the reason of `signal`.
 */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const stop = () => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", stop);
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
