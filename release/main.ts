/**
 * Makes everything that a release consists of, in dist/: the same sources, Bun and npm make the same bytes.
 *
 *     bun release/main.ts [--out FOLDER]
 *
 * The date of the release is `SOURCE_DATE_EPOCH` (unix seconds), else that of the last commit.
 */
import { $ } from "bun";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { debianPackage, gatherContents } from "./debian.ts";
import { licences } from "./licences.ts";
import { projectDir } from "./locked.ts";
import { compile } from "./program.ts";
import { billOfMaterials } from "./sbom.ts";
import { TARGETS } from "./targets.ts";

function said(line: string): void {
  process.stderr.write(`release: ${line}\n`);
}

async function releaseDate(): Promise<Date> {
  const given =
    process.env["SOURCE_DATE_EPOCH"] ??
    (await $`git log -1 --format=%ct`.cwd(projectDir).quiet().text()).trim();
  if (!/^\d+$/.test(given)) throw new Error(`SOURCE_DATE_EPOCH is "${given}", not unix seconds`);
  return new Date(Number(given) * 1000);
}

/** Fills `into`, an empty folder, with all files of the release. */
async function makeRelease(into: string): Promise<void> {
  const date = await releaseDate();
  said(`dated ${date.toISOString()}`);
  const sbom = await billOfMaterials(date);
  writeFileSync(join(into, "replica.cdx.json"), `${JSON.stringify(sbom, undefined, 2)}\n`);
  const texts = await licences(sbom);
  writeFileSync(join(into, "LICENCES.txt"), texts);
  const contents = await gatherContents(texts);
  for (const target of TARGETS) {
    const program = await compile(target, into);
    said(target.name);
    if (target.debian === undefined) continue;
    await debianPackage(target.debian, program, contents, date, into);
    said(`Debian package for ${target.debian}`);
  }
  await $`npm pack --silent --ignore-scripts --pack-destination ${into}`.cwd(projectDir).quiet();
  const sums = readdirSync(into)
    .toSorted()
    .map((name) => `${Bun.SHA256.hash(readFileSync(join(into, name)), "hex")}  ${name}\n`);
  writeFileSync(join(into, "SHA256SUMS"), sums.join(""));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { out: { type: "string", default: join(projectDir, "dist") } },
  });
  mkdirSync(values.out, { recursive: true });
  // What is there stays as it is until all is made.
  const work = mkdtempSync(join(values.out, ".release-"));
  try {
    await makeRelease(work);
    for (const name of readdirSync(work)) {
      renameSync(join(work, name), join(values.out, name));
      const { size } = statSync(join(values.out, name));
      process.stdout.write(`${join(values.out, name)} (${size} bytes)\n`);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

await main().catch((error: unknown) => {
  // What npm, git or dpkg-deb said is the cause.
  const cause = error instanceof $.ShellError ? `\n${error.stderr.toString()}` : "";
  said(`${error instanceof Error ? error.message : String(error)}${cause}`);
  process.exitCode = 1;
});
