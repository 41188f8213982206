import { expect, test } from "bun:test";
import { join } from "node:path";
import { settingsTable } from "../src/cli/help.ts";

test("docs/SETTINGS.md has the table of settings made from the schema", async () => {
  const doc = Bun.file(join(import.meta.dir, "../docs/SETTINGS.md"));
  const text = (await doc.exists()) ? await doc.text() : "";
  const found = /<!-- settings -->\n([\s\S]*?)\n?<!-- \/settings -->/.exec(text)?.[1]?.trim();
  if (found === undefined || withoutPadding(found) !== withoutPadding(settingsTable())) {
    throw new Error(
      `docs/SETTINGS.md must have this between <!-- settings --> and <!-- /settings -->:\n\n${settingsTable()}\n`,
    );
  }
  expect(found).not.toBe("");
});

/** The formatter aligns the columns. */
function withoutPadding(table: string): string {
  return table.replaceAll(/ +/g, " ").replaceAll(/-{3,}/g, "---");
}
