import type { Archive } from "../../archive/reader/archive.ts";
import type { ArchivePoint } from "../../archive/reader/archive-point.ts";
import { readBase } from "../../archive/reader/read-base.ts";
import { ReplicaError } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import { countedSoFar, type SnapshotSource } from "./snapshot-source.ts";

/** The snapshot of a generation of an archive: its pieces are read as they come, without a file. */
export function archivedSource(
  archive: Archive,
  { generation, offset }: ArchivePoint,
): SnapshotSource {
  const { name, base, description } = generation;
  const place = archive.source.placeOf(`generations/${name}/base.json`);
  return {
    place,
    generation: name,
    offset: description.baseOffset,
    logBytes: offset - description.baseOffset,
    atMs: generation.first?.atMs ?? Date.parse(base.finished),
    rdbBytes: base.rdbBytes,
    read: async (onBytes, signal) => {
      for await (const part of readBase(archive, generation, signal)) onBytes(part);
    },
    complaint: ({ crc64 }) =>
      hex64(crc64) === base.rdbCrc64
        ? undefined
        : `it has the checksum ${hex64(crc64)}, not ${base.rdbCrc64}`,
    damaged: (what, keys, cause) =>
      new ReplicaError("ARCHIVE_DAMAGED", {
        retry: "never",
        message: `${place}: the pieces that it lists are sound, but ${what}; ${countedSoFar(keys)}`,
        cause,
      }),
  };
}
