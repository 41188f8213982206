import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";

const projectDir = join(import.meta.dir, "../..");
const dist = join(projectDir, "dist");
/** All that makes the program what it is. */
const MADE_OF = ["src/**/*", "package.json", "package-lock.json"];

/** The longest that tests take. */
const KEPT_MS = 60 * 60 * 1000;

let compiled: string | undefined;

/**
 * Returns the path of the program as `bun run build` makes it of the sources as they are, and builds it where it isn't there
 * yet. Its name tells the sources, and a rename puts it in place: other test processes use it, and may build it too.
 * @throws Error with the output of the build.
 */
export function compiledProgram(): string {
  compiled ??= build();
  return compiled;
}

function build(): string {
  const path = join(dist, `tested-${sourcesHash()}`);
  if (existsSync(path)) return path;
  mkdirSync(dist, { recursive: true });
  const made = `${path}.${process.pid}`;
  const { exitCode, stderr } = Bun.spawnSync(
    [process.execPath, "run", "build", "--outfile", made],
    { cwd: projectDir, stdin: "ignore", stderr: "pipe" },
  );
  if (exitCode !== 0) throw new Error(`bun run build failed: ${stderr.toString()}`);
  for (const name of readdirSync(dist).filter((one) => one.startsWith("tested-"))) {
    const other = join(dist, name);
    // A run of the sources as they were a while ago may still be on.
    if (Date.now() - statSync(other).mtimeMs > KEPT_MS) rmSync(other, { force: true });
  }
  renameSync(made, path);
  return path;
}

function sourcesHash(): string {
  const hash = new Bun.CryptoHasher("sha256").update(Bun.version);
  const paths = MADE_OF.flatMap((glob) => [...new Bun.Glob(glob).scanSync(projectDir)]);
  for (const path of paths.toSorted()) {
    hash.update(`\n${path}\n`).update(readFileSync(join(projectDir, path)));
  }
  return hash.digest("hex").slice(0, 16);
}

if (import.meta.main) compiledProgram();
