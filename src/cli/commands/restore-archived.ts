import type { Archive } from "../../archive/reader/archive.ts";
import {
  type ArchivePoint,
  archivePoint,
  cutOf,
  windowOf,
} from "../../archive/reader/archive-point.ts";
import { logger } from "../../base/logger.ts";
import { parseFormat } from "../../rdb/made-by.ts";
import { realDisk } from "../../store/disk/disk.ts";
import { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { restore, type Restored, type RestoreOptions } from "../../store/restore/restore.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";
import { refuseUnloadable } from "../../store/restore/target-server.ts";
import { linkingDisk, withFetched } from "../../archive/reader/fetch-source.ts";
import { openArchive } from "../../archive/open/open-archive.ts";
import type { CommandContext } from "./command.ts";
import { pointOf } from "./moment-options.ts";

/** Writes what was chosen. */
type WriteRestored = (
  how: Pick<RestoreOptions, "layout" | "mode" | "target">,
  onProgress: (file: string, bytes: number, totalBytes: number) => void,
) => Promise<{ readonly restored: Restored; readonly from: string }>;

/**
 * Finds the point of an archive that the options name. Warns of what is damaged beside it.
 * @throws ReplicaError USAGE; ARCHIVE_TOO_NEW; of the store.
 */
export async function archivedPoint(
  url: string,
  context: CommandContext,
): Promise<{ readonly archive: Archive; readonly point: ArchivePoint }> {
  const { options, signal } = context;
  const archive = await openArchive(url, context);
  for (const damage of archive.damages) logger.warn(describeDamage(damage));
  const kept = async () => {
    const generations = await archive.generations(signal);
    return generations.length === 0 ? "" : windowOf(generations);
  };
  const wanted = { generation: options.get("generation"), ...(await pointOf(context, kept)) };
  const point = await archivePoint(archive, wanted, signal);
  const cut = cutOf(point.generation);
  // Whoever asked for all of it gets less.
  if (cut !== undefined && point.offset === point.generation.log.chain.end.offset) logger.warn(cut);
  return { archive, point };
}

/**
 * Chooses the point of an archive that the options name. What is returned then fetches the generation to beside the target,
 * and restores it as one of a data directory.
 * @throws ReplicaError USAGE; ARCHIVE_DAMAGED; of the store.
 */
export async function archivedRestore(context: CommandContext): Promise<WriteRestored> {
  const { args, signal } = context;
  const [url = "", target = ""] = args;
  const { archive, point } = await archivedPoint(url, context);
  return async (how, onProgress) => {
    const { rdbFormat } = point.generation.description;
    const format = parseFormat(rdbFormat ?? "");
    // Before any of it is fetched; what was archived before says nothing of it.
    if (how.target && format) refuseUnloadable(format, how.layout, how.target);
    using checkers = new PieceCheckers({ signal });
    const surroundings = { signal, onProgress, checkers };
    // One file that goes on behind the snapshot needs a copy of its own.
    const disk = how.layout === "multipart" ? linkingDisk(realDisk) : realDisk;
    const restored = await withFetched(
      archive,
      point,
      target,
      { ...surroundings, disk: realDisk },
      async (catalogue, at) =>
        await restore(catalogue, at, target, { ...surroundings, ...how, disk }),
    );
    return { restored, from: point.generation.name };
  };
}

/**
 * Chooses the point of an archive that the options name. What is returned then fetches the generation to beside the target,
 * lends it as one of a data directory, and removes it again.
 * @throws ReplicaError as `archivedRestore`.
 */
export async function archivedSource(
  url: string,
  target: string,
  context: CommandContext,
  onProgress: (file: string, bytes: number, totalBytes: number) => void,
) {
  const { archive, point } = await archivedPoint(url, context);
  const options = { disk: realDisk, signal: context.signal, onProgress };
  return async <T>(
    use: (catalogue: Catalogue, point: RestorePoint, from: string) => Promise<T>,
  ): Promise<T> =>
    await withFetched(
      archive,
      point,
      target,
      options,
      async (catalogue, at) => await use(catalogue, at, point.generation.name),
    );
}
