import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { maskSource, scanReferences } from "./support/source-scan.ts";
import { type SourceTree, structureComplaints } from "./support/structure.ts";

const projectDir = join(import.meta.dir, "..");

async function readSources(): Promise<SourceTree> {
  const tree = new Map<string, string>();
  for (const path of [...new Bun.Glob("src/**/*.ts").scanSync(projectDir)].toSorted()) {
    tree.set(path, await Bun.file(join(projectDir, path)).text());
  }
  return tree;
}

/** A tree whose files are all imported by main.ts, apart from those that are told. */
function treeOf(files: Record<string, string>, options: { orphans?: string[] } = {}): SourceTree {
  const imported = Object.keys(files)
    .filter((path) => path !== "main.ts" && options.orphans?.includes(path) !== true)
    .map((path) => `import "./${path}";`);
  const main = [...imported, files["main.ts"] ?? ""].join("\n");
  const tree = new Map(Object.entries(files).map(([path, text]) => [`src/${path}`, text]));
  return tree.set("src/main.ts", main);
}

test("the sources keep the rules of structure", async () => {
  expect(structureComplaints(await readSources())).toEqual([]);
});

describe("finds", () => {
  const body = "export const x = 1;\n";
  const cases: [string, Record<string, string>, string][] = [
    [
      "an import that points up",
      { "store/log.ts": `import { x } from "../service/ack.ts";\n${body}`, "service/ack.ts": body },
      "src/store/log.ts imports src/service/ack.ts: from store up to service",
    ],
    [
      "an import that points sideways",
      { "session/a.ts": `import { x } from "../store/b.ts";\n${body}`, "store/b.ts": body },
      "src/session/a.ts imports src/store/b.ts: from session sideways to store",
    ],
    [
      "an import of a type that points sideways",
      { "resp/a.ts": `import type { X } from "../rdb/b.ts";\n${body}`, "rdb/b.ts": body },
      "src/resp/a.ts imports src/rdb/b.ts: from resp sideways to rdb",
    ],
    [
      "a type looked up by import() that points up",
      { "config.ts": `export type Y = import("./cli/a.ts").X;`, "cli/a.ts": body },
      "src/config.ts imports src/cli/a.ts: from base up to cli",
    ],
    [
      "an import of many lines that points up",
      { "demo/a.ts": `import {\n  x,\n} from "../cli/b.ts";\n${body}`, "cli/b.ts": body },
      "src/demo/a.ts imports src/cli/b.ts: from demo up to cli",
    ],
    [
      "a dynamic import that points up",
      { "service/a.ts": `${body}await import("../demo/b.ts");`, "demo/b.ts": body },
      "src/service/a.ts imports src/demo/b.ts: from service up to demo",
    ],
    [
      "a worker that points up",
      {
        "store/a.ts": `${body}new Worker(new URL("../service/b.ts", import.meta.url));`,
        "service/b.ts": body,
      },
      "src/store/a.ts imports src/service/b.ts: from store up to service",
    ],
    [
      "a re-export that points up",
      { "errors.ts": `${body}export { y } from "./resp/b.ts";`, "resp/b.ts": body },
      "src/errors.ts imports src/resp/b.ts: from base up to resp",
    ],
    [
      "a cycle",
      {
        "store/a.ts": `import { x } from "./b.ts";\n${body}`,
        "store/b.ts": `import type { X } from "./a.ts";\n${body}`,
      },
      "a cycle: src/store/a.ts → src/store/b.ts → src/store/a.ts",
    ],
    ["a folder that is no layer", { "helpers/a.ts": body }, "src/helpers/a.ts is in no layer"],
    ["a file named utils", { "store/utils.ts": body }, "src/store/utils.ts is named after nothing"],
    [
      "a file named after its being a util",
      { "store/disk-util.ts": body },
      "src/store/disk-util.ts is named after nothing",
    ],
    [
      "a default export",
      { "config.ts": "const x = 1;\nexport default x;" },
      "src/config.ts:2 has a default export",
    ],
    [
      "a default export by name",
      { "config.ts": "const x = 1;\nexport { x as default };" },
      "src/config.ts:2 has a default export",
    ],
    ["an any", { "config.ts": "export let x: any;" }, "src/config.ts:1 uses the type any"],
    [
      "an any within",
      { "config.ts": "export let x: Map<string, any>;" },
      "src/config.ts:1 uses the type any",
    ],
    [
      "a cast to any",
      { "config.ts": "export const x = y as any;" },
      "src/config.ts:1 uses the type any",
    ],
    [
      "an EventEmitter",
      { "service/a.ts": "export class X extends EventEmitter {}" },
      "src/service/a.ts:1 uses an EventEmitter",
    ],
    [
      "an import of node:events",
      { "service/a.ts": `import { once } from "node:events";\n${body}` },
      "src/service/a.ts imports node:events: no EventEmitter",
    ],
    [
      "process.exit outside main.ts",
      { "cli/a.ts": `${body}process.exit(1);` },
      "src/cli/a.ts:2 ends the process, which only src/main.ts may",
    ],
    [
      "a barrel",
      {
        "store/index.ts": `export * from "./a.ts";\nexport type { X } from "./a.ts";`,
        "store/a.ts": body,
      },
      "src/store/index.ts only passes on what others export",
    ],
    [
      "a barrel that imports first",
      {
        "store/index.ts": `import { x } from "./a.ts";\n// All.\nexport { x };`,
        "store/a.ts": body,
      },
      "src/store/index.ts only passes on what others export",
    ],
    [
      "an import of a file that isn't there",
      { "config.ts": `import "./gone.ts";\n${body}` },
      "src/config.ts imports src/gone.ts: no such file",
    ],
    [
      "a computed import",
      { "cli/a.ts": `${body}await import(name);` },
      "src/cli/a.ts:2 imports a path that is computed",
    ],
    [
      "a clock in a pure layer",
      { "session/a.ts": "export const now = () => Date.now();" },
      "src/session/a.ts:1 looks at the clock or the network, and its layer is pure",
    ],
    [
      "a file opened in a pure layer",
      { "rdb/a.ts": `import { openSync } from "node:fs";\n${body}` },
      "src/rdb/a.ts imports node:fs, and its layer is pure",
    ],
    [
      "Bun in a pure layer",
      { "resp/a.ts": "export const x = Bun.hash('1');" },
      "src/resp/a.ts:1 reaches outside of itself, and its layer is pure",
    ],
  ];

  test.each(cases)("%s", (_name, files, complaint) => {
    expect(structureComplaints(treeOf(files))).toEqual([complaint]);
  });

  test("a file that nothing imports", () => {
    const tree = treeOf({ "store/a.ts": body }, { orphans: ["store/a.ts"] });
    expect(structureComplaints(tree)).toEqual([
      "nothing that starts at src/main.ts imports src/store/a.ts",
    ]);
  });
});

