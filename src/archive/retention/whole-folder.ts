import { ReplicaError } from "../../base/errors.ts";
import { BASE_FILE, SEALED_FILE } from "../format/names.ts";
import type { ArchiveSource } from "../reader/archive-source.ts";
import { type GenerationHead, readHead } from "../reader/generation-head.ts";
import type { FolderView } from "./folder-view.ts";
import type { WholeGeneration } from "./removal-plan.ts";

/** A generation that a reader finds in an archive. */
export interface WholeFolder {
  readonly view: FolderView;
  readonly head: GenerationHead;
  readonly generation: WholeGeneration;
}

export type FoundFolder =
  | { readonly kind: "whole"; readonly folder: WholeFolder }
  /** It has no base.json. */
  | { readonly kind: "unfinished" }
  /** Nobody knows what it is: a clause that says why. */
  | { readonly kind: "unknown"; readonly why: string };

/** Reads what a folder is by its documents. @throws ReplicaError of the store; the signal's reason. */
export async function readWhole(
  source: ArchiveSource,
  view: FolderView,
  signal: AbortSignal,
): Promise<FoundFolder> {
  try {
    const found = await readHead(source, view.name, signal);
    if (found.kind === "unfinished") return { kind: "unfinished" };
    const [damage] = found.damages;
    if (damage !== undefined) return { kind: "unknown", why: `of ${damage.file}, ${damage.what}` };
    if (found.kind === "damaged") return { kind: "unknown", why: "it is damaged" };
    const { head } = found;
    return { kind: "whole", folder: { view, head, generation: generationOf(view, head) } };
  } catch (error) {
    const isNewer = error instanceof ReplicaError && error.code === "ARCHIVE_TOO_NEW";
    if (!isNewer) throw error;
    return { kind: "unknown", why: error.message };
  }
}

function generationOf(
  { name, documents, pieces, youngestMs }: FolderView,
  { startedMs, description, base }: GenerationHead,
): WholeGeneration {
  const { replid, baseOffset, lineage } = description;
  // One that isn't listed yet was written moments ago.
  const storedMs = documents.get(BASE_FILE) ?? Infinity;
  return {
    name,
    // Whoever writes it down names the first one that it finds without.
    lineage: lineage ?? { name, generation: -1 },
    replid,
    baseOffset,
    baseSum: `${base.rdbBytes} ${base.rdbCrc64}`,
    // The writer's clock may be wrong, and an archive that was copied has other times.
    sinceMs: Math.max(startedMs, Date.parse(base.finished), storedMs),
    youngestMs,
    isSealed: documents.has(SEALED_FILE),
    isSound: base.pieces.every((piece) => pieces.get(piece.name) === piece.bytes),
  };
}
