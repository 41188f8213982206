import * as fs from "node:fs";
import { join } from "node:path";
import type { Archive } from "./archive.ts";
import type { ArchivePoint } from "./archive-point.ts";
import { fetchGeneration } from "./fetch-generation.ts";
import { FETCHED_ID } from "./fetched-directory.ts";
import { refuseInArchive } from "./refuse-inside.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { Catalogue } from "../../store/restore/catalogue.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";
import { fetchFolder, findTarget, type RestoreTarget } from "../../store/restore/restore-target.ts";

export interface FetchSourceOptions {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  /** Called with the bytes of base or log that are fetched so far. */
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
}

/** Finds the place of a restore before anything is fetched. @throws ReplicaError USAGE; see `findTarget`. */
function placeFor({ source }: Archive, target: string): RestoreTarget {
  const place = findTarget(target, undefined);
  refuseInArchive(source.url, place);
  return place;
}

/**
 * Fetches a generation to beside the target of a restore, does something with it as with any data directory, and removes
 * it again. @param use may link to its files instead of copying them.
 * @throws ReplicaError USAGE for a target that is neither new nor empty; see `fetchGeneration`; what `use` throws.
 */
export async function withFetched<T>(
  archive: Archive,
  point: ArchivePoint,
  target: string,
  options: FetchSourceOptions,
  use: (catalogue: Catalogue, point: RestorePoint) => Promise<T>,
): Promise<T> {
  return await withFetchedDirectory(archive, point, target, options, async (dir) => {
    using catalogue = new Catalogue(dir);
    const kept = catalogue.generations.find(({ id }) => id === FETCHED_ID)!;
    return await use(catalogue, { generation: kept, offset: point.offset });
  });
}

/** The same for what opens the data directory itself. Its one generation has the number `FETCHED_ID`. */
export async function withFetchedDirectory<T>(
  archive: Archive,
  { generation, offset }: ArchivePoint,
  target: string,
  options: FetchSourceOptions,
  use: (dir: string) => Promise<T>,
): Promise<T> {
  // A wrong target is refused before anything is fetched.
  const holder = fetchFolder(placeFor(archive, target));
  try {
    fs.mkdirSync(holder, { mode: 0o700 });
    const dir = join(holder, "data");
    await fetchGeneration(archive, generation, offset, dir, options);
    return await use(dir);
  } finally {
    await options.disk.removeLarge(holder);
  }
}

/** The disk for such a restore: the snapshot's file is there for it alone, and needs no copy. */
export function linkingDisk(disk: Disk): Disk {
  return {
    ...disk,
    copy: async (from, to) => {
      await fs.promises.link(from, to).catch(async () => await disk.copy(from, to));
    },
  };
}
