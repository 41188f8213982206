import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { ARCHIVE_FORMAT } from "../src/archive/format/documents.ts";
import { realClock } from "../src/base/clock.ts";
import { VERSION } from "../src/base/version.ts";
import { commands } from "../src/cli/command-table.ts";
import { parseCommandLine } from "../src/cli/flags.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { CLUSTER_SCHEMA } from "../src/cluster/ledger/cluster-schema.ts";
import { DataDirectory } from "../src/store/generation/data-directory.ts";
import { REPLICA_SCHEMA } from "../src/store/ledger/schema.ts";
import { ROOMS } from "./support/structure.ts";
import { tempDir } from "./support/temp.ts";

const projectDir = join(import.meta.dir, "..");
const read = async (path: string): Promise<string> => await Bun.file(join(projectDir, path)).text();
const paths = ["README.md", "SECURITY.md", ...new Bun.Glob("docs/*.md").scanSync(projectDir)];
const documents = await Promise.all(
  paths.toSorted().map(async (path) => ({ path, text: await read(path) })),
);

/** A document without its blocks of code. */
function proseOf(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```$/gm, "");
}

/** The anchors that GitHub gives the headings of a document. */
function anchorsOf(text: string): Set<string> {
  const headings = proseOf(text).matchAll(/^#{1,6} (.+)$/gm);
  return new Set(
    Array.from(headings, ([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

/** The lines of a document's shell blocks, continued ones joined, comments taken off. */
function shellLines(text: string): string[] {
  const blocks = Array.from(text.matchAll(/^```sh\n([\s\S]*?)^```$/gm), (match) => match[1]!);
  return blocks
    .flatMap((block) => block.replaceAll(/\\\n\s*/g, "").split("\n"))
    .map((line) => line.replace(/(?:^|\s)#.*$/, "").trim())
    .filter((line) => line !== "");
}

/** The cells of each row of a Markdown table, without its head. */
function rowsOf(table: string): string[][] {
  const lines = table.split("\n").filter((line) => line.startsWith("|"));
  return lines.slice(2).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe.each(documents)("$path", ({ path, text }) => {
  test("links to files and headings that exist", () => {
    const links = [...proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1]!);
    const missing = links.filter((link) => {
      if (/^https?:/.test(link)) return false;
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? path : relative(".", join(dirname(path), file));
      if (!existsSync(resolve(projectDir, target))) return true;
      const linked = documents.find((one) => one.path === target);
      return (
        anchor !== undefined && linked?.path !== undefined && !anchorsOf(linked.text).has(anchor)
      );
    });
    expect(missing).toEqual([]);
  });

  test("names files of the repository that exist", () => {
    const named = text.matchAll(/`((?:src|test|bench|deploy|docs|\.ci)\/[\w./-]*)`/g);
    const missing = Array.from(named, (match) => match[1]!).filter(
      (file) => !existsSync(join(projectDir, file)),
    );
    expect(missing).toEqual([]);
  });

  test("names flags that the program takes", () => {
    const known = new Set<string>([
      ...commands.flatMap(({ takes }) => takes),
      ...commands.flatMap(({ options }) => options.map(({ name }) => name)),
      "config",
      "help",
      "version",
    ]);
    // A span that begins with another program's name has that one's flags.
    const prose = proseOf(text).replaceAll(
      /`(?:redis|valkey|npm|bun|git|docker|sqlite3|ACL)[^`]*`/g,
      "",
    );
    const named = prose.matchAll(/(?<![\w-])--([a-z][a-z-]*[a-z])/g);
    const unknown = Array.from(named, (match) => match[1]!).filter((name) => !known.has(name));
    expect(unknown).toEqual([]);
  });

  test("shows commands that the program takes", () => {
    for (const line of shellLines(text)) {
      const command = /^(?:dist\/|bun run )?replica (.*)$/.exec(line)?.[1];
      if (command === undefined) continue;
      const run = () => parseCommandLine(command.split(/\s+/)).ask;
      expect([line, run()]).toEqual([line, "run"]);
    }
  });
});

test("the documents name scripts that package.json has", async () => {
  const { scripts } = JSON.parse(await read("package.json")) as { scripts: Record<string, string> };
  const named = documents.flatMap(({ text }) =>
    Array.from(text.matchAll(/\b(?:npm|bun) run ([\w:-]*\w)/g), (match) => match[1]!),
  );
  const missing = named.filter((name) => scripts[name] === undefined);
  expect(missing).toEqual([]);
});

test("README.md has at most 150 lines", () => {
  const { text } = documents.find(({ path }) => path === "README.md")!;
  expect(text.split("\n").length - 1).toBeLessThanOrEqual(150);
});

