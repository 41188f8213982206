import { expect, test } from "bun:test";
import { join } from "node:path";

const projectDir = join(import.meta.dir, "..");

test("every claim of SECURITY.md names tests that are there", async () => {
  const text = (await Bun.file(join(projectDir, "SECURITY.md")).text()).replaceAll(/\s+/g, " ");
  const named = [...text.matchAll(/`(test\/[\w/-]+\.test\.ts)` "([^"]+)"/g)];
  const files = [...text.matchAll(/`test\/[\w/-]+\.test\.ts`/g)];
  expect(named.length).toBe(files.length);
  expect(named.length).toBeGreaterThan(30);
  for (const [, path = "", name = ""] of named) {
    const source = await Bun.file(join(projectDir, path)).text();
    // As it stands in the source: a test's name, or a group's, in quotes of either kind.
    const isThere = [`"${name}"`, `\`${name}\``].some((quoted) => source.includes(quoted));
    expect([path, name, isThere]).toEqual([path, name, true]);
  }
});
