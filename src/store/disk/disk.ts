import * as fs from "node:fs";
import { dirname } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { type DiskHints, diskHints } from "./hints.ts";

/** Takes bytes in order. Each call returns a promise where it has to wait; it rejects where the bytes were not taken. */
export interface Sink {
  write(bytes: Uint8Array): number | Promise<number>;
  /** Hands buffered bytes to the kernel. */
  flush(): number | Promise<number>;
  end(): number | Promise<number>;
}

/**
 * The file system as this program uses it: a seam, so that tests can fail every call in turn. Calls that wait
 * for the device are asynchronous, on the thread pool; those about names and sizes are not.
 */
export interface Disk extends DiskHints {
  /** Creates a file for writing, 0644; fails where it exists (O_EXCL). */
  create(path: string): number;
  /** The same past the page cache (O_DIRECT); a file system that can't fails with EINVAL. */
  createDirect(path: string): number;
  /**
   * Opens for writing; fails where a link stands in its place (O_NOFOLLOW), which may lead to somebody else's file, and where
   * a pipe does.
   */
  openExisting(path: string): number;
  openToRead(path: string): number;
  close(fd: number): void;
  sink(fd: number): Sink;
  /** Writes all of `buffers` at `position`, whatever a single write takes. */
  write(fd: number, buffers: Uint8Array[], position: number): Promise<void>;
  /**
   * Writes to the page cache at once, for few bytes: there a write costs less than the way to the thread pool and back.
   * @returns how many the kernel took.
   */
  writeAtOnce(fd: number, bytes: Uint8Array, position: number): number;
  /** Reads up to `buffer.length` bytes at `position`. Returns how many; 0 at the end. */
  read(fd: number, buffer: Uint8Array, position: number): Promise<number>;
  syncData(fd: number): Promise<void>;
  syncDir(path: string): Promise<void>;
  sizeOf(path: string): number;
  /** Like `openExisting`, through no link. */
  truncate(path: string, bytes: number): void;
  /** Copies a file, and nothing else, to a new one: as a reflink where the file system can, else inside the kernel. */
  copy(from: string, to: string): Promise<void>;
  rename(from: string, to: string): void;
  /** Removes a file or a folder with all that is in it; a missing one isn't an error. */
  remove(path: string): void;
  /** The same for large ones, off the event loop. */
  removeLarge(path: string): Promise<void>;
  makeDir(path: string): void;
  linkTo(target: string, path: string): void;
  /** Free bytes, for this user, on the file system of `path`. */
  freeBytes(path: string): number;
}

/** What a queued piece costs besides its bytes: it limits a peer that sends single bytes. */
export const PIECE_BYTES = 256;

/** The smallest buffer worth freeing early. */
const WORTH_BYTES = 16 * 1024;

/**
 * Frees a chunk of the socket that was written or copied, if it fills its whole buffer, so that nothing else
 * can use a part of it. The garbage collector would let a hundred megabytes of them pile up first.
 */
