import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { endingWithParent } from "../support/children.ts";
import { programEnvironment } from "../support/replica-process.ts";
import type { TempDir } from "../support/temp.ts";

const projectDir = join(import.meta.dir, "../..");

/** A folder of a user's, in which "bun-replica" is installed. */
export function userFolder(dir: TempDir): string {
  const path = dir.file("user");
  mkdirSync(join(path, "node_modules"), { recursive: true });
  symlinkSync(projectDir, join(path, "node_modules/bun-replica"));
  writeFileSync(join(path, "package.json"), '{ "type": "module" }\n');
  return path;
}

/** Runs a program of a user's to its end, in an empty folder. It must end by itself. */
export async function runProgram(
  dir: TempDir,
  source: string,
  { under = [], args = [] }: { under?: readonly string[]; args?: readonly string[] } = {},
) {
  const folder = userFolder(dir);
  const path = join(folder, "program.ts");
  writeFileSync(path, source);
  const home = dir.file("home");
  mkdirSync(home);
  const child = Bun.spawn(endingWithParent([...under, process.execPath, path, ...args]), {
    cwd: home,
    env: { ...programEnvironment(), HOME: home, TMPDIR: home },
    stdin: "ignore",
    stdout: Bun.file(dir.file("stdout")),
    stderr: Bun.file(dir.file("stderr")),
  });
  const exitCode = await child.exited;
  const [stdout, stderr] = await Promise.all(
    ["stdout", "stderr"].map(async (name) => await Bun.file(dir.file(name)).text()),
  );
  return { exitCode, stdout: stdout!, stderr: stderr!, home };
}
