import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ReplicaError } from "../base/errors.ts";
import { diskError } from "../store/disk/disk.ts";
import { lockDirectory } from "../store/generation/lock.ts";
import { isOtherProcess } from "../store/restore/restore-target.ts";

/** A unix socket address has 108 bytes on Linux and 104 elsewhere, including the terminating zero. */
const MAX_SOCKET_PATH_BYTES = 103;
/** The id of the process follows, and six characters that mkdtemp(3) chooses. */
const PREFIX = "replica-stock-";
const NAME = /^replica-stock-([1-9]\d{0,9})-[A-Za-z0-9]{6}$/;

/** A directory for a server, with a lock for as long as this process lives. */
export interface PrivateDirectory {
  readonly path: string;
  /** Removes it, without following the links in it. Does nothing a second time. */
  readonly remove: () => Promise<void>;
}

/**
 * Makes a directory of mode 0700, because the socket in it asks for no password. Removes those that killed processes of
 * this user have left: they may hold a copy of the data.
 * @throws ReplicaError DISK_FULL, DISK_FAILED.
 */
export function makePrivateDirectory(): PrivateDirectory {
  // A long TMPDIR would leave no room for the name of a socket.
  for (const root of new Set([tmpdir(), "/tmp"])) {
    const prefix = join(resolve(root), `${PREFIX}${process.pid}-`);
    // mkdtemp adds six characters; the socket is "/s".
    if (Buffer.byteLength(prefix) + 8 > MAX_SOCKET_PATH_BYTES) continue;
    removeLeft(root);
    try {
      return locked(fs.mkdtempSync(prefix));
    } catch (cause) {
      throw diskError("making a directory in", root, cause);
    }
  }
  throw new ReplicaError("DISK_FAILED", {
    retry: "never",
    message: `${tmpdir()} is too long for the path of a unix socket: set TMPDIR to a shorter one`,
  });
}

function locked(path: string): PrivateDirectory {
  try {
    const lock = lockDirectory(path);
    let isLocked = true;
    const remove = async () => {
      await fs.promises.rm(path, { recursive: true, force: true });
      // A second time would close what another file is open by.
      if (isLocked) lock.release();
      isLocked = false;
    };
    return { path, remove };
  } catch (cause) {
    fs.rmSync(path, { recursive: true, force: true });
    throw cause;
  }
}

/** A process of another container may have any id: the lock tells whether it lives. */
function removeLeft(root: string): void {
  try {
    for (const name of fs.readdirSync(root)) {
      const pid = NAME.exec(name)?.[1];
      if (pid === undefined || Number(pid) === process.pid || isOtherProcess(Number(pid))) continue;
      removeUnlocked(join(root, name));
    }
  } catch {
    // It only takes room. What a server needs now is told by what fails next.
  }
}

function removeUnlocked(path: string): void {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  // Folders of others may be traps, and are theirs to remove.
  if (found?.isDirectory() !== true || found.uid !== process.getuid?.()) return;
  try {
    const lock = lockDirectory(path);
    fs.rmSync(path, { recursive: true, force: true });
    lock.release();
  } catch {
    // It is in use, or goes just now.
  }
}