describe("has nothing against", () => {
  const cases: [string, Record<string, string>][] = [
    [
      "imports that point down or stay in their layer",
      {
        "errors.ts": "export const e = 1;",
        "config.ts": `import { e } from "./errors.ts";\nexport const c = e;`,
        "resp/a.ts": `import { e } from "../errors.ts";\nexport const a = e;`,
        "resp/b.ts": `import { a } from "./a.ts";\nexport const b = a;`,
        "store/s.ts": `import { b } from "../resp/b.ts";\nexport const s = b;`,
        "service/v.ts": `import { s } from "../store/s.ts";\nexport const v = s;`,
        "demo/d.ts": `import { v } from "../service/v.ts";\nexport const d = v;`,
        "cli/c.ts": `import { d } from "../demo/d.ts";\nexport const c = d;`,
      },
    ],
    ["process.exit in main.ts", { "main.ts": "process.exit(1);" }],
    ["setting the exit code", { "cli/a.ts": "process.exitCode = 1;\nexport const x = 1;" }],
    [
      "words in comments, strings, templates and patterns",
      {
        "session/a.ts": [
          "// Not any, and import x from './gone.ts'; process.exit(1)",
          "/* export default Bun.any */",
          'export const a = "as any; export default x; EventEmitter \\" any";',
          "export const b = `any ${a + `any ${a}`} import('./gone.ts')`;",
          "export const c = /['\"`]any as any[/]/.test(a) ? 4 / 2 : 1;",
          "export const d = Promise.any([]);",
          "export const e = { any: 1 };",
        ].join("\n"),
      },
    ],
    [
      "a file that exports and re-exports",
      {
        "store/a.ts": `export { x } from "./b.ts";\nexport const y = 1;`,
        "store/b.ts": "export const x = 1;",
      },
    ],
    [
      "a worker named from the project's root",
      {
        "store/a.ts": `new Worker("./src/store/b.ts");\nexport const y = 1;`,
        "store/b.ts": "export const x = 1;",
      },
    ],
    ["an import of what is no source", { "main.ts": `import about from "../package.json";` }],
  ];

  test.each(cases)("%s", (_name, files) => {
    expect(structureComplaints(treeOf(files))).toEqual([]);
  });
});

test("masking keeps every position", () => {
  const source = 'const a = "x\\"y"; // z\nconst b = `${a}${`q`}`; const c = a / 2 / 1;';
  const masked = maskSource(source);
  expect(masked).toHaveLength(source.length);
  expect(masked).toBe('const a = "____";     \nconst b = `${a}${`_`}`; const c = a / 2 / 1;');
});

test("references are found however they are written", () => {
  const source = `
    import a, { type B } from "./a.ts";
    import * as c from './c.ts';
    import "./d.ts";
    export * as e from "./e.ts";
    export type { F } from "./f.ts";
    const g = await import(
      "./g.ts"
    );
    let h: typeof import("./h.ts");
    const not = Array.from("./not.ts");
  `;
  expect(
    scanReferences(source)
      .map((reference) => reference.specifier)
      .toSorted(),
  ).toEqual(["a", "c", "d", "e", "f", "g", "h"].map((name) => `./${name}.ts`));
});
