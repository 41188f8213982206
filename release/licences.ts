import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import manifest from "../package.json" with { type: "json" };
import { lockedPackages, projectDir } from "./locked.ts";
import { type Sbom, licenceOf } from "./sbom.ts";

/**
 * Returns the licences of all that the program contains: its own, a line for each package, and the text that each package
 * brings along.
 */
export async function licences(sbom: Sbom): Promise<string> {
  const own = readFileSync(join(projectDir, "LICENSE"), "utf8");
  const bun = manifest.devDependencies["bun-types"];
  const lines = sbom.components
    .filter(({ name }) => !name.startsWith("@oven/"))
    .map((one) => `  ${one.name} ${one.version}: ${licenceOf(one)}\n`);
  const parts = [
    `${own}\nThe program contains Bun ${bun} (MIT, with parts under other licences: https://bun.com/docs/project/license),\nand these packages, whose licences follow:\n\n${lines.join("")}`,
  ];
  // Many packages of one author bring the same text.
  const texts = new Map<string, string[]>();
  for (const [path, { version, dev }] of await lockedPackages()) {
    const text = dev === true ? undefined : textIn(join(projectDir, path));
    if (text === undefined) continue;
    const names = texts.get(text) ?? [];
    texts.set(text, [...names, `${path.split("node_modules/").at(-1)!} ${version}`]);
  }
  for (const [text, names] of texts) parts.push(`${names.join("\n")}\n\n${text}\n`);
  return parts.join(`\n${"-".repeat(80)}\n\n`);
}

function textIn(dir: string): string | undefined {
  if (!existsSync(dir)) return undefined;
  const [name] = [...new Bun.Glob("{LICENSE,LICENCE,license,licence}*").scanSync(dir)].toSorted();
  return name === undefined ? undefined : readFileSync(join(dir, name), "utf8").trim();
}
