import * as fs from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { usageError } from "../../base/errors.ts";
import { archiveFolder } from "../store/open-store.ts";

/** As many links as Linux follows on the way to a file. */
const MAX_LINKS = 40;

/**
 * Refuses an archive in a folder that is the data directory, lies in it, or holds it: each would take the other's files
 * for its own. Links and bind mounts are looked through; neither folder has to be there yet, and none is made.
 * @param url an archive's URL; one that names no folder is never refused.
 * @param dataDir the path of the data directory.
 * @throws ReplicaError USAGE.
 */
export function refuseOverlap(url: string, dataDir: string): void {
  const folder = archiveFolder(url);
  if (folder === undefined) return;
  const archive = realPath(folder);
  const data = realPath(resolve(dataDir));
  const [isIn, holds] = [liesIn(archive, data), liesIn(data, archive)];
  if (!isIn && !holds) return;
  const how =
    isIn && holds
      ? "is the data directory itself"
      : isIn
        ? `lies in the data directory ${data}`
        : `holds the data directory ${data}`;
  throw usageError(
    `the archive ${archive} ${how}: name a folder for it that is apart, on another disk at best`,
  );
}

/** Where a path leads, as far as it is there. */
function realPath(path: string, links = 0): string {
  try {
    return fs.realpathSync(path);
  } catch {
    if (dirname(path) === path) return path;
    const place = join(realPath(dirname(path), links), basename(path));
    const target = links < MAX_LINKS ? linkAt(place) : undefined;
    return target === undefined ? place : realPath(resolve(dirname(place), target), links + 1);
  }
}

function linkAt(path: string): string | undefined {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** Whether a path is a folder, or lies in it; by inode too, since a mount gives one folder two paths. */
function liesIn(path: string, folder: string): boolean {
  const id = inodeOf(folder);
  for (let at = path; ; at = dirname(at)) {
    if (at === folder || (id !== undefined && inodeOf(at) === id)) return true;
    if (dirname(at) === at) return false;
  }
}

function inodeOf(path: string): string | undefined {
  try {
    const { dev, ino } = fs.statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
