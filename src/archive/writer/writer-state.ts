import type { LogEnd } from "../format/chain.ts";
import { baseFolder } from "../format/names.ts";
import { type ObjectStore, sha256Of } from "../store/object-store.ts";
import type { LocalGeneration } from "./archive-source.ts";
import { type ArchivedFolder, readArchivedFolder } from "./archived-folder.ts";
import type { LocalFiles } from "./local-files.ts";
import type { OwnFolder } from "./own-folder.ts";

/** What the archive holds of a generation, in the order in which it comes to hold it. */
export type WriterState =
  /** Not the generation's document; `after` is what it holds besides. */
  | { readonly at: "generation"; readonly after: WriterState }
  /** The document, so many pieces, and the log up to here: nothing of it, unless somebody deleted the base's document. */
  | { readonly at: "base"; readonly pieces: number; readonly end: LogEnd }
  /** The whole base, and the log up to here. */
  | { readonly at: "log"; readonly end: LogEnd }
  /** All of it, and that it is sealed. */
  | { readonly at: "complete" };

/**
 * What the archive holds, as the generation's folder there shows it.
 * @param folder what is remembered of it.
 * @returns undefined where it holds another log than the generation's, or is being removed.
 * @throws ReplicaError of the store and of the disk; the reason of `signal`.
 */
export async function heldState(
  { store, files }: { readonly store: ObjectStore; readonly files: LocalFiles },
  generation: LocalGeneration,
  folder: OwnFolder,
  signal: AbortSignal,
): Promise<WriterState | undefined> {
  const { baseOffset, sealed, durableOffset } = generation;
  const held = await readArchivedFolder(store, folder.name, baseOffset, signal);
  const { hasDocument, hasBase, isSealed, lastSegment, crcBefore } = held;
  if (held.isRemoved) return undefined;
  if (lastSegment !== undefined && !(await files.isOf(generation, lastSegment, crcBefore)))
    return undefined;
  const end = { offset: lastSegment?.to ?? baseOffset, crc: lastSegment?.crc ?? 0n };
  if (isSealed && (sealed === undefined || end.offset !== durableOffset)) return undefined;
  const documented = (after: WriterState): WriterState =>
    hasDocument ? after : { at: "generation", after };
  if (hasBase) return documented(isSealed ? { at: "complete" } : { at: "log", end });
  let pieces = 0;
  while (await holdsPiece(store, folder, held, pieces, signal)) pieces++;
  return documented({ at: "base", pieces, end });
}

/** Whether the archive holds a piece, as it is remembered. */
async function holdsPiece(
  store: ObjectStore,
  folder: OwnFolder,
  { pieces }: ArchivedFolder,
  index: number,
  signal: AbortSignal,
): Promise<boolean> {
  const sent = folder.piece(index);
  if (sent === undefined) return false;
  const candidates = folder.candidates(index);
  if (candidates.length === 1 && pieces.get(sent.name) === sent.bytes) return true;
  // It isn't listed yet, or was made more than once, and encrypted to other bytes each time: which of them got through?
  const key = `${baseFolder(folder.name)}/${sent.name}`;
  const stored = await store.get(key, { maxBytes: sent.bytes }, signal);
  if (stored === undefined) return false;
  const sha256 = (await sha256Of(stored)).toString("hex");
  const found = candidates.findLast((candidate) => candidate.sha256 === sha256);
  if (found !== undefined && found !== sent) await folder.add(found);
  return found !== undefined;
}
