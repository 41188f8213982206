import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { maskSource, scanReferences } from "./support/source-scan.ts";
import { type SourceTree, structureComplaints, unusedGrants } from "./support/structure.ts";

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

test("every room uses what it may import", async () => {
  expect(unusedGrants(await readSources())).toEqual([]);
});

describe("finds", () => {
  const body = "export const x = 1;\n";
  const cases: [string, Record<string, string>, string][] = [
    [
      "an import that points up",
      {
        "session/log.ts": `import { x } from "../upstream/ack.ts";\n${body}`,
        "upstream/ack.ts": body,
      },
      "src/session/log.ts imports src/upstream/ack.ts: session may not import upstream",
    ],
    [
      "an import that points sideways",
      { "session/a.ts": `import { x } from "../rdb/b.ts";\n${body}`, "rdb/b.ts": body },
      "src/session/a.ts imports src/rdb/b.ts: session may not import rdb",
    ],
    [
      "a monitor that reaches past the status into the replica",
      {
        "monitor/a.ts": `import { x } from "../replica/replica.ts";\n${body}`,
        "replica/replica.ts": body,
      },
      "src/monitor/a.ts imports src/replica/replica.ts: monitor knows the replica by src/replica/status.ts alone",
    ],
    [
      "an import of a type that points sideways",
      { "resp/a.ts": `import type { X } from "../rdb/b.ts";\n${body}`, "rdb/b.ts": body },
      "src/resp/a.ts imports src/rdb/b.ts: resp may not import rdb",
    ],
    [
      "a type looked up by import() that points up",
      { "config/x.ts": `export type Y = import("../cli/a.ts").X;`, "cli/a.ts": body },
      "src/config/x.ts imports src/cli/a.ts: config may not import cli",
    ],
    [
      "an import of many lines that points up",
      { "demo/a.ts": `import {\n  x,\n} from "../cli/b.ts";\n${body}`, "cli/b.ts": body },
      "src/demo/a.ts imports src/cli/b.ts: demo may not import cli",
    ],
    [
      "a dynamic import that points up",
      { "replica/a.ts": `${body}await import("../demo/b.ts");`, "demo/b.ts": body },
      "src/replica/a.ts imports src/demo/b.ts: replica may not import demo",
    ],
    [
      "a worker that points up",
      {
        "rdb/a.ts": `${body}new Worker(new URL("../replica/b.ts", import.meta.url));`,
        "replica/b.ts": body,
      },
      "src/rdb/a.ts imports src/replica/b.ts: rdb may not import replica",
    ],
    [
      "a re-export that points up",
      { "base/errors.ts": `${body}export { y } from "../resp/b.ts";`, "resp/b.ts": body },
      "src/base/errors.ts imports src/resp/b.ts: base may not import resp",
    ],
    [
      "a cycle",
      {
        "session/a.ts": `import { x } from "./b.ts";\n${body}`,
        "session/b.ts": `import type { X } from "./a.ts";\n${body}`,
      },
      "a cycle: src/session/a.ts → src/session/b.ts → src/session/a.ts",
    ],
    ["a folder that is no room", { "helpers/a.ts": body }, "src/helpers/a.ts is in no room"],
    [
      "a file named utils",
      { "session/utils.ts": body },
      "src/session/utils.ts is named after nothing",
    ],
    [
      "a file named after its being a util",
      { "session/disk-util.ts": body },
      "src/session/disk-util.ts is named after nothing",
    ],
    [
      "a default export",
      { "config/x.ts": "const x = 1;\nexport default x;" },
      "src/config/x.ts:2 has a default export",
    ],
    [
      "a default export by name",
      { "config/x.ts": "const x = 1;\nexport { x as default };" },
      "src/config/x.ts:2 has a default export",
    ],
    ["an any", { "config/x.ts": "export let x: any;" }, "src/config/x.ts:1 uses the type any"],
    [
      "an any within",
      { "config/x.ts": "export let x: Map<string, any>;" },
      "src/config/x.ts:1 uses the type any",
    ],
    [
      "a cast to any",
      { "config/x.ts": "export const x = y as any;" },
      "src/config/x.ts:1 uses the type any",
    ],
    [
      "an EventEmitter",
      { "replica/a.ts": "export class X extends EventEmitter {}" },
      "src/replica/a.ts:1 uses an EventEmitter",
    ],
    [
      "an import of node:events",
      { "replica/a.ts": `import { once } from "node:events";\n${body}` },
      "src/replica/a.ts imports node:events: no EventEmitter",
    ],
    [
      "process.exit outside cli/process.ts",
      { "cli/a.ts": `${body}process.exit(1);` },
      "src/cli/a.ts:2 ends the process, which only src/cli/process.ts may",
    ],
    [
      "a barrel",
      {
        "session/index.ts": `export * from "./a.ts";\nexport type { X } from "./a.ts";`,
        "session/a.ts": body,
      },
      "src/session/index.ts only passes on what others export",
    ],
    [
      "a barrel that imports first",
      {
        "session/index.ts": `import { x } from "./a.ts";\n// All.\nexport { x };`,
        "session/a.ts": body,
      },
      "src/session/index.ts only passes on what others export",
    ],
    [
      "an import of a file that isn't there",
      { "config/x.ts": `import "./gone.ts";\n${body}` },
      "src/config/x.ts imports src/config/gone.ts: no such file",
    ],
    [
      "a computed import",
      { "cli/a.ts": `${body}await import(name);` },
      "src/cli/a.ts:2 imports a path that is computed",
    ],
    [
      "a clock in a pure room",
      { "session/a.ts": "export const now = () => Date.now();" },
      "src/session/a.ts:1 looks at the clock or the network, and its room is pure",
    ],
    [
      "a file opened in a pure room",
      { "rdb/a.ts": `import { openSync } from "node:fs";\n${body}` },
      "src/rdb/a.ts imports node:fs, and its room is pure",
    ],
    [
      "Bun in a pure room",
      { "resp/a.ts": "export const x = Bun.hash('1');" },
      "src/resp/a.ts:1 reaches outside of itself, and its room is pure",
    ],
  ];

  const lines = (count: number) => "  f();\n".repeat(count);

  test("a file that is too long", () => {
    const tree = treeOf({ "base/a.ts": `${body}${"//\n".repeat(400)}` });
    expect(structureComplaints(tree)).toEqual(["src/base/a.ts has 401 lines, more than 400"]);
  });

  test.each([
    ["a function", `export function long(x: number): void {\n${lines(71)}}\n`, "long"],
    ["an arrow function", `export const long = async (x: number) => {\n${lines(71)}};\n`, "long"],
    ["a method", `export class X {\n  #long(x: { a: 1 }): { b: 2 } {\n${lines(71)}}\n}\n`, "#long"],
    [
      "a constructor",
      `export class X {\n  constructor(x: number) {\n${lines(71)}}\n}\n`,
      "constructor",
    ],
  ])("%s that is too long", (_what, source, name) => {
    expect(structureComplaints(treeOf({ "base/a.ts": source }))).toEqual([
      `src/base/a.ts ${name} has 73 lines, more than 70`,
    ]);
  });

  test("a room with too many files", () => {
    const files = Array.from({ length: 17 }, (_, at) => [`base/${at}.ts`, body]);
    expect(structureComplaints(treeOf(Object.fromEntries(files)))).toEqual([
      "src/base has 17 files, more than 16",
    ]);
  });

  test.each(cases)("%s", (_name, files, complaint) => {
    expect(structureComplaints(treeOf(files))).toEqual([complaint]);
  });

  test("a file that nothing imports", () => {
    const tree = treeOf({ "session/a.ts": body }, { orphans: ["session/a.ts"] });
    expect(structureComplaints(tree)).toEqual([
      "nothing that starts at src/main.ts imports src/session/a.ts",
    ]);
  });
});

