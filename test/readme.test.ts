import { expect, test } from "bun:test";
import { join } from "node:path";
import { settingsTable } from "../src/cli/help.ts";

test("README.md holds the table of settings that the schema makes", async () => {
  const readme = Bun.file(join(import.meta.dir, "../README.md"));
  const text = (await readme.exists()) ? await readme.text() : "";
  const found = /<!-- settings -->\n([\s\S]*?)\n?<!-- \/?settings -->/.exec(text)?.[1]?.trim();
  if (found === undefined || withoutPadding(found) !== withoutPadding(settingsTable())) {
    throw new Error(
      `README.md must hold this between <!-- settings --> and <!-- /settings -->:\n\n${settingsTable()}\n`,
    );
  }
  expect(found).not.toBe("");
});

/** A formatter may align the columns. */
function withoutPadding(table: string): string {
  return table.replaceAll(/ +/g, " ").replaceAll(/-{3,}/g, "---");
}
