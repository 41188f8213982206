import { expect, test } from "bun:test";
import { join } from "node:path";
import { edited } from "./promises/mutation.ts";
import { tables } from "./promises/tables.ts";

const projectDir = join(import.meta.dir, "..");
const read = async (path: string): Promise<string> => await Bun.file(join(projectDir, path)).text();

/** The pairs of a test's file and its name in a text. */
const pairsIn = (text: string) => [
  ...text.replaceAll(/\s+/g, " ").matchAll(/`(test\/[\w/-]+\.test\.ts)` "([^"]+)"/g),
];

test("every claim of SECURITY.md names tests that are there", async () => {
  const text = await read("SECURITY.md");
  const named = pairsIn(text);
  const files = [...text.matchAll(/`test\/[\w/-]+\.test\.ts`/g)];
  expect(named.length).toBe(files.length);
  expect(named.length).toBeGreaterThan(30);
  for (const [, path = "", name = ""] of named) {
    const source = await read(path);
    // As it stands in the source: a test's name, or a group's, in quotes of either kind.
    const isThere = [`"${name}"`, `\`${name}\``].some((quoted) => source.includes(quoted));
    expect([path, name, isThere]).toEqual([path, name, true]);
  }
});

test("each section's tests are those that the table of its mutations has, once each", async () => {
  const sections = (await read("SECURITY.md")).split(/^## /m).slice(1);
  // A test that several sections name has its mutations in the first of them.
  const seen = new Set<string>();
  const named = sections.map((text) => {
    const pairs = pairsIn(text).map(([, file, name]) => `${file} "${name}"`);
    const own = [...new Set(pairs)].filter((pair) => !seen.has(pair));
    for (const pair of own) seen.add(pair);
    return [text.split("\n", 1)[0]!, own.toSorted()] as const;
  });
  const held = Object.entries(tables).map(([section, promises]) => {
    const pairs = promises.map(({ file, name }) => `${file} "${name}"`);
    return [section, pairs.toSorted()] as const;
  });
  expect(held).toEqual(named.filter(([, pairs]) => pairs.length > 0));
});

test("each mutation finds its text once, and changes what the program does", async () => {
  for (const { file, name, mutations } of Object.values(tables).flat()) {
    expect([file, name, mutations.length]).not.toEqual([file, name, 0]);
    for (const { breaks, edits } of mutations) {
      expect([breaks, edits.length]).not.toEqual([breaks, 0]);
      const sources = new Map<string, string>();
      for (const edit of edits) {
        const source = sources.get(edit.file) ?? (await read(edit.file));
        sources.set(edit.file, edited(source, edit));
      }
    }
  }
});
