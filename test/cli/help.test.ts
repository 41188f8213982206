import { expect, test } from "bun:test";
import { commands } from "../../src/cli/command-table.ts";
import { commandHelp, generalHelp, settingsTable } from "../../src/cli/help.ts";
import { aboutSetting, settingNames } from "../../src/config/about-settings.ts";

test("the general help lists every command and every setting with its default", () => {
  const help = unwrapped(generalHelp());
  for (const command of commands) expect(help).toContain(command.summary);
  for (const name of settingNames) {
    const { help: meaning, default: preset, kind } = aboutSetting(name);
    const line = help.split("\n").find((text) => text.startsWith(`  --${name} `));
    expect(line).toContain(meaning);
    if (kind !== "switch") expect(line).toContain(`[${preset ?? ""}`);
  }
});

test("a command's help lists the settings it takes and no others", () => {
  for (const command of commands) {
    const listed = [...commandHelp(command).matchAll(/^ {2}--([a-z-]+)/gm)].map(
      (match) => match[1],
    );
    const own = ["config"];
    own.push(...command.options.map(({ name }) => name));
    expect(listed).toEqual([...own, ...command.takes]);
  }
});

test("no line of help is longer than 120 characters", () => {
  for (const text of [generalHelp(), ...commands.map(commandHelp)]) {
    expect(text).toEndWith("\n");
    for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(120);
  }
});

test("loads every command", async () => {
  for (const command of commands) expect(await command.load()).toBeFunction();
});

/** Joins the continuation lines of the right column. */
function unwrapped(help: string): string {
  return help.replaceAll(/\n {10,}(?=\S)/g, " ");
}

test("the table of settings has a row for each setting", () => {
  const [head, rule, ...rows] = settingsTable().split("\n");
  expect(head).toBe("| flag | variable | default | meaning |");
  expect(rule).toBe("| --- | --- | --- | --- |");
  expect(rows).toHaveLength(settingNames.length);
  expect(rows).toContain("| `--dir DIR` | `REPLICA_DIR` | `./replica-data` | the data directory |");
  expect(rows).toContain(
    "| `--tls-insecure` | `REPLICA_TLS_INSECURE` | off | don't verify the primary's certificate |",
  );
});
