import { ReplicaError } from "../../base/errors.ts";
import { decodeDocument, type DocumentKind, MAX_DOCUMENT_BYTES } from "../format/documents.ts";
import type { Decryption } from "../format/encryption.ts";
import {
  type DecodedSegment,
  decodePiece,
  decodeSegment,
  decodeSegmentHeader,
  HEADER_READ_BYTES,
  MAX_OBJECT_BYTES,
  type SegmentHeader,
} from "../format/objects.ts";
import { isEncryptedName } from "../format/names.ts";
import { damaged, type ObjectStore } from "../store/object-store.ts";
import { recycle } from "../store/object-buffers.ts";
import type { Damage } from "../../store/restore/damage.ts";

/** A piece of a base, as base.json lists it. */
export interface ListedPiece {
  readonly name: string;
  /** The size of its object, and the bytes of the RDB in it. */
  readonly bytes: number;
  readonly sha256: string;
  readonly rdbBytes: number;
}

/**
 * Reads the objects of an archive, each checked by all that its format tells of it. Every method throws ARCHIVE_DAMAGED
 * for one that isn't what it should be; USAGE for an encrypted one that no identity reads; what the store throws.
 */
export class ArchiveSource {
  readonly #store: ObjectStore;
  readonly #decryption: Decryption | undefined;

  /** @param decryption undefined: encrypted objects can't be read, their names can. */
  constructor(store: ObjectStore, decryption: Decryption | undefined) {
    this.#store = store;
    this.#decryption = decryption;
  }

  get url(): string {
    return this.#store.url;
  }

  /** What people call an object. */
  placeOf(key: string): string {
    return `${this.#store.url}/${key}`;
  }

  /** Whether the object of that name can be read: it isn't encrypted, or there is an identity. */
  canRead(name: string): boolean {
    return this.#decryption !== undefined || !isEncryptedName(name);
  }

  /** A document; undefined where there is none. */
  async document<K extends DocumentKind>(
    kind: K,
    key: string,
    signal: AbortSignal,
  ): Promise<ReturnType<typeof decodeDocument<K>> | undefined> {
    const stored = await this.#store.get(key, { maxBytes: MAX_DOCUMENT_BYTES }, signal);
    return stored === undefined ? undefined : decodeDocument(kind, this.placeOf(key), stored);
  }

  /** The objects in a folder with their sizes in bytes, and the folders in it. Foreign ones are among them. */
  async list(
    folder: string,
    signal: AbortSignal,
  ): Promise<{ readonly objects: ReadonlyMap<string, number>; readonly folders: string[] }> {
    const objects = new Map<string, number>();
    const folders: string[] = [];
    for await (const page of this.#store.list(folder, signal)) {
      for (const { name, bytes } of page.objects) objects.set(name, bytes);
      folders.push(...page.folders);
    }
    return { objects, folders };
  }

  /**
   * Fetches a piece of a base.
   * @param folder the key of the folder that holds it.
   * @returns the bytes of the RDB in it, part by part; each is gone once the next is asked for. They throw, too.
   */
  async piece(
    folder: string,
    piece: ListedPiece,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<Uint8Array, void>> {
    const key = `${folder}/${piece.name}`;
    const place = this.placeOf(key);
    // More than it had is read, so that it is told as what it is.
    const options = { maxBytes: Math.max(piece.bytes, 1), sha256: piece.sha256 };
    const stored = await this.#store.get(key, options, signal);
    if (stored === undefined) throw damaged(place, "is missing");
    const { bytes, parts } = await decodePiece(place, piece.name, stored, this.#decryption);
    if (bytes === piece.rdbBytes) return thenRecycled(parts, stored);
    throw damaged(place, `holds ${bytes} bytes of the snapshot, not ${piece.rdbBytes}`);
  }

  /** Fetches a segment. Its parts throw, too: in the end they are checked against the checksums of both its ends. */
  async segment(folder: string, name: string, signal: AbortSignal): Promise<DecodedSegment> {
    const key = `${folder}/${name}`;
    const place = this.placeOf(key);
    const stored = await this.#store.get(key, { maxBytes: MAX_OBJECT_BYTES }, signal);
    if (stored === undefined) throw damaged(place, "is missing");
    const { header, parts } = await decodeSegment(place, name, stored, this.#decryption);
    return { header, parts: thenRecycled(parts, stored) };
  }

  /** What a segment says of itself, without the most of its bytes. */
  async segmentHeader(folder: string, name: string, signal: AbortSignal): Promise<SegmentHeader> {
    const key = `${folder}/${name}`;
    const place = this.placeOf(key);
    for (let to = HEADER_READ_BYTES; ;) {
      const options = { range: { from: 0, to }, maxBytes: to };
      const beginning = await this.#store.get(key, options, signal);
      if (beginning === undefined) throw damaged(place, "is missing");
      const isWhole = beginning.length < to;
      const found = await decodeSegmentHeader(place, name, beginning, isWhole, this.#decryption);
      if (!("needBytes" in found)) return found;
      to = Math.max(found.needBytes, to + 1);
    }
  }
}

/** The parts of an object that is given back after the last one. */
async function* thenRecycled(
  parts: AsyncGenerator<Uint8Array, void>,
  stored: Uint8Array,
): AsyncGenerator<Uint8Array, void> {
  yield* parts;
  recycle(stored);
}

/** Whether an error says that an object isn't what it should be. */
export function isArchiveDamage(error: unknown): error is ReplicaError {
  return error instanceof ReplicaError && error.code === "ARCHIVE_DAMAGED";
}

/** The damage that an error tells of. @param key the object's. */
export function damageOf(
  source: ArchiveSource,
  key: string,
  error: ReplicaError,
  meaning: string,
): Damage {
  // A store in a folder calls its objects by their paths.
  const at = error.message.indexOf(key);
  const what = at === -1 ? error.message : `it${error.message.slice(at + key.length)}`;
  return { file: source.placeOf(key), byte: undefined, what, meaning };
}
