import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TempDir extends Disposable {
  readonly path: string;
  /** Returns a path inside the folder. */
  file(...names: string[]): string;
  remove(): void;
}

const PREFIX = "bun-replica-test-";
const folders = new Set<string>();
let begun = false;

/** Makes a folder that `using` removes. Folders of killed runs are removed by the next run. */
export function tempDir(purpose = "files"): TempDir {
  if (!begun) begin();
  const path = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-${purpose}-`));
  folders.add(path);
  const remove = (): void => {
    removeFolder(path);
    folders.delete(path);
  };
  return {
    path,
    file: (...names) => join(path, ...names),
    remove,
    [Symbol.dispose]: remove,
  };
}

function begin(): void {
  begun = true;
  process.on("exit", () => {
    for (const path of folders) removeFolder(path);
  });
  // After SIGKILL, or an exit by the test runner, folders remain.
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : NaN;
    if (!(pid > 0) || isAlive(pid)) continue;
    unmountBelow(join(tmpdir(), name));
    removeIfOurs(join(tmpdir(), name));
  }
}

/** A killed run leaves its small disks mounted, and a folder with one in it can't be removed. */
function unmountBelow(path: string): void {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  for (const point of mounts.map((line) => line.split(" ")[1] ?? "")) {
    if (point.startsWith(`${path}/`)) Bun.spawnSync(["umount", "--lazy", point]);
  }
}

function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 3 });
}

/** Another user of the machine may have left it. */
function removeIfOurs(path: string): void {
  try {
    removeFolder(path);
  } catch {
    // They will remove it.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
