import { $ } from "bun";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { projectDir } from "./locked.ts";
import { unpackRuntime } from "./runtimes.ts";
import type { Target } from "./targets.ts";

/**
 * Compiles the program for a kind of machine, as `npm run build` does for this one.
 * @param into the folder that gets it.
 * @returns its path.
 */
export async function compile(target: Target, into: string): Promise<string> {
  const work = join(into, `.compiling-${target.name}`);
  mkdirSync(work);
  const bun = await unpackRuntime(target.runtime, join(work, "runtime"));
  // Each is compiled under this name, since a program contains the one it was compiled under.
  const compiled = join(work, "replica");
  await $`${process.execPath} run build --target=bun-${target.name} --compile-executable-path=${bun} --outfile=${compiled}`
    .cwd(projectDir)
    .quiet();
  const path = join(into, `replica-${target.name}`);
  renameSync(compiled, path);
  rmSync(work, { recursive: true });
  return path;
}