test("ARCHITECTURE.md has the table of folders that the structure test enforces", () => {
  const { text } = documents.find(({ path }) => path === "docs/ARCHITECTURE.md")!;
  const table = /<!-- folders -->\n([\s\S]*?)<!-- \/folders -->/.exec(text)?.[1] ?? "";
  // They stand behind store/generation, store/restore and store/ledger.
  const behind = ["store/keep", "store/pieces", "store/recent", "store/rewrite"];
  const store = Object.keys(ROOMS).filter(
    (room) => room.startsWith("store/") && !behind.includes(room),
  );
  const namesIn = (cell: string) =>
    Array.from(cell.matchAll(/`([^`]+)`/g), (match) => match[1]!).flatMap((name) =>
      name === "store/*" ? store : [name],
    );
  const told = rowsOf(table).map(([room = "", , imports = ""]) => [
    namesIn(room)[0],
    room.endsWith("(pure)"),
    namesIn(imports).toSorted(),
  ]);
  const enforced = Object.entries(ROOMS).map(([room, { mayImport, pure }]) => [
    room,
    pure === true,
    mayImport.toSorted(),
  ]);
  expect(told).toEqual(enforced);
});

test("ARCHITECTURE.md names a file for at least thirty rules, each with the test that holds it", () => {
  const { text } = documents.find(({ path }) => path === "docs/ARCHITECTURE.md")!;
  const section = /## Rules, and where they live\n([\s\S]*?)\n## /.exec(text)?.[1] ?? "";
  const rows = rowsOf(section);
  expect(rows.length).toBeGreaterThanOrEqual(30);
  for (const [rule, code, held] of rows) {
    expect([rule, code]).toEqual([rule, expect.stringMatching(/`src\//)]);
    expect([rule, held]).toEqual([rule, expect.stringMatching(/`test\//)]);
  }
});

test("DATA-DIRECTORY.md describes every table and column of replica.db", () => {
  const { text } = documents.find(({ path }) => path === "docs/DATA-DIRECTORY.md")!;
  using dir = tempDir("documents");
  new DataDirectory(dir.file("data"), realDisk, realClock).close();
  using database = new Database(dir.file("data/replica.db"), { readonly: true });
  const tables = database.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values();
  const found = tables.flat().map((table) => {
    const columns = database.query(
      `SELECT name, type, "notnull", pk FROM pragma_table_info('${table}')`,
    );
    const described = columns.values().map(([name, type, notNull, key]) => {
      const constraint = key === 1 ? " PRIMARY KEY" : notNull === 1 ? " NOT NULL" : "";
      return [`\`${name}\``, `${type}${constraint}`];
    });
    return [`Table \`${table}\``, described];
  });
  const sections = Array.from(
    text.matchAll(/^### (Table `\w+`)\n([\s\S]*?)(?=^##)/gm),
    ([, title, section = ""]) => {
      const table = /(?:^\|.*\n)+/m.exec(section)?.[0] ?? "";
      return [title, rowsOf(table).map((cells) => cells.slice(0, 2))];
    },
  );
  expect(sections).toEqual(found);
});

test("DATA-DIRECTORY.md names the formats that this release writes, and each earlier one is kept as a fixture", () => {
  const { text } = documents.find(({ path }) => path === "docs/DATA-DIRECTORY.md")!;
  const section = /^### Releases\n([\s\S]*?)(?=^##)/m.exec(text)?.[1] ?? "";
  const newest = REPLICA_SCHEMA.version;
  expect(rowsOf(section).at(-1)).toEqual([
    VERSION,
    `${newest}, reads 1–${newest}`,
    String(CLUSTER_SCHEMA.version),
    String(ARCHIVE_FORMAT),
    "1",
  ]);
  // Of the newest one a fixture is made before the next one comes.
  const folder = join(projectDir, "test/fixtures/data-directories");
  const fixtures = new Set(new Bun.Glob("*.tar.gz").scanSync(folder));
  const earlier = Array.from({ length: newest - 1 }, (_, at) => `format-${at + 1}.tar.gz`);
  expect(earlier.filter((name) => !fixtures.has(name))).toEqual([]);
});

test("OPERATIONS.md says what to do for every alert and every error code", async () => {
  const { text } = documents.find(({ path }) => path === "docs/OPERATIONS.md")!;
  const alerts = [...(await read("deploy/alerts.yml")).matchAll(/- alert: (\w+)/g)];
  const headings = [...text.matchAll(/^### (Replica\w+)$/gm)];
  expect(headings.map((match) => match[1])).toEqual(alerts.map((match) => match[1]));
  const codes = [...(await read("src/base/errors.ts")).matchAll(/^ {2}\| "([A-Z_]+)"/gm)];
  const section = /## Error codes\n([\s\S]*?)\n## /.exec(text)?.[1] ?? "";
  const told = rowsOf(section).map(([code = ""]) => code.replaceAll("`", ""));
  expect(told).toEqual(codes.map(([, code = ""]) => code));
});
