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
  /** An empty folder that a new one takes the place of; its owner and mode are kept. */
  readonly replaced: Pick<fs.Stats, "mode" | "uid" | "gid"> | undefined;
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

/**
 * The same for a result of several folders, which is put in place as one: an empty folder that is there is replaced by
 * rename(2), which takes no filled one and no mount point.
 * @throws ReplicaError as `findTarget`; USAGE for a mount point.
 */
export function findWholeTarget(target: string, dataDir: string | undefined): RestoreTarget {
  const found = findTarget(target, dataDir);
  if (found.isNew) return found;
  const { path, realPath } = found;
  const temporary = join(dirname(realPath), `${prefixBeside(basename(realPath))}${process.pid}`);
  try {
    if (isMountPoint(realPath)) {
      throw refusal(
        `${path} is a mount point, and a cluster is put in place as one folder: name a new folder in it, such as ${join(path, "restored")}`,
      );
    }
    // Of what it may hold for a single restore, nothing may be there.
    const [other] = fs.readdirSync(realPath);
    if (other !== undefined) throw filled(path, other);
    const { mode, uid, gid } = fs.statSync(realPath);
    return { ...found, isNew: true, temporary, replaced: { mode, uid, gid } };
  } catch (cause) {
    throw diskError("checking", path, cause);
  }
}

/** Whether a file system, a volume of one or another folder is mounted there. */
function isMountPoint(realPath: string): boolean {
  const parent = dirname(realPath);
  if (parent === realPath || fs.statSync(realPath).dev !== fs.statSync(parent).dev) return true;
  return mountPoints().includes(realPath);
}

/** A folder can be mounted on another one of the same device, which Linux alone tells ("proc(5)": mountinfo). */
function mountPoints(): string[] {
  let text: string;
  try {
    text = fs.readFileSync("/proc/self/mountinfo", "utf8");
  } catch {
    return [];
  }
  return text.split("\n").map((line) => {
    const point = line.split(" ")[4] ?? "";
    const octal = (_: string, digits: string) => String.fromCharCode(Number.parseInt(digits, 8));
    return Buffer.from(
      // Each byte of a name that has such a one stands for itself.
      Buffer.from(point)
        .toString("latin1")
        .replace(/\\(\d{3})/g, octal),
      "latin1",
    ).toString();
  });
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
  return { path, realPath: join(parent, name), isNew: true, replaced: undefined, temporary };
}

function folderThere(path: string, realPath: string): RestoreTarget {
  if (!fs.statSync(realPath).isDirectory()) {
    throw refusal(`${path} is not a folder: name one that is new or empty`);
  }
  const temporary = join(realPath, `${PREFIX_INSIDE}${process.pid}`);
  return { path, realPath, isNew: false, replaced: undefined, temporary };
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

/** Whether another process of this id lives, as far as this one can see. */
export function isOtherProcess(pid: number): boolean {
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
  throw filled(path, other);
}

function filled(path: string, other: string): ReplicaError {
  return refusal(`${path} is not empty, it contains ${other}: name a folder that is new or empty`);
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
 * before. Such a folder keeps its owner and mode, also where another one takes its place. A failure leaves nothing in that place.
 */
export async function publishTarget(
  disk: Disk,
  target: RestoreTarget,
  entry: string,
  readers: Readers,
): Promise<void> {
  const { realPath, isNew, replaced, temporary } = target;
  const modes = "mode" in readers ? exactly(readers.mode) : modesFrom(readers.source, target);
  setModes(isNew ? temporary : join(temporary, entry), modes);
  if (replaced !== undefined) keepOwner(temporary, replaced);
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

/** Gives a folder the owner and mode of another one, or as much of both as this user may. */
function keepOwner(path: string, { mode, uid, gid }: Pick<fs.Stats, "mode" | "uid" | "gid">): void {
  for (const owner of [uid, process.getuid?.() ?? uid]) {
    try {
      fs.chownSync(path, owner, gid);
      break;
    } catch {
      // Of a user that isn't root only the group can be changed, to one that the user is in.
    }
  }
  const found = fs.statSync(path);
  const others = found.gid === gid ? mode & 0o3077 : notWider([mode], gid, found.gid);
  fs.chmodSync(path, (mode & 0o700) | others);
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
  target: RestoreTarget,
): Modes {
  const { temporary } = target;
  const { gid } = fs.statSync(temporary);
  const mask = ~process.umask();
  const around = mask & accessThere(target, gid);
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

/** What others may do at most in the folder that was there; all where none was. */
function accessThere({ isNew, replaced, realPath }: RestoreTarget, gid: number): number {
  if (!isNew) return fs.statSync(realPath).mode;
  return replaced === undefined ? ~0 : notWider([replaced.mode], replaced.gid, gid);
}

function setModes(path: string, modes: Modes): void {
  const found = fs.lstatSync(path);
  if (!found.isDirectory()) return fs.chmodSync(path, modes.file);
  // Keep a folder's set-group-id bit.
  fs.chmodSync(path, (found.mode & 0o7000) | modes.folder);
  for (const name of fs.readdirSync(path)) setModes(join(path, name), modes);
}
