import * as fs from "node:fs";
import { type Disk, realDisk } from "../../store/disk/disk.ts";

/** One name in a folder; a link is neither a file nor a folder. */
export interface FolderEntry {
  readonly name: string;
  readonly kind: "file" | "folder" | "other";
}

/** What is told of a file or folder. */
export interface LookedAt {
  readonly bytes: number;
  readonly modifiedMs: number;
  /** Which one it is, by file system and inode: what is mounted there later is another one. */
  readonly identity: string;
}

/**
 * The file system under an archive's folder, a seam as `Disk` is. The folder may be a mount that answers slowly, so
 * every call that looks up a name is asynchronous, on the thread pool.
 */
export interface FolderDisk extends Pick<
  Disk,
  "close" | "write" | "read" | "syncData" | "syncDir"
> {
  /** Creates a file for writing that is its owner's alone, 0600; fails where anything has that name (O_EXCL). */
  createPrivate(path: string): Promise<number>;
  /**
   * Opens a file to read, through no link (O_NOFOLLOW) and without waiting for a pipe's writer.
   * @returns its size in bytes too; undefined where it is no regular file.
   */
  openRegular(path: string): Promise<{ readonly fd: number; readonly bytes: number } | undefined>;
  /** Gives the file at `from` a second name; fails where anything has that name. */
  hardLink(from: string, to: string): Promise<void>;
  /** Renames, and replaces what has that name. */
  moveTo(from: string, to: string): Promise<void>;
  /** Removes one name of a file. */
  unlink(path: string): Promise<void>;
  /** Makes a folder that is its owner's alone, 0700, and those above it that are missing. */
  makePrivateDir(path: string): Promise<void>;
  /** Removes a folder; fails where it isn't empty. */
  removeEmptyDir(path: string): Promise<void>;
  listDir(path: string): Promise<FolderEntry[]>;
  /** Looks at a file or folder, at a link itself; undefined where nothing has that name. */
  lookAt(path: string): Promise<LookedAt | undefined>;
}

/** The real one. */
export const realFolderDisk: FolderDisk = {
  close: realDisk.close,
  write: realDisk.write,
  read: realDisk.read,
  syncData: realDisk.syncData,
  syncDir: realDisk.syncDir,
  createPrivate: (path) => {
    const { O_CREAT, O_WRONLY, O_EXCL } = fs.constants;
    return open(path, O_CREAT | O_WRONLY | O_EXCL, 0o600);
  },
  openRegular: async (path) => {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
    const fd = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const stat = fs.fstatSync(fd);
    if (stat.isFile()) return { fd, bytes: stat.size };
    fs.closeSync(fd);
    return undefined;
  },
  hardLink: (from, to) => fs.promises.link(from, to),
  moveTo: (from, to) => fs.promises.rename(from, to),
  unlink: (path) => fs.promises.unlink(path),
  makePrivateDir: async (path) => {
    await fs.promises.mkdir(path, { recursive: true, mode: 0o700 });
  },
  removeEmptyDir: (path) => fs.promises.rmdir(path),
  listDir: async (path) => {
    const entries = await fs.promises.readdir(path, { withFileTypes: true });
    return entries.map((entry) => ({
      name: entry.name,
      kind: entry.isFile() ? "file" : entry.isDirectory() ? "folder" : "other",
    }));
  },
  lookAt: async (path) => {
    try {
      const { size, mtimeMs, dev, ino } = await fs.promises.lstat(path);
      return { bytes: size, modifiedMs: mtimeMs, identity: `${dev}.${ino}` };
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    }
  },
};

function open(path: string, flags: number, mode?: number): Promise<number> {
  return new Promise((resolve, reject) =>
    fs.open(path, flags, mode, (error, fd) => (error ? reject(error) : resolve(fd))),
  );
}
