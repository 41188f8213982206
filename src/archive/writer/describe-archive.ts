import {
  ARCHIVE_DOCUMENT,
  decodeDocument,
  encodeDocument,
  MAX_DOCUMENT_BYTES,
} from "../format/documents.ts";
import { ARCHIVE_KEY } from "../format/names.ts";
import type { ObjectStore } from "../store/object-store.ts";

/**
 * Says what an archive is, unless it says so already.
 * @returns what was stored; undefined where nothing was.
 * @throws ReplicaError ARCHIVE_TOO_NEW, ARCHIVE_DAMAGED where it is something else; of the store; the reason of `signal`.
 */
export async function describeArchive(
  store: ObjectStore,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const found = await store.get(ARCHIVE_KEY, { maxBytes: MAX_DOCUMENT_BYTES }, signal);
  if (found !== undefined) {
    decodeDocument("archive", `${store.url}/${ARCHIVE_KEY}`, found);
    return undefined;
  }
  const document = encodeDocument("archive", ARCHIVE_DOCUMENT);
  await store.put(ARCHIVE_KEY, document, signal);
  return document;
}
