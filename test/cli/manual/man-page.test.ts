import { describe, expect, test } from "bun:test";
import { commands, questions } from "../../../src/cli/command-table.ts";
import { synopsisOf } from "../../../src/cli/commands/command.ts";
import { manPage } from "../../../src/cli/manual/man-page.ts";
import { continuedLines, paragraphsOf } from "../../../src/cli/manual/paragraphs.ts";
import { literal, request } from "../../../src/cli/manual/roff.ts";
import {
  aboutSetting,
  groupNames,
  inGroups,
  settingNames,
} from "../../../src/config/schema/about-settings.ts";
import { settingGroups } from "../../../src/config/schema/setting.ts";
import { readRoff } from "../../support/read-roff.ts";

const page = manPage(commands, questions);
const { requests, text, sections } = readRoff(page);

describe("the manual page", () => {
  test("has only requests that man(7) knows, balanced, in a plain encoding", () => {
    const known = [
      "TH",
      "SH",
      "SS",
      "PP",
      "TP",
      "B",
      "BR",
      "EX",
      "EE",
      "RS",
      "RE",
      "br",
      "nr",
      "ds",
    ];
    expect(requests.filter(({ name }) => !known.includes(name))).toEqual([]);
    const count = (wanted: string) => requests.filter(({ name }) => name === wanted).length;
    expect([count("RS"), count("EX")]).toEqual([count("RE"), count("EE")]);
    expect(count("TH")).toBe(1);
    expect(page).toMatch(/^[\x20-\x7e\n]*$/);
    expect(page).toEndWith("\n");
    expect(page).not.toContain("\n\n");
  });

  test("has the usual sections in their order", () => {
    expect([...sections.keys()]).toEqual([
      "NAME",
      "SYNOPSIS",
      "DESCRIPTION",
      "COMMANDS",
      "SETTINGS",
      "EXIT STATUS",
      "ENVIRONMENT",
      "FILES",
      "EXAMPLES",
      "SEE ALSO",
    ]);
    expect(sections.get("NAME")).toBe("replica - a Redis/Valkey replica that lives on disk");
  });

  test("tells every command with its options and examples", () => {
    const told = sections.get("COMMANDS") ?? "";
    for (const form of [...commands, ...questions]) {
      expect(sections.get("SYNOPSIS")).toContain(synopsisOf(form));
      expect(told).toContain(synopsisOf(form));
    }
    for (const { options, examples, about } of commands) {
      for (const { name, help } of options) {
        expect(told).toContain(`--${name}`);
        expect(told).toContain(help.slice(1));
      }
      for (const { line } of examples) expect(told.replaceAll(/ \\\n +/g, " ")).toContain(line);
      for (const paragraph of paragraphsOf(about)) expect(told).toContain(paragraph.text);
    }
  });

  test("tells every setting in its group, and nothing of roff shows", () => {
    const told = sections.get("SETTINGS") ?? "";
    const titles = groupNames.map((group) => settingGroups[group].title);
    const parts = told.split(new RegExp(`^(?:${titles.join("|")})$`, "m")).slice(1);
    expect(parts).toHaveLength(titles.length);
    for (const [index, { names }] of inGroups(settingNames).entries()) {
      for (const name of names) expect(parts[index]).toContain(aboutSetting(name).help.slice(1));
    }
    expect(text).not.toMatch(/\\[a-z(]|&/);
  });
});

test("text stays as it is, whatever it begins with", () => {
  for (const one of [".SH x", "'br", "a\\b", "--flag", "“…”", "~/.x ^ `y`", '"quoted"']) {
    expect(literal(one)).not.toMatch(/^[.']/);
    expect(readRoff(literal(one)).text).toBe(one);
    expect(readRoff(request("B", one)).text).toBe(one);
  }
});

test("a long command line goes on with a backslash, and a flag keeps its value", () => {
  const line = "replica restore /var/lib/replica --at now-10m --into redis://10.0.0.5 --dry-run";
  const lines = continuedLines(line, 50);
  expect(lines).toEqual([
    "replica restore /var/lib/replica --at now-10m \\",
    "  --into redis://10.0.0.5 --dry-run",
  ]);
  for (const width of [20, 40, 60, 100]) {
    const joined = continuedLines(line, width)
      .join("\n")
      .replaceAll(/ \\\n +/g, " ");
    expect(joined).toBe(line);
  }
});

test("paragraphs are joined lines, and what is indented stays", () => {
  expect(paragraphsOf("one\ntwo\n\n  code\n   more\n\n\nthree")).toEqual([
    { isVerbatim: false, text: "one two" },
    { isVerbatim: true, text: "  code\n   more" },
    { isVerbatim: false, text: "three" },
  ]);
});