describe("has nothing against", () => {
  const cases: [string, Record<string, string>][] = [
    [
      "imports that point down or stay in their room",
      {
        "base/errors.ts": "export const e = 1;",
        "config/c.ts": `import { e } from "../base/errors.ts";\nexport const c = e;`,
        "resp/a.ts": `import { e } from "../base/errors.ts";\nexport const a = e;`,
        "resp/b.ts": `import { a } from "./a.ts";\nexport const b = a;`,
        "session/s.ts": `import { b } from "../resp/b.ts";\nexport const s = b;`,
        "upstream/v.ts": `import { s } from "../session/s.ts";\nexport const v = s;`,
        "program/d.ts": `import { c } from "../config/c.ts";\nexport const d = c;`,
        "cli/commands/c.ts": `import { d } from "../../program/d.ts";\nexport const e = d;`,
      },
    ],
    [
      "process.exit in cli/process.ts",
      { "cli/process.ts": "export const x = 1;\nprocess.exit(x);" },
    ],
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
        "session/a.ts": `export { x } from "./b.ts";\nexport const y = 1;`,
        "session/b.ts": "export const x = 1;",
      },
    ],
    [
      "a worker named from the project's root",
      {
        "session/a.ts": `new Worker("./src/session/b.ts");\nexport const y = 1;`,
        "session/b.ts": "export const x = 1;",
      },
    ],
    [
      "a long class of short functions",
      { "base/a.ts": `export class X {\n${"  f(): void {\n  }\n".repeat(50)}}\n` },
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
