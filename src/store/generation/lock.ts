import { FFIType } from "bun:ffi";
import * as fs from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { libc } from "../../base/libc.ts";
import { diskError } from "../disk/disk.ts";
import { stillThere } from "../disk/still-there.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

/** flock(2) ends with its process, even by a kill, and holds across containers on one volume. Bun has no call for it. */
function flock(fd: number): boolean {
  const { symbols } = libc({ flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } });
  return symbols.flock(fd, LOCK_EX | LOCK_NB) === 0;
}

/** The lock of a data directory, while it is held. */
export interface DirectoryLock {
  /** Releases it. */
  release(): void;
  /**
   * @throws ReplicaError DIRECTORY_LOST once the folder was moved or removed: another process may own whatever
   * is at its path now.
   */
  refuseLost(): void;
}

/**
 * Locks `replica.lock` for as long as this process lives, and writes the holder's name into it.
 * @throws ReplicaError DIRECTORY_IN_USE naming the holder; DISK_FAILED.
 */
export function lockDirectory(dir: string): DirectoryLock {
  const path = join(dir, "replica.lock");
  let fd: number;
  try {
    const { O_CREAT, O_RDWR, O_NOFOLLOW } = fs.constants;
    fd = fs.openSync(path, O_CREAT | O_RDWR | O_NOFOLLOW, 0o644);
  } catch (cause) {
    throw diskError("opening", path, cause);
  }
  if (!flock(fd)) {
    const holder = fs.readFileSync(path, "utf8").trim().slice(0, 200);
    fs.closeSync(fd);
    throw new ReplicaError("DIRECTORY_IN_USE", {
      retry: "never",
      message: `${dir} is in use by ${holder === "" ? "another process" : holder}: stop it, or choose another --dir`,
    });
  }
  try {
    nameHolder(fd);
  } catch (cause) {
    const error = diskError("writing", path, cause);
    // Who can't start can't make room either: then the holder has no name.
    if (error.code !== "DISK_FULL") {
      fs.closeSync(fd);
      throw error;
    }
    fs.ftruncateSync(fd, 0);
  }
  const isThere = stillThere(fd, path);
  return {
    release: () => fs.closeSync(fd),
    refuseLost: () => {
      if (isThere()) return;
      throw new ReplicaError("DIRECTORY_LOST", {
        retry: "never",
        message: `${dir} was moved or removed while it was in use: nothing more is written to it; start again with the --dir where it is now`,
      });
    },
  };
}

/** Over the name that is there: what is freed first may not be there to be written. */
function nameHolder(fd: number): void {
  const name = Buffer.from(
    `process ${process.pid} on ${hostname()}, since ${new Date().toISOString()}\n`,
  );
  fs.writeSync(fd, name, 0, name.length, 0);
  fs.ftruncateSync(fd, name.length);
}
