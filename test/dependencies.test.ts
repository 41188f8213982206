import { expect, test } from "bun:test";
import { join } from "node:path";
import packageJson from "../package.json";

const projectDir = join(import.meta.dir, "..");
const packages = {
  ...packageJson.dependencies,
  ...packageJson.devDependencies,
  ...packageJson.optionalDependencies,
};

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

test("no package has an install script: npm may block them", async () => {
  const manifests = ["*/package.json", "@*/*/package.json"].flatMap((pattern) => [
    ...new Bun.Glob(pattern).scanSync({ cwd: join(projectDir, "node_modules"), absolute: true }),
  ]);
  expect(manifests.length).toBeGreaterThan(20);
  const withScripts: string[] = [];
  for (const path of manifests) {
    const { name, scripts = {} } = await Bun.file(path).json();
    const isScript = ["preinstall", "install", "postinstall"].some((script) => script in scripts);
    if (isScript) withScripts.push(name);
  }
  expect(withScripts).toEqual([]);
});

test("the sources import nothing but Bun's own modules and what comes with the program", async () => {
  const imported = new Set<string>();
  for (const path of new Bun.Glob("src/**/*.ts").scanSync({ cwd: projectDir, absolute: true })) {
    const text = (await Bun.file(path).text()).replace(/^#!.*/, "");
    const found = new Bun.Transpiler({ loader: "ts" }).scanImports(text);
    for (const { path: name } of found) {
      if (/^(?:\.|node:|bun(?::|$))/.test(name)) continue;
      imported.add(name.split("/", name.startsWith("@") ? 2 : 1).join("/"));
    }
  }
  expect([...imported].toSorted()).toEqual(Object.keys(packageJson.dependencies).toSorted());
});
