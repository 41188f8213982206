import type { Archive } from "../../archive/reader/archive.ts";
import {
  type ArchivedFindings,
  type ArchiveFindings,
  verifyArchive,
  type VerifyArchiveOptions,
} from "../../archive/reader/verify-archive.ts";
import { hex64 } from "../../base/hex64.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import { describeDamage } from "../../store/restore/damage.ts";

/**
 * Checks an archive, and reports it as text or as JSON, with a line end.
 * @returns whether it is sound, too. @throws ReplicaError; see `verifyArchive`.
 */
export async function checkArchive(
  archive: Archive,
  isJson: boolean,
  options: VerifyArchiveOptions,
): Promise<{ readonly isSound: boolean; readonly report: string }> {
  const found = await verifyArchive(archive, options);
  const { url } = archive.source;
  const report = isJson
    ? `${JSON.stringify(toJson(url, found, options.quick))}\n`
    : reportOf(url, found, options.quick);
  return { isSound: found.damages.length === 0, report };
}

function reportOf(
  url: string,
  { generations, unfinished, damages }: ArchiveFindings,
  isQuick: boolean,
): string {
  const lines = generations.flatMap((one) => [
    `generation ${one.name}`,
    `  snapshot  ${snapshotOf(one, isQuick)}`,
    `  log       ${counted(one.segments, "segment")}, ${formatBytes(one.logBytes)}`,
    `  restores  ${rangeOf(one)}`,
  ]);
  for (const name of unfinished)
    lines.push(
      `note: generation ${name} has no base.json: it isn't whole yet, or is being removed`,
    );
  for (const damage of damages) lines.push(`damaged: ${describeDamage(damage)}`);
  if (generations.length === 0) lines.push(`${url} holds no whole snapshot yet`);
  else if (damages.length === 0)
    lines.push(`${url}: no damage found${isQuick ? " in names, sizes and the chain" : ""}`);
  return `${lines.join("\n")}\n`;
}

function rangeOf({ head, restorableOffset }: ArchivedFindings): string {
  if (head === undefined || restorableOffset === undefined) return "nothing";
  return `offset ${head.description.baseOffset} to ${restorableOffset}`;
}

function snapshotOf({ head, rdb, restorableOffset }: ArchivedFindings, isQuick: boolean): string {
  if (head === undefined || restorableOffset === undefined) return "damaged";
  const { pieces, rdbBytes } = head.base;
  const size = `${counted(pieces.length, "piece")}, ${formatBytes(rdbBytes)}`;
  if (rdb === undefined || isQuick) return size;
  const { header, crc64, checked } = rdb;
  const sum = checked ? `checksum ${hex64(crc64)} verified` : "it has no checksum of its own";
  return `${header.magic} version ${header.version}, ${size}, ${sum}`;
}

function toJson(
  url: string,
  { generations, unfinished, damages }: ArchiveFindings,
  quick: boolean,
) {
  return {
    path: url,
    ok: damages.length === 0,
    quick,
    generations: generations.map(
      ({ name, head, segments, logBytes, restorableOffset, damages: own }) => ({
        id: name,
        ok: own.length === 0,
        from_offset: head?.description.baseOffset ?? null,
        to_offset: restorableOffset ?? null,
        rdb_bytes: head?.base.rdbBytes ?? null,
        pieces: head?.base.pieces.length ?? null,
        segments,
        log_bytes: logBytes,
      }),
    ),
    damages: damages.map(({ file, byte, what, meaning }) => ({
      file,
      byte: byte ?? null,
      what,
      meaning,
    })),
    unfinished,
  };
}
