import { mkdirSync } from "node:fs";
import type { ReplicaProcess } from "./replica-process.ts";
import { tempDir } from "./temp.ts";

function run(...argv: string[]): boolean {
  return Bun.spawnSync(argv, { stdout: "ignore", stderr: "ignore", timeout: 20_000 }).success;
}

/** A file system in memory, unmounted by `using`. */
export interface SmallDisk extends Disposable {
  resize(bytes: number): void;
  remount(how: "ro" | "rw"): void;
}

/** Whether this user may mount; says so where not. */
export function mayMount(): boolean {
  using dir = tempDir("mount");
  using disk = smallDisk(dir.file("disk"), 64 * 1024);
  if (disk === undefined) {
    console.warn("this user may not mount: what a small or full disk does is NOT tested here");
  }
  return disk !== undefined;
}

/** Mounts a file system of so many bytes at `path`, a new folder; undefined if this user may not mount. */
export function smallDisk(path: string, bytes: number): SmallDisk | undefined {
  mkdirSync(path);
  if (!run("mount", "-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", path)) return undefined;
  const remount = (options: string) => {
    if (!run("mount", "-o", `remount,${options}`, path)) throw new Error(`no remount: ${options}`);
  };
  return {
    resize: (size) => remount(`size=${size}`),
    remount,
    [Symbol.dispose]: () => void run("umount", "--lazy", path),
  };
}

/** Limits the size of every file that the process writes: beyond it, writes fail with EFBIG. */
export function limitFileBytes(replica: ReplicaProcess, bytes: number | "unlimited"): void {
  if (!run("prlimit", "--pid", String(replica.pid), `--fsize=${bytes}:unlimited`)) {
    throw new Error("prlimit is needed (Debian's package util-linux)");
  }
}
