import * as fs from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { type Disk, diskError } from "../disk/disk.ts";

/** The target of a restore, and the folder that it is written to until it is whole. */
export interface RestoreTarget {
  /** The absolute path, as it was named. */
  readonly path: string;
  /** The folder itself, with all links resolved. */
  readonly realPath: string;
  /** Whether the folder does not exist yet. */
  readonly isNew: boolean;
  /**
   * On the same file system: beside a new folder; inside an existing one, which may be a mount point, or lie
   * in a folder that this user can't write to.
   */
  readonly temporary: string;
}

/**
 * Checks the target of a restore. Creates nothing yet, but removes what killed restores left there.
 * @param dataDir the data directory that is restored: no target may lie in it.
 * @throws ReplicaError USAGE for a folder that is neither new nor empty, or can't be created; DISK_FAILED.
 */
export function findTarget(target: string, dataDir: string): RestoreTarget {
  if (target === "")
    throw refusal("the target's name is empty: name a folder that is new or empty");
  const path = resolve(target);
  try {
    const realPath = realPathOf(path);
    const found = realPath === undefined ? newFolder(path) : folderThere(path, realPath);
    refuseInside(found, fs.realpathSync(dataDir));
    removeLeft(found);
    if (!found.isNew) refuseFilled(found);
    return found;
  } catch (cause) {
    throw diskError("checking", path, cause);
  }
}

/** The names of temporary folders; the process's id follows. */
const PREFIX_INSIDE = ".restoring-";
const prefixBeside = (name: string) => `.${name}.restoring-`;

function refusal(message: string): ReplicaError {
  return new ReplicaError("USAGE", { retry: "never", message });
}

function realPathOf(path: string): string | undefined {
  try {
    return fs.realpathSync(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function newFolder(path: string): RestoreTarget {
  if (fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    throw refusal(
      `${path} is a link to a folder that doesn't exist: create that folder, or name another`,
    );
  }
  const parent = realPathOf(dirname(path));
  if (parent === undefined || !fs.statSync(parent).isDirectory()) {
    throw refusal(`${path} can't be created: the folder ${dirname(path)} does not exist`);
  }
  const name = basename(path);
  const temporary = join(parent, `${prefixBeside(name)}${process.pid}`);
  return { path, realPath: join(parent, name), isNew: true, temporary };
}

function folderThere(path: string, realPath: string): RestoreTarget {
  if (!fs.statSync(realPath).isDirectory()) {
    throw refusal(`${path} is not a folder: name one that is new or empty`);
  }
  const temporary = join(realPath, `${PREFIX_INSIDE}${process.pid}`);
  return { path, realPath, isNew: false, temporary };
}

function refuseInside({ path, realPath }: RestoreTarget, dataDir: string): void {
  if (realPath !== dataDir && !realPath.startsWith(dataDir + sep)) return;
  throw refusal(
    `${path} lies in the data directory ${dataDir}, which a restore never changes: name a folder outside of it`,
  );
}

/** Removes the temporary folders of restores that were killed: beside the target, and inside it. */
function removeLeft({ realPath, isNew }: RestoreTarget): void {
  removeDead(dirname(realPath), prefixBeside(basename(realPath)));
  if (!isNew) removeDead(realPath, PREFIX_INSIDE);
}

function removeDead(dir: string, prefix: string): void {
  try {
    for (const name of fs.readdirSync(dir)) {
      const pid = name.startsWith(prefix) ? name.slice(prefix.length) : "";
      if (!/^[1-9]\d{0,9}$/.test(pid) || isOtherProcess(Number(pid))) continue;
      fs.rmSync(join(dir, name), { recursive: true, force: true });
    }
  } catch {
    // Left behind it only takes room; in the target, it is reported as what fills that.
  }
}

function isOtherProcess(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: the process exists, and is another user's.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** A new file system has this folder; servers ignore it. */
const LOST_AND_FOUND = "lost+found";

function refuseFilled({ path, realPath, temporary }: RestoreTarget): void {
  const mine = [LOST_AND_FOUND, basename(temporary)];
  const other = fs.readdirSync(realPath).find((name) => !mine.includes(name));
  if (other === undefined) return;
  throw refusal(`${path} is not empty, it contains ${other}: name a folder that is new or empty`);
}

/** Creates the temporary folder. */
export function beginTarget({ isNew, temporary }: RestoreTarget): void {
  fs.mkdirSync(temporary, { mode: isNew ? 0o777 : 0o700 });
}

/**
 * Moves the result to its place, durably: the folder as a whole, or its one entry where the folder existed
 * before and keeps its owner and mode. A failure leaves nothing in that place.
 */
export async function publishTarget(
  disk: Disk,
  target: RestoreTarget,
  entry: string,
): Promise<void> {
  const { realPath, isNew, temporary } = target;
  const { mode } = fs.statSync(isNew ? temporary : realPath);
  narrow(join(temporary, entry), mode);
  // It may have been filled meanwhile. A new folder needs no such check: rename(2) replaces no filled one.
  if (!isNew) refuseFilled(target);
  const place = isNew ? realPath : join(realPath, entry);
  disk.rename(isNew ? temporary : join(temporary, entry), place);
  try {
    if (!isNew) disk.remove(temporary);
    await disk.syncDir(dirname(place));
  } catch (cause) {
    disk.remove(place);
    throw cause;
  }
}

/** Limits the modes of files to what the folder allows. */
function narrow(path: string, folderMode: number): void {
  const found = fs.lstatSync(path);
  // Keep a folder's set-group-id bit.
  fs.chmodSync(path, found.mode & (folderMode | 0o7000));
  if (!found.isDirectory()) return;
  for (const name of fs.readdirSync(path)) narrow(join(path, name), folderMode);
}
