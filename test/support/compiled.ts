import { renameSync } from "node:fs";
import { join } from "node:path";

const projectDir = join(import.meta.dir, "../..");

/**
 * Builds `dist/replica`, as `bun run build` does. A rename puts the finished file in place, since another
 * test process may be starting or building it at the same moment.
 * @throws Error with the output of the build.
 */
export async function buildProgram(): Promise<void> {
  const made = join(projectDir, `dist/replica.${process.pid}`);
  const argv = [process.execPath, "run", "build", "--outfile", made];
  const build = Bun.spawn(argv, { cwd: projectDir, stderr: "pipe" });
  if ((await build.exited) !== 0) throw new Error(await new Response(build.stderr).text());
  renameSync(made, join(projectDir, "dist/replica"));
}
