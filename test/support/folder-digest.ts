import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** Every file and link below a folder, by path, with a digest of its content. */
export function folderDigest(path: string): Record<string, string> {
  const found: [string, string][] = [];
  for (const name of readdirSync(path, { recursive: true, encoding: "utf8" }).toSorted()) {
    const stat = lstatSync(join(path, name));
    if (stat.isSymbolicLink()) found.push([name, readlinkSync(join(path, name))]);
    else if (stat.isFile()) {
      found.push([name, Bun.SHA256.hash(readFileSync(join(path, name)), "hex")]);
    }
  }
  return Object.fromEntries(found);
}
