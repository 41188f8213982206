import { expect, test } from "bun:test";
import { chmodSync, cpSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";
import { tempDir } from "./support/temp.ts";

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

test("every package with an install script is allowed to run it, and no other", async () => {
  const manifests = ["*/package.json", "@*/*/package.json"].flatMap((pattern) => [
    ...new Bun.Glob(pattern).scanSync({ cwd: join(projectDir, "node_modules"), absolute: true }),
  ]);
  const withScripts: string[] = [];
  for (const path of manifests) {
    const { name, scripts = {} } = await Bun.file(path).json();
    const isScript = ["preinstall", "install", "postinstall"].some((script) => script in scripts);
    if (isScript) withScripts.push(name);
  }
  expect(Object.keys(packageJson.allowScripts)).toEqual(withScripts);
});

test("bin/bun runs the pinned Bun", () => {
  const { stdout } = Bun.spawnSync([join(projectDir, "bin/bun"), "--version"]);
  expect(stdout.toString()).toBe(`${packageJson.dependencies.bun}\n`);
});

test("bin/bun runs Bun's install script once if npm did not", async () => {
  using dir = tempDir("bin");
  cpSync(join(projectDir, "bin"), dir.file("bin"), { recursive: true });
  const binary = dir.file("node_modules/bun/bin/bun.exe");
  await Bun.write(binary, "echo a placeholder >&2\nexit 1\n");
  chmodSync(binary, 0o755);
  // Like the real script, it works in the package's directory and replaces the placeholder.
  await Bun.write(
    dir.file("node_modules/bun/install.js"),
    `console.log("installing");\nrequire("node:fs").writeFileSync("bin/bun.exe", "#!/bin/sh\\necho ran \\"$@\\"\\n");`,
  );
  const run = () => Bun.spawnSync([dir.file("bin/bun"), "a b", "c"]).stdout.toString();
  expect(run()).toBe("installing\nran a b c\n");
  expect(run()).toBe("ran a b c\n");
});
