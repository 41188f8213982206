import { ReplicaError } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { heldBytes } from "../store/object-buffers.ts";
import type { Damage } from "../../store/restore/damage.ts";
import { BASE_FILE, baseFolder, generationKey } from "../format/names.ts";
import type { Archive } from "./archive.ts";
import { damageOf, isArchiveDamage, type ListedPiece } from "./archive-source.ts";
import { type GenerationHead, NOTHING } from "./generation-head.ts";
import { inOrder, READ_AHEAD } from "./in-order.ts";

/** The bytes of memory that a piece takes until it is used: it is decompressed only then, part by part. */
export function pieceCost({ bytes }: ListedPiece): number {
  return heldBytes(bytes);
}

/** What names and sizes in a base's folder tell. @throws ReplicaError of the store. */
export async function checkBaseNames(
  { source }: Archive,
  { name, base }: GenerationHead,
  signal: AbortSignal,
): Promise<Damage[]> {
  const folder = baseFolder(name);
  const { objects } = await source.list(folder, signal);
  return base.pieces.flatMap((piece) => {
    const bytes = objects.get(piece.name);
    if (bytes === piece.bytes) return [];
    const what =
      bytes === undefined ? "it is missing" : `it has ${bytes} bytes, not ${piece.bytes}`;
    const file = source.placeOf(`${folder}/${piece.name}`);
    return [{ file, byte: undefined, what, meaning: NOTHING }];
  });
}

/**
 * Reads every piece of a base, and checks the snapshot that they make.
 * @returns the snapshot; undefined with what is damaged. @throws ReplicaError of the store; the signal's reason.
 */
export async function checkBase(
  { source }: Archive,
  { name, base }: GenerationHead,
  options: {
    readonly signal: AbortSignal;
    readonly onProgress: (folder: string, bytes: number, totalBytes: number) => void;
  },
): Promise<{ readonly rdb: RdbSummary | undefined; readonly damages: readonly Damage[] }> {
  const { signal, onProgress } = options;
  const folder = baseFolder(name);
  const damages: Damage[] = [];
  const note = (piece: ListedPiece, error: unknown) => {
    if (!isArchiveDamage(error)) throw error;
    damages.push(damageOf(source, `${folder}/${piece.name}`, error, NOTHING));
  };
  const look = async (piece: ListedPiece, stop: AbortSignal) => {
    try {
      return { piece, parts: await source.piece(folder, piece, stop) };
    } catch (error) {
      note(piece, error);
      return { piece, parts: [] };
    }
  };
  const checker = new RdbChecker();
  let bytes = 0;
  let why: string | undefined;
  for await (const { piece, parts } of inOrder(base.pieces, READ_AHEAD, pieceCost, look, signal)) {
    try {
      // What comes behind a damaged piece is looked at by itself.
      for await (const data of parts)
        if (damages.length === 0) why ??= faultIn(() => checker.push(data));
    } catch (error) {
      note(piece, error);
    }
    bytes += piece.rdbBytes;
    onProgress(folder, bytes, base.rdbBytes);
  }
  if (damages.length > 0) return { rdb: undefined, damages };
  let rdb: RdbSummary | undefined;
  why ??= faultIn(() => (rdb = checker.finish()));
  if (rdb !== undefined && hex64(rdb.crc64) !== base.rdbCrc64)
    why ??= `the snapshot has the checksum ${hex64(rdb.crc64)}, not ${base.rdbCrc64}`;
  if (why === undefined) return { rdb, damages };
  const file = source.placeOf(generationKey(name, BASE_FILE));
  const what = `the pieces that it lists are sound, but ${why}`;
  return { rdb: undefined, damages: [{ file, byte: undefined, what, meaning: NOTHING }] };
}

function faultIn(act: () => void): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof ReplicaError && error.code.startsWith("BAD_")) return error.message;
    throw error;
  }
}
