import { renameSync } from "node:fs";
import { join } from "node:path";

const projectDir = join(import.meta.dir, "../..");

/**
 * Builds `dist/replica`, as `bun run build` does. The file is put there whole, by rename: another test, in a
 * process of its own, may just be starting it, or building it too.
 * @throws Error with what the build says.
 */
export async function buildProgram(): Promise<void> {
  const made = join(projectDir, `dist/replica.${process.pid}`);
  const argv = [process.execPath, "run", "build", "--outfile", made];
  const build = Bun.spawn(argv, { cwd: projectDir, stderr: "pipe" });
  if ((await build.exited) !== 0) throw new Error(await new Response(build.stderr).text());
  renameSync(made, join(projectDir, "dist/replica"));
}