export function giveBack(bytes: Uint8Array): void {
  if (bytes.length < WORTH_BYTES) return;
  const { buffer } = bytes;
  if (bytes.length === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/** Closes a file that was read, given up, or synced before: an error of close(2) loses nothing then. */
export function closeQuietly(disk: Pick<Disk, "close">, fd: number): void {
  try {
    disk.close(fd);
  } catch {
    // See above.
  }
}

/** A Bun.file writer hands writes of this size to the kernel at once, and gathers smaller ones. */
const SINK_BYTES = 256 * 1024;
/** The most pieces of one writev(2) on Linux. */
const MAX_PIECES = 1024;

/**
 * Opens a file for reading, without waiting where somebody has put a pipe in its place: nothing but a kill ends a process
 * that waits for a pipe's writer.
 */
export function openToRead(path: string): number {
  return fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
}

function openExisting(path: string): number {
  return fs.openSync(
    path,
    fs.constants.O_WRONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK,
  );
}

/** The real disk. */
export const realDisk: Disk = {
  create: (path) =>
    fs.openSync(path, fs.constants.O_CREAT | fs.constants.O_WRONLY | fs.constants.O_EXCL, 0o644),
  createDirect: (path) => {
    const { O_CREAT, O_WRONLY, O_EXCL, O_DIRECT } = fs.constants;
    // A system without the flag has no file system that supports it.
    if (O_DIRECT === undefined) throw Object.assign(new Error("EINVAL"), { code: "EINVAL" });
    return fs.openSync(path, O_CREAT | O_WRONLY | O_EXCL | O_DIRECT, 0o644);
  },
  openExisting,
  openToRead,
  close: (fd) => fs.closeSync(fd),
  sink: (fd) => Bun.file(fd).writer({ highWaterMark: SINK_BYTES }),
  write: async (fd, buffers, position) => {
    for (let at = 0; at < buffers.length; at += MAX_PIECES) {
      position += await writeAll(fd, buffers.slice(at, at + MAX_PIECES), position);
    }
  },
  writeAtOnce: (fd, bytes, position) => fs.writeSync(fd, bytes, 0, bytes.length, position),
  ...diskHints,
  read: (fd, buffer, position) =>
    new Promise((resolve, reject) =>
      fs.read(fd, buffer, 0, buffer.length, position, (error, n) =>
        error ? reject(error) : resolve(n),
      ),
    ),
  syncData: (fd) =>
    new Promise((resolve, reject) =>
      fs.fdatasync(fd, (error) => (error ? reject(error) : resolve())),
    ),
  syncDir: async (path) => {
    const dir = fs.openSync(path, "r");
    try {
      await new Promise<void>((resolve, reject) =>
        fs.fsync(dir, (error) => (error ? reject(error) : resolve())),
      );
    } finally {
      fs.closeSync(dir);
    }
  },
  sizeOf: (path) => fs.statSync(path).size,
  truncate: (path, bytes) => {
    const fd = openExisting(path);
    try {
      fs.ftruncateSync(fd, bytes);
    } finally {
      fs.closeSync(fd);
    }
  },
  copy: async (from, to) => {
    if (!fs.statSync(from).isFile()) throw Object.assign(new Error("EINVAL"), { code: "EINVAL" });
    const { COPYFILE_EXCL, COPYFILE_FICLONE } = fs.constants;
    await fs.promises.copyFile(from, to, COPYFILE_EXCL | COPYFILE_FICLONE);
  },
  rename: (from, to) => fs.renameSync(from, to),
  remove: (path) => fs.rmSync(path, { recursive: true, force: true }),
  removeLarge: (path) => fs.promises.rm(path, { recursive: true, force: true }),
  makeDir: (path) => {
    fs.mkdirSync(path, { recursive: true });
  },
  linkTo: (target, path) => fs.symlinkSync(target, path),
  freeBytes: (path) => {
    const { bavail, bsize } = fs.statfsSync(path);
    return bavail * bsize;
  },
};

async function writeAll(fd: number, buffers: Uint8Array[], position: number): Promise<number> {
  let pieces = buffers;
  let done = 0;
  for (;;) {
    const written = await new Promise<number>((resolve, reject) =>
      fs.writev(fd, pieces, position + done, (error, n) => (error ? reject(error) : resolve(n))),
    );
    done += written;
    let skip = written;
    const first = pieces.findIndex((piece) => {
      if (skip < piece.length) return true;
      skip -= piece.length;
      return false;
    });
    if (first === -1) return done;
    if (written === 0) throw new Error("the disk took no bytes and reported no error");
    pieces = [pieces[first]!.subarray(skip), ...pieces.slice(first + 1)];
  }
}

/**
 * Writes a small file whole or not at all: under a temporary name, data sync, rename, sync of the folder. An
 * earlier file of that name stays until the new one is durable. @throws Error of the disk.
 */
export async function writeWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.tmp`;
  disk.remove(temporary);
  const fd = disk.create(temporary);
  try {
    await disk.write(fd, [bytes], 0);
    await disk.syncData(fd);
  } finally {
    disk.close(fd);
  }
  disk.rename(temporary, path);
  await disk.syncDir(dirname(path));
}

/** Free bytes on the file system of `dir`. @throws ReplicaError DISK_FAILED. */
export function freeBytesAt(disk: Disk, dir: string): number {
  try {
    return disk.freeBytes(dir);
  } catch (cause) {
    throw diskError("looking for room in", dir, cause);
  }
}

/**
 * Refuses a snapshot larger than the free space.
 * @param totalBytes undefined where the primary does not know it yet: then a write fails once the disk is full.
 * @throws ReplicaError DISK_FULL, DISK_FAILED.
 */
export function refuseTooLarge(disk: Disk, dir: string, totalBytes: number | undefined): void {
  if (totalBytes === undefined) return;
  const free = freeBytesAt(disk, dir);
  if (totalBytes <= free) return;
  throw new ReplicaError("DISK_FULL", {
    message: `the snapshot has ${totalBytes} bytes, ${dir} has room for ${free}: make room`,
  });
}

/** An error of the disk as people read it: what was done, where, why it failed, what to do next. */
export function diskError(doing: string, path: string, cause: unknown): ReplicaError {
  if (cause instanceof ReplicaError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const hints: Record<string, string> = {
    ENOSPC: "the disk is full: make room",
    EDQUOT: "the quota is used up: raise it or make room",
    EROFS: "the file system is read-only: choose another folder, or remount it",
    EACCES: "no permission: choose another folder, or change its owner",
    EPERM: "no permission: choose another folder, or change its owner",
    EIO: "the device reports an error: check the disk",
    ESPIPE: "it is a pipe and no file: put the file there",
    ELOOP: "a link stands in its place: put the file itself there",
    ENOTDIR: "a part of the path is not a folder: choose another folder",
  };
  const why = hints[code] ?? (cause instanceof Error ? cause.message : String(cause));
  return new ReplicaError(code === "ENOSPC" || code === "EDQUOT" ? "DISK_FULL" : "DISK_FAILED", {
    message: `${doing} ${path}: ${why}${code === "" ? "" : ` (${code})`}`,
    cause,
  });
}
