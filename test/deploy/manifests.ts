/**
 * Makes the plain manifests of deploy/kubernetes/manifests from the chart, each NAME.yaml from NAME.values.yaml:
 *
 *     npm run manifests
 */
import { join } from "node:path";
import { helmTemplate } from "../support/helm.ts";

export const chartDir = join(import.meta.dir, "../../deploy/kubernetes");
const manifestsDir = join(chartDir, "manifests");

/** The plain manifests: `replica`, `archive`. */
export const manifestNames = [...new Bun.Glob("*.values.yaml").scanSync(manifestsDir)]
  .map((file) => file.replace(/\.values\.yaml$/, ""))
  .toSorted();

/** The file of a plain manifest. */
export function manifestFile(name: string): string {
  return join(manifestsDir, `${name}.yaml`);
}

/** What the chart makes of the values of a plain manifest. @throws Error with what Helm says. */
export async function madeManifest(name: string): Promise<string> {
  const rendered = await helmTemplate(chartDir, {
    files: [join(manifestsDir, `${name}.values.yaml`)],
  });
  const from = `${name}.values.yaml`;
  return `# Made from the chart with ${from} by \`npm run manifests\`: change those, not this file.\n${rendered}`;
}

if (import.meta.main) {
  for (const name of manifestNames) await Bun.write(manifestFile(name), await madeManifest(name));
}
