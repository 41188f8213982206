import { describeDamage } from "../../store/restore/damage.ts";
import { baseFolder } from "../format/names.ts";
import type { Archive } from "./archive.ts";
import { damageOf, isArchiveDamage, type ListedPiece } from "./archive-source.ts";
import { type GenerationHead, NOTHING } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";
import { pieceCost } from "./verify-base.ts";

/**
 * Reads the snapshot of a generation, its pieces one behind the other; each is checked against its hash. Whether they make a
 * sound snapshot is left to the caller.
 * @returns its bytes, part by part; each is gone once the next is asked for.
 * @throws ReplicaError ARCHIVE_DAMAGED; USAGE where no identity fits; of the store; the signal's reason.
 */
export async function* readBase(
  archive: Archive,
  { name, base }: GenerationHead,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const folder = baseFolder(name);
  const read = async (piece: ListedPiece, stop: AbortSignal) => {
    const key = `${folder}/${piece.name}`;
    const tell = (error: unknown) => told(archive, name, { key, error, meaning: NOTHING }, signal);
    try {
      return telling(await archive.source.piece(folder, piece, stop), tell);
    } catch (error) {
      throw await tell(error);
    }
  };
  for await (const parts of inOrder(base.pieces, READ_AHEAD, pieceCost, read, signal)) yield* parts;
}

/** The error as people are told it, where it is damage. @param key of the object that it is of. */
export async function told(
  archive: Archive,
  generation: string,
  {
    key,
    error,
    meaning,
  }: { readonly key: string; readonly error: unknown; readonly meaning: string },
  signal: AbortSignal,
): Promise<unknown> {
  if (!isArchiveDamage(error)) return error;
  const message = describeDamage(damageOf(archive.source, key, error, meaning));
  return await archive.damageError(generation, message, signal);
}

/** The parts of an object; what they throw is told as `tell` says. */
export async function* telling(
  parts: AsyncIterable<Uint8Array>,
  tell: (error: unknown) => Promise<unknown>,
): AsyncGenerator<Uint8Array, void> {
  try {
    yield* parts;
  } catch (error) {
    throw await tell(error);
  }
}
