import {
  ARCHIVE_DOCUMENT,
  decodeDocument,
  encodeDocument,
  MAX_DOCUMENT_BYTES,
} from "../format/documents.ts";
import { ARCHIVE_KEY, CLUSTER_KEY } from "../format/names.ts";
import { usageError } from "../../base/errors.ts";
import type { ObjectStore } from "../store/object-store.ts";

/**
 * Says what an archive is, unless it says so already.
 * @returns what was stored; undefined where nothing was.
 * @throws ReplicaError ARCHIVE_TOO_NEW, ARCHIVE_DAMAGED where it is something else; as `refuseOtherArchive`; of the store;
 * the reason of `signal`.
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
  await refuseOtherArchive(store, "primary", signal);
  const document = encodeDocument("archive", ARCHIVE_DOCUMENT);
  await store.put(ARCHIVE_KEY, document, signal);
  return document;
}

/**
 * Refuses to write what one kind of source gives to an archive of the other kind: whoever reads it would take it for one of
 * the two.
 * @throws ReplicaError USAGE; of the store; the reason of `signal`.
 */
export async function refuseOtherArchive(
  store: ObjectStore,
  kind: "primary" | "cluster",
  signal: AbortSignal,
): Promise<void> {
  const [key, other] =
    kind === "primary"
      ? [CLUSTER_KEY, "of a cluster, and this is one primary"]
      : [ARCHIVE_KEY, "of one primary, and this is a cluster"];
  if ((await store.get(key, { maxBytes: MAX_DOCUMENT_BYTES }, signal)) === undefined) return;
  throw usageError(`${store.url} is an archive ${other}: give --archive another prefix or folder`);
}
