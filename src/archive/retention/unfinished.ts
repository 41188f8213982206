import { ReplicaError } from "../../base/errors.ts";
import { GENERATION_FILE, generationKey, REMOVED_FILE, SEALED_FILE } from "../format/names.ts";
import type { ArchiveSource } from "../reader/archive-source.ts";
import type { FolderView } from "./folder-view.ts";

const DAY_MS = 86_400_000;

/** After so long without a new object, a folder that is half made is marked; after as long again without one it goes. */
const SILENT_FOR_MS = DAY_MS;

/** From the mark on: how long those who still read a generation have, and a writer to show that it lives. */
const GRACE_MS = DAY_MS;

/** What to do with a folder that has no base.json. */
export type NextStep =
  /** `why`: nobody will ever know what it was; a clause. */
  | { readonly kind: "leave"; readonly why?: string }
  | { readonly kind: "mark" }
  | { readonly kind: "unmark" }
  | { readonly kind: "clear" };

/**
 * Says what is to become of a folder without a base.json: it is still being written, half made and given up, or being
 * removed. It is marked before anything of it goes, a day ahead: a writer that was away for long looks before it goes on,
 * and one that was not has shown itself by then.
 * @throws ReplicaError of the store; the signal's reason.
 */
export async function nextOfUnfinished(
  source: ArchiveSource,
  view: FolderView,
  nowMs: number,
  signal: AbortSignal,
): Promise<NextStep> {
  const { documents, youngestMs, hasLog, name, pieces, leftovers } = view;
  const markedMs = documents.get(REMOVED_FILE);
  if (markedMs !== undefined) {
    // Somebody writes here.
    if (youngestMs >= markedMs) return { kind: "unmark" };
    return { kind: nowMs - markedMs >= GRACE_MS ? "clear" : "leave" };
  }
  if (documents.size === 0 && pieces.size === 0 && !hasLog) {
    const isOld = leftovers.length > 0 && nowMs - youngestMs >= SILENT_FOR_MS + GRACE_MS;
    return { kind: isOld ? "clear" : "leave" };
  }
  // A writer stores its base before its log.
  if (hasLog || documents.has(SEALED_FILE))
    return { kind: "leave", why: "it has a log and no base.json, which somebody else removed" };
  if (nowMs - youngestMs < SILENT_FOR_MS) return { kind: "leave" };
  try {
    const key = generationKey(name, GENERATION_FILE);
    if ((await source.document("generation", key, signal)) !== undefined) return { kind: "mark" };
    return { kind: "leave", why: "its generation.json is missing" };
  } catch (error) {
    const code = error instanceof ReplicaError ? error.code : undefined;
    if (
      !(error instanceof ReplicaError) ||
      (code !== "ARCHIVE_DAMAGED" && code !== "ARCHIVE_TOO_NEW")
    )
      throw error;
    return { kind: "leave", why: error.message };
  }
}
