import { describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";
import packageJson from "../../package.json";

const project = join(import.meta.dir, "../..");
const transpiler = new Bun.Transpiler({ loader: "ts" });

/** What is loaded together with these files, before anything of them runs: files by their path, and packages. */
async function loadedWith(...roots: string[]): Promise<Set<string>> {
  const loaded = new Set<string>();
  const left = [...roots];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    if (loaded.has(path)) continue;
    loaded.add(path);
    if (!path.endsWith(".ts")) continue;
    const source = await Bun.file(join(project, path)).text();
    // Types are no longer there; a require() within a function counts as a dynamic import does.
    const imports = transpiler.scanImports(source.replace(/^#!.*/, ""));
    for (const { path: name, kind } of imports) {
      if (kind !== "import-statement") continue;
      left.push(name.startsWith(".") ? join(dirname(path), name) : name);
    }
  }
  return loaded;
}

const packagesOf = (loaded: Set<string>) => {
  return [...loaded].filter((name) => !name.startsWith("src/")).toSorted();
};

describe("loads no more than it needs:", () => {
  test("--version", async () => {
    expect([...(await loadedWith("src/main.ts", "src/cli/version.ts"))].toSorted()).toEqual([
      "package.json",
      "src/base/version.ts",
      "src/cli/version.ts",
      "src/main.ts",
    ]);
  });

  test("--help", async () => {
    const loaded = await loadedWith("src/main.ts", "src/cli/help.ts");
    expect(packagesOf(loaded)).toEqual(["@logtape/logtape", "ms", "package.json", "zod/mini"]);
    expect(loaded).not.toContain("src/cli/process.ts");
  });

  test("follow", async () => {
    const roots = ["main.ts", "cli/process.ts", "cli/run.ts", "cli/commands/follow.ts"];
    const loaded = await loadedWith(...roots.map((root) => `src/${root}`));
    // Neither node:crypto, node:net, node:stream nor node:tty: each loads Node's streams.
    expect(packagesOf(loaded)).toEqual([
      "@logtape/logtape",
      "bun:ffi",
      "bun:sqlite",
      "fastest-levenshtein",
      "ms",
      "node:fs",
      "node:os",
      "node:path",
      "node:util",
      "package.json",
      "zod/mini",
    ]);
    // What it loads later is another matter: the list of Redis's commands, metrics, the progress line.
    const unused = /^src\/(?:demo|stock|monitor\/(?:http|metrics|service-manager))/;
    expect([...loaded].filter((path) => unused.test(path))).toEqual([]);
  });
});

test("metrics load no more of their package than they need", async () => {
  const source = await Bun.file(join(project, "src/monitor/metrics.ts")).text();
  const loaded = transpiler
    .scanImports(source)
    .filter(({ path }) => path.startsWith("prom-client"));
  expect(loaded.map(({ path }) => path.replace("prom-client/lib/", "")).toSorted()).toEqual([
    "counter.js",
    "gauge.js",
    "histogram.js",
    "registry.js",
  ]);
});

test("the compiled program is in parts, so that one which isn't used isn't read", () => {
  expect(packageJson.scripts.build.split(" ")).toContain("--splitting");
});
