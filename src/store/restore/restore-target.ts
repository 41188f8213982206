import * as fs from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { foldersAbove, notWider, withinReach } from "../disk/access.ts";
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
 * @param dataDir the data directory that is restored: no target may lie in it. Undefined: what is restored is in no folder.
 * @throws ReplicaError USAGE for a folder that is neither new nor empty, or can't be created; DISK_FAILED.
 */
export function findTarget(target: string, dataDir: string | undefined): RestoreTarget {
  if (target === "")
    throw refusal("the target's name is empty: name a folder that is new or empty");
  const path = resolve(target);
  try {
    const realPath = realPathOf(path);
    const found = realPath === undefined ? newFolder(path) : folderThere(path, realPath);
    if (dataDir !== undefined) refuseInside(found, fs.realpathSync(dataDir));
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
/** What is fetched before it can be restored lies beside what is restored. */
const FETCHING = "fetching-";

/** The folder for what must be fetched before it can be restored: on the file system of the target, and left to the caller. */
export function fetchFolder({ temporary }: RestoreTarget): string {
  return temporary.replace(/restoring-(\d+)$/, `${FETCHING}$1`);
}

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
  const fetching = prefix.replace(/restoring-$/, FETCHING);
  try {
    for (const name of fs.readdirSync(dir)) {
      const begin = [prefix, fetching].find((one) => name.startsWith(one));
      const pid = begin === undefined ? "" : name.slice(begin.length);
      // What this process has fetched is what it restores.
      if (begin === fetching && Number(pid) === process.pid) continue;
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

function refuseFilled(target: RestoreTarget): void {
  const { path, realPath, temporary } = target;
  const mine = [LOST_AND_FOUND, basename(temporary), basename(fetchFolder(target))];
  const other = fs.readdirSync(realPath).find((name) => !mine.includes(name));
  if (other === undefined) return;
  throw refusal(`${path} is not empty, it contains ${other}: name a folder that is new or empty`);
}

/** Creates the temporary folder, which nobody else may look into. */
export function beginTarget({ temporary }: RestoreTarget): void {
  fs.mkdirSync(temporary, { mode: 0o700 });
}

/** Who may read the result: the mode that was asked for, or nobody who couldn't read all of `source`. */
export type Readers =
  | { readonly mode: number }
  | { readonly source: { readonly folders: readonly string[]; readonly files: readonly string[] } };

/**
 * Moves the result to its place, durably: the folder as a whole, or its one entry where the folder existed
 * before and keeps its owner and mode. A failure leaves nothing in that place.
 */
export async function publishTarget(
  disk: Disk,
  target: RestoreTarget,
  entry: string,
  readers: Readers,
): Promise<void> {
  const { realPath, isNew, temporary } = target;
  const modes = "mode" in readers ? exactly(readers.mode) : modesFrom(readers.source, target);
  setModes(isNew ? temporary : join(temporary, entry), modes);
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

interface Modes {
  readonly folder: number;
  readonly file: number;
}

/** Whoever may read may enter, too. */
function exactly(mode: number): Modes {
  return { folder: mode | ((mode & 0o444) >> 2), file: mode & 0o666 };
}

/**
 * As files and folders are made here, but no wider than what they come from, nor than a target that was there. The folders
 * above what they come from count, unless they are above the result as well: there they keep out whom they kept out.
 */
function modesFrom(
  { folders, files }: Extract<Readers, { source: object }>["source"],
  { isNew, realPath, temporary }: RestoreTarget,
): Modes {
  const { gid } = fs.statSync(temporary);
  const around = isNew ? ~process.umask() : fs.statSync(realPath).mode & ~process.umask();
  // Nothing comes from a log that is missing.
  const isThere = (path: string) => fs.existsSync(path);
  const of = (paths: readonly string[], access: (found: fs.Stats) => number): number =>
    paths.reduce((all, path) => all & access(fs.statSync(path)), 0o077);
  const own = (found: fs.Stats) => notWider([found.mode], found.gid, gid);
  const beside = new Set(foldersAbove(temporary));
  const above = [...folders, ...files.filter(isThere)]
    .flatMap(foldersAbove)
    .filter((path) => !beside.has(path));
  const reach = of(above, (found) => withinReach(found, gid));
  const folder = of(folders, own) & reach & around;
  const file = 0o644 & folder & of(files.filter(isThere), own);
  return { folder: 0o700 | folder, file: 0o600 | file };
}

function setModes(path: string, modes: Modes): void {
  const found = fs.lstatSync(path);
  if (!found.isDirectory()) return fs.chmodSync(path, modes.file);
  // Keep a folder's set-group-id bit.
  fs.chmodSync(path, (found.mode & 0o7000) | modes.folder);
  for (const name of fs.readdirSync(path)) setModes(join(path, name), modes);
}
