import type { BaseDocument, GenerationDocument, SealedDocument } from "../format/documents.ts";
import {
  BASE_FILE,
  GENERATION_FILE,
  generationKey,
  parseGenerationName,
  parsePieceName,
  SEALED_FILE,
} from "../format/names.ts";
import { MAX_OBJECT_BYTES, PIECE_BYTES } from "../format/objects.ts";
import { damaged } from "../store/object-store.ts";
import type { Damage } from "../../store/restore/damage.ts";
import { type ArchiveSource, damageOf, isArchiveDamage } from "./archive-source.ts";

/** A generation in an archive by its documents, without its log. */
export interface GenerationHead {
  /** The name of its folder. */
  readonly name: string;
  /** When it began, by that name: milliseconds since 1970. */
  readonly startedMs: number;
  readonly description: GenerationDocument;
  readonly base: BaseDocument;
  /** Undefined while it may still grow. */
  readonly sealed: SealedDocument | undefined;
}

/** What was found in a generation's folder. */
export type FoundHead =
  /** Its snapshot is whole by base.json. Damage of sealed.json may be told with it. */
  | { readonly kind: "whole"; readonly head: GenerationHead; readonly damages: readonly Damage[] }
  /** Without base.json it doesn't exist: it is still being written, was given up, or is being removed. */
  | { readonly kind: "unfinished"; readonly name: string }
  | { readonly kind: "damaged"; readonly name: string; readonly damages: readonly Damage[] };

export const NOTHING = "nothing of this generation can be restored";

/** Reads a generation's documents. Damage of them is part of the result; see `ArchiveSource` for errors. */
export async function readHead(
  source: ArchiveSource,
  name: string,
  signal: AbortSignal,
): Promise<FoundHead> {
  const damages: Damage[] = [];
  /** Undefined where it is damaged, too. */
  const read = async <T>(file: string, meaning: string, how: (key: string) => Promise<T>) => {
    const key = generationKey(name, file);
    try {
      return await how(key);
    } catch (error) {
      if (!isArchiveDamage(error)) throw error;
      damages.push(damageOf(source, key, error, meaning));
      return undefined;
    }
  };
  const unsealed = "everything can be restored; whether it was to end there is unknown";
  const [base, description, sealed] = await Promise.all([
    read(BASE_FILE, NOTHING, async (key) => await readBase(source, key, signal)),
    read(GENERATION_FILE, NOTHING, async (key) => await readDescription(source, name, key, signal)),
    read(SEALED_FILE, unsealed, async (key) => await source.document("sealed", key, signal)),
  ]);
  const isDamaged = (file: string) =>
    damages.some((damage) => damage.file === source.placeOf(generationKey(name, file)));
  if (base === undefined && !isDamaged(BASE_FILE)) return { kind: "unfinished", name };
  if (base === undefined || description === undefined) {
    if (description === undefined && !isDamaged(GENERATION_FILE)) {
      const file = source.placeOf(generationKey(name, GENERATION_FILE));
      damages.push({ file, byte: undefined, what: "it is missing", meaning: NOTHING });
    }
    return { kind: "damaged", name, damages };
  }
  const startedMs = parseGenerationName(name)?.startedMs ?? 0;
  return { kind: "whole", head: { name, startedMs, description, base, sealed }, damages };
}

/** Reads base.json, whose names become keys, and whose sizes become memory. */
async function readBase(
  source: ArchiveSource,
  key: string,
  signal: AbortSignal,
): Promise<BaseDocument | undefined> {
  const base = await source.document("base", key, signal);
  if (base === undefined) return undefined;
  const isSound = base.pieces.every(
    ({ name, bytes, rdbBytes }, index) =>
      parsePieceName(name) === index &&
      bytes <= MAX_OBJECT_BYTES &&
      rdbBytes > 0 &&
      rdbBytes <= PIECE_BYTES,
  );
  const rdbBytes = base.pieces.reduce((sum, piece) => sum + piece.rdbBytes, 0);
  if (isSound && rdbBytes === base.rdbBytes) return base;
  throw damaged(source.placeOf(key), "lists pieces that make no snapshot: it was changed");
}

async function readDescription(
  source: ArchiveSource,
  name: string,
  key: string,
  signal: AbortSignal,
): Promise<GenerationDocument | undefined> {
  const description = await source.document("generation", key, signal);
  if (description === undefined) return undefined;
  const named = parseGenerationName(name)?.startedMs ?? Number.NaN;
  const afterMs = Date.parse(description.started) - named;
  if (afterMs >= 0 && afterMs < 1_000) return description;
  throw damaged(
    source.placeOf(key),
    `is that of a generation that began at ${description.started}: it was swapped or changed`,
  );
}
