import { join } from "node:path";
import type { Archive } from "../../archive/reader/archive.ts";
import { archivePoint, windowOf } from "../../archive/reader/archive-point.ts";
import { FETCHED_ID } from "../../archive/reader/fetched-directory.ts";
import { logger } from "../../base/logger.ts";
import type { ComparedMoments, WithMoment } from "../../inspect/compare/compare-moments.ts";
import { makePrivateDirectory } from "../../stock/private-directory.ts";
import { Catalogue, cutShortNote } from "../../store/restore/catalogue.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { restorePoint } from "../../store/restore/restore-point.ts";
import { type FetchSourceOptions, withFetched } from "../../archive/reader/fetch-source.ts";

/** Two times, in milliseconds since 1970. */
export interface TwoTimes {
  readonly beforeMs: number;
  readonly afterMs: number;
}

/**
 * Opens two moments of a data directory for as long as `use` works.
 * @throws ReplicaError USAGE for one that isn't kept; of the directory; what `use` throws.
 */
export async function withMomentsOf<T>(
  dir: string,
  { beforeMs, afterMs }: TwoTimes,
  nowMs: number,
  use: (moments: ComparedMoments) => Promise<T>,
): Promise<T> {
  using catalogue = new Catalogue(dir);
  for (const loss of catalogue.losses) logger.warn(describeDamage(loss));
  const note = cutShortNote(catalogue);
  if (note !== undefined) logger.info(note);
  const pointAt = (atMs: number) =>
    restorePoint(catalogue, { generation: undefined, offset: undefined, atMs }, nowMs);
  const [before, after] = [pointAt(beforeMs), pointAt(afterMs)];
  const isOne = before.generation.id === after.generation.id;
  return await use({
    before: async (take) => await take(catalogue, before),
    after: async (take) => await take(catalogue, after),
    together: isOne ? { catalogue, before, after } : undefined,
  });
}

/** Says which times an archive keeps; empty where that is none. */
export async function keptInArchive(archive: Archive, signal: AbortSignal): Promise<string> {
  const generations = await archive.generations(signal);
  return generations.length === 0 ? "" : windowOf(generations);
}

/**
 * The same of an archive: fetches what the moments need to a folder in TMPDIR, one generation at a time.
 * @throws ReplicaError USAGE for a time that isn't kept; ARCHIVE_DAMAGED; of the store; what `use` throws.
 */
export async function withArchivedMoments<T>(
  archive: Archive,
  { beforeMs, afterMs }: TwoTimes,
  options: FetchSourceOptions,
  use: (moments: ComparedMoments) => Promise<T>,
): Promise<T> {
  const pointAt = async (atMs: number) =>
    await archivePoint(archive, { generation: undefined, offset: undefined, atMs }, options.signal);
  const [before, after] = [await pointAt(beforeMs), await pointAt(afterMs)];
  const holder = makePrivateDirectory();
  const beside = join(holder.path, "moment");
  try {
    if (before.generation.name !== after.generation.name) {
      const fetched =
        (point: typeof before): WithMoment =>
        async (take) =>
          await withFetched(archive, point, beside, options, take);
      return await use({ before: fetched(before), after: fetched(after), together: undefined });
    }
    const last = before.offset > after.offset ? before : after;
    return await withFetched(archive, last, beside, options, async (catalogue) => {
      const generation = catalogue.generations.find(({ id }) => id === FETCHED_ID)!;
      const together = {
        catalogue,
        before: { generation, offset: before.offset },
        after: { generation, offset: after.offset },
      };
      return await use({
        before: async (take) => await take(catalogue, together.before),
        after: async (take) => await take(catalogue, together.after),
        together,
      });
    });
  } finally {
    await holder.remove();
  }
}
