import { beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { commands, questions } from "../../../src/cli/command-table.ts";
import { bashScript } from "../../../src/cli/completion/bash.ts";
import { completedCommands } from "../../../src/cli/completion/completed.ts";
import { aboutSetting, settingNames, wordsOf } from "../../../src/config/schema/about-settings.ts";
import { offeredByBash } from "../../support/bash-completion.ts";
import { tempDir } from "../../support/temp.ts";

const script = bashScript(completedCommands(commands, questions));
const names = [...commands, ...questions].map(({ name }) => name).toSorted();
const dir = tempDir("completion");

beforeAll(() => {
  for (const folder of ["data", "two words", "backup"]) mkdirSync(dir.file(folder));
  for (const file of ["dump.rdb", "my dump.rdb", "a*b", "data/inner.rdb", "08:00.rdb"])
    writeFileSync(dir.file(file), "");
});

async function offered(...lines: string[]): Promise<string[][]> {
  return await offeredByBash(script, lines, dir.path);
}

describe("bash completes", () => {
  test("commands, also behind flags", async () => {
    expect(
      await offered("replica ", "replica re", "replica --log-level debug v", "replica help "),
    ).toEqual([
      names,
      ["restore"],
      ["verify", "version"],
      commands.map(({ name }) => name).toSorted(),
    ]);
  });

  test("every flag of every command, and no other", async () => {
    const lines = commands.map(({ name }) => `replica ${name} --`);
    const all = await offered(...lines);
    for (const [index, { options, takes }] of commands.entries()) {
      const wanted = [...options.map(({ name }) => name), ...takes, "config", "help"];
      expect([lines[index], all[index]]).toEqual([
        lines[index],
        wanted.map((name) => `--${name}`).toSorted(),
      ]);
    }
  });

  test("the flags of follow where no command is named, or a URL", async () => {
    const [follow = [], none, url] = await offered(
      "replica follow --",
      "replica --",
      "replica redis://10.0.0.5:6379 --",
    );
    expect(none).toEqual([...follow, "--version"].toSorted());
    expect(url).toEqual(follow);
  });

  test("every word of every enumeration, behind a blank and behind an equals sign", async () => {
    const enumerations = settingNames.filter((name) => wordsOf(name).length > 0);
    expect(enumerations.length).toBeGreaterThan(8);
    const lines = enumerations.flatMap((name) => [`replica --${name} `, `replica --${name}=`]);
    const all = await offered(...lines);
    const wanted = enumerations.flatMap((name) => [wordsOf(name), wordsOf(name)]);
    expect(all).toEqual(wanted.map((words) => words.toSorted()));
    expect(
      await offered(
        "replica --log-level=de",
        "replica restore d t --layout s",
        "replica completion ",
      ),
    ).toEqual([["debug"], ["single"], ["bash", "fish", "zsh"]]);
  });

  test("files and directories where they are wanted", async () => {
    const folders = ["backup", "data", "two words"];
    const files = ["08:00.rdb", "a*b", "dump.rdb", "my dump.rdb", ...folders].toSorted();
    const asked: Record<string, string[]> = {
      "replica verify ": files,
      "replica verify d": ["data", "dump.rdb"],
      "replica verify data/": ["data/inner.rdb"],
      "replica keys ": files,
      "replica backup ": files,
      "replica backup redis://h ": files,
      "replica restore ": folders,
      "replica restore data ": folders,
      "replica --dir ": folders,
      "replica --dir=": folders,
      "replica --dir=d": ["data"],
      "replica --config ": files,
      "replica --tls-ca=du": ["dump.rdb"],
      "replica -- ": names,
      "replica verify -- d": ["data", "dump.rdb"],
      'replica verify "my d': ["my dump.rdb"],
      "replica verify my\\ d": ["my dump.rdb"],
      // Readline replaces what stands after the colon.
      "replica verify 08:": ["00.rdb"],
    };
    expect(await offered(...Object.keys(asked))).toEqual(Object.values(asked));
  });

  test("nothing where anything may stand, and after the last argument", async () => {
    const lines = [
      "replica --port ",
      "replica --http 127.0.0.1:",
      "replica follow ",
      "replica verify dump.rdb ",
      "replica man ",
      "replica --nonsense=",
      "replica nonsense ",
    ];
    expect(await offered(...lines)).toEqual(lines.map(() => []));
  });

  test("whole words where this bash doesn't split at = and :", async () => {
    const lines = ["replica --log-level=de", "replica --dir=d", "replica verify 08:"];
    const offers = await offeredByBash(script, lines, dir.path, { breaks: " \t\n" });
    expect(offers).toEqual([["--log-level=debug"], ["--dir=data"], ["08:00.rdb"]]);
  });
});

test("every setting whose value is a file or a folder says so to the shells", () => {
  const paths = settingNames.filter((name) => /^(?:FILE|DIR|PATH)$/.test(aboutSetting(name).value));
  expect(paths.length).toBeGreaterThan(7);
  for (const name of paths)
    expect([name, aboutSetting(name).completes]).not.toEqual([name, undefined]);
  const options = commands.flatMap((command) => command.options);
  for (const { name, value, completes } of options.filter((one) =>
    /^(?:FILE|DIR|PATH)$/.test(one.value),
  ))
    expect([name, value, completes]).not.toEqual([name, value, undefined]);
});
