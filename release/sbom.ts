import { $ } from "bun";
import manifest from "../package.json" with { type: "json" };
import { projectDir } from "./locked.ts";

/** A package in CycloneDX's terms, as far as it matters here. */
interface Component {
  readonly name: string;
  readonly version: string;
  readonly properties: readonly { readonly name: string }[];
  readonly licenses?: readonly {
    readonly license?: { readonly id?: string; readonly name?: string };
    readonly expression?: string;
  }[];
}

/** A bill of materials in the form of CycloneDX 1.5. */
export interface Sbom {
  serialNumber: string;
  readonly metadata: { timestamp: string; readonly component: { name: string; type: string } };
  components: Component[];
  dependencies: { readonly ref: string }[];
}

/**
 * Returns what the release consists of: each package of package-lock.json with its version, licence and checksum, Bun's
 * runtimes among them, but none that only development needs. It is npm's, without what differs from run to run.
 * @param date of the release.
 */
export async function billOfMaterials(date: Date): Promise<Sbom> {
  // `--omit dev` would also leave out what both the program and a tool need.
  const sbom: Sbom = await $`npm sbom --sbom-format cyclonedx --package-lock-only`
    .cwd(projectDir)
    .quiet()
    .json();
  const isDevelopment = ({ properties }: Component) =>
    properties.some(({ name }) => name === "cdx:npm:package:development");
  const left = new Set(sbom.components.filter(isDevelopment).map(refOf));
  sbom.components = sbom.components.filter((one) => !left.has(refOf(one)));
  sbom.dependencies = sbom.dependencies.filter(({ ref }) => !left.has(ref));
  // npm takes the folder's name.
  sbom.metadata.component.name = manifest.name;
  sbom.metadata.component.type = "application";
  sbom.metadata.timestamp = date.toISOString();
  sbom.serialNumber = "";
  sbom.serialNumber = `urn:uuid:${Bun.randomUUIDv5(JSON.stringify(sbom), "url")}`;
  return sbom;
}

function refOf({ name, version }: { name: string; version: string }): string {
  return `${name}@${version}`;
}

/** What a component is licensed under: "MIT". */
export function licenceOf({ licenses = [] }: Component): string {
  const named = licenses.map(
    ({ license, expression }) => expression ?? license?.id ?? license?.name,
  );
  return named.join(", ") || "unknown";
}
