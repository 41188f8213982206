import { resolve } from "node:path";
import type { Archive } from "../archive/reader/archive.ts";
import type { ArchivedFindings } from "../archive/reader/verify-archive.ts";
import { ReplicaError, usageError } from "../base/errors.ts";
import { hex64 } from "../base/hex64.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import { formatOf } from "../rdb/made-by.ts";
import { realDisk } from "../store/disk/disk.ts";
import { PieceCheckers } from "../store/pieces/piece-checkers.ts";
import { type GenerationFindings, verifyRdb } from "../store/restore/verify.ts";
import { verifyDirectory } from "../inspect/verify/verify-directory.ts";
import type { CheckedGeneration, CheckedRdb, Verified, VerifyOptions } from "./api/restore.d.ts";
import { OF_VERIFY, wantOptions } from "./option-names.ts";
import { openArchiveAt, sourceOf } from "./sources.ts";

/** Checks a source. See the declaration of `verify`. */
export async function verifySource(
  given: string,
  options: VerifyOptions,
  signal: AbortSignal,
): Promise<Verified> {
  wantOptions(options, OF_VERIFY);
  const source = sourceOf(given);
  const { quick = false, onProgress = () => undefined } = options;
  if (source.kind === "archive") {
    const archive = await openArchiveAt(source.url, options, signal);
    return await checkArchive(archive, { quick, signal, onProgress });
  }
  if (quick) throw usageError(`the option quick is for an archive, and ${source.path} is none`);
  using checkers = new PieceCheckers({ signal });
  const how = { disk: realDisk, signal, onProgress, checkers };
  if (source.kind === "file") return await checkFile(resolve(source.path), how);
  const { path, found, damages, notes } = await verifyDirectory(source.path, how);
  const generations = found.map(checkedGeneration);
  const ok = damages.length === 0;
  return { kind: "directory", source: path, ok, damages, notes, rdb: undefined, generations };
}

async function checkFile(path: string, how: Parameters<typeof verifyRdb>[1]): Promise<Verified> {
  const about = { kind: "rdb", source: path, notes: [], generations: [] } as const;
  try {
    const rdb = checkedRdb(await verifyRdb(path, how));
    return { ...about, ok: true, damages: [], rdb };
  } catch (error) {
    const isDamage =
      error instanceof ReplicaError &&
      (error.code === "BAD_PAYLOAD" || error.code === "BAD_CHECKSUM");
    if (!isDamage) throw error;
    const meaning = "a server refuses to load it";
    const damage = { file: path, byte: undefined, what: error.message, meaning };
    return { ...about, ok: false, damages: [damage], rdb: undefined };
  }
}

async function checkArchive(
  archive: Archive,
  options: Parameters<typeof import("../archive/reader/verify-archive.ts").verifyArchive>[1],
): Promise<Verified> {
  const { verifyArchive } = await import("../archive/reader/verify-archive.ts");
  const { generations, unfinished, damages } = await verifyArchive(archive, options);
  const notes = unfinished.map(
    (name) => `generation ${name} has no base.json: it isn't whole yet, or is being removed`,
  );
  return {
    kind: "archive",
    source: archive.source.url,
    ok: damages.length === 0,
    damages,
    notes,
    rdb: undefined,
    generations: generations.map(checkedOfArchive),
  };
}

function checkedGeneration(found: GenerationFindings): CheckedGeneration {
  const { generation, rdb, log, restorableOffset, damages } = found;
  return {
    id: generation.id,
    rdb: rdb && checkedRdb(rdb),
    fromOffset: generation.baseOffset,
    toOffset: restorableOffset,
    logBytes: log?.bytes,
    damages,
  };
}

function checkedOfArchive(found: ArchivedFindings): CheckedGeneration {
  const { name, head, rdb, restorableOffset, logBytes, damages } = found;
  return {
    id: name,
    rdb: rdb && checkedRdb(rdb),
    fromOffset: head?.description.baseOffset,
    toOffset: restorableOffset,
    logBytes: head && logBytes,
    damages,
  };
}

function checkedRdb({ header, bytes, crc64, checked }: RdbSummary): CheckedRdb {
  return { format: formatOf(header), bytes, crc64: hex64(crc64), checked };
}
