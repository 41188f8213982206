import { expect, test } from "bun:test";
import { join } from "node:path";
import packageJson from "../package.json";

const projectDir = join(import.meta.dir, "..");
const packages = { ...packageJson.dependencies, ...packageJson.devDependencies };

test("every package is pinned, and its checksum is locked", async () => {
  const lock = await Bun.file(join(projectDir, "bun.lock")).text();
  for (const [name, version] of Object.entries(packages)) {
    expect([name, version]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+$/)]);
  }
  // A line such as   "ms": ["ms@2.1.3", "", {}, "sha512-…"],
  const entries = [...lock.matchAll(/^ {4}"([^"]+)": \["([^"]+)",.*\]/gm)];
  expect(entries.length).toBeGreaterThan(Object.keys(packages).length);
  const unlocked = entries.filter(([line]) => !/"sha512-[\w+/]{86}=="\]$/.test(line));
  expect(unlocked.map(([, name]) => name)).toEqual([]);
  const locked = new Set(entries.map(([, , what]) => what));
  for (const [name, version] of Object.entries(packages)) {
    expect([name, locked.has(`${name}@${version}`)]).toEqual([name, true]);
  }
});
