import { describe, expect, test } from "bun:test";
import { commands, questions } from "../../src/cli/command-table.ts";
import { synopsisOf } from "../../src/cli/commands/command.ts";
import { parseCommandLine } from "../../src/cli/flags.ts";
import { commandHelp, generalHelp, settingsTable } from "../../src/cli/help.ts";
import {
  aboutSetting,
  groupNames,
  inGroups,
  settingNames,
} from "../../src/config/schema/about-settings.ts";
import { settingGroups } from "../../src/config/schema/setting.ts";
import { loadSettings } from "../../src/config/load-settings.ts";

const pages = [generalHelp(), ...commands.map(commandHelp)];

test("the general help lists every command and every setting with its default", () => {
  const help = unwrapped(generalHelp());
  for (const command of [...commands, ...questions]) {
    expect(help).toContain(`  ${synopsisOf(command)}`);
    expect(help).toContain(command.summary);
  }
  for (const name of settingNames) {
    const { help: meaning, default: preset, kind } = aboutSetting(name);
    const line = help.split("\n").find((text) => text.startsWith(`  --${name} `));
    expect(line).toContain(meaning);
    if (kind !== "switch") expect(line).toContain(`[${preset ?? ""}`);
  }
});

test("the general help has the groups in their order, each with its settings and an example", () => {
  const help = generalHelp();
  const titles = Array.from(help.matchAll(/^(\w+) settings: /gm), ([, title]) => title);
  expect(titles).toEqual(["Essential", "Storage", "Archive", "Security", "Tuning"]);
  const parts = help.split(/^\w+ settings: /m).slice(1);
  for (const [index, { group, names }] of inGroups(settingNames).entries()) {
    const listed = [...parts[index]!.matchAll(/^ {2}--([a-z-]+)/gm)].map((match) => match[1]);
    expect([group, listed]).toEqual([group, [...names]]);
    expect(unwrapped(help)).toContain(settingGroups[group].example.line.slice(0, 40));
  }
});

test("a command's help lists the settings it takes and no others, group by group", () => {
  for (const command of commands) {
    const help = commandHelp(command).replace(/^Examples:\n(?: .*\n)+/m, "");
    const listed = [...help.matchAll(/^ {2}--([a-z-]+)/gm)].map((match) => match[1]);
    const own = [...command.options.map(({ name }) => name), "config"];
    expect(listed).toEqual([...own, ...inGroups(command.takes).flatMap(({ names }) => names)]);
    expect(new Set(command.takes).size).toBe(command.takes.length);
  }
});

test("no line of help is longer than 80 columns", () => {
  for (const text of pages) {
    expect(text).toEndWith("\n");
    for (const line of text.split("\n"))
      expect([line, Bun.stringWidth(line) <= 80]).toEqual([line, true]);
  }
});

test("loads every command", async () => {
  for (const command of commands) expect(await command.load()).toBeFunction();
});

describe("examples", () => {
  const ofGroups = groupNames.map((group) => settingGroups[group].example);
  const all = [...ofGroups, ...commands.flatMap(({ examples }) => examples)];

  test("every command and every group has one", () => {
    for (const { name, examples } of commands)
      expect([name, examples.length > 0]).toEqual([name, true]);
    expect(ofGroups).toHaveLength(5);
  });

  test.each(all)("$line", ({ line }) => {
    const [program, ...args] = line.split(/ [>|] /)[0]!.split(" ");
    expect(program).toBe("replica");
    const invocation = parseCommandLine(args.map((one) => one.replaceAll("'", "")));
    if (invocation.ask !== "run") throw new Error(`it asks for ${invocation.ask}`);
    // Files that they name aren't here.
    const flags = new Map([...invocation.flags].filter(([name]) => !/-file$|^tls-/.test(name)));
    expect(loadSettings({ flags, env: {}, takes: invocation.command.takes })).toBeObject();
  });

  test("an example of a group has a setting of that group", () => {
    for (const { group, names } of inGroups(settingNames)) {
      const named = names.filter((name) =>
        settingGroups[group].example.line.includes(`--${name} `),
      );
      expect([group, named.length > 0]).toEqual([group, true]);
    }
  });
});

/** Joins the continuation lines of the right column. */
function unwrapped(help: string): string {
  return help.replaceAll(/\n {10,}(?=\S)/g, " ");
}

test("the tables of settings have a row for each setting, below the title of its group", () => {
  const titles = Array.from(settingsTable().matchAll(/^### (\w+)$/gm), ([, title]) => title);
  expect(titles).toEqual(groupNames.map((group) => settingGroups[group].title));
  const rows = settingsTable()
    .split("\n")
    .filter((line) => line.startsWith("| `--"));
  expect(rows).toHaveLength(settingNames.length);
  expect(rows).toContain("| `--dir DIR` | `REPLICA_DIR` | `./replica-data` | the data directory |");
  expect(rows).toContain(
    "| `--tls-insecure` | `REPLICA_TLS_INSECURE` | off | don't verify the primary's certificate |",
  );
});
