import { describe, expect, test } from "bun:test";
import { commands, findCommand, questions } from "../../../src/cli/command-table.ts";
import type { CommandContext } from "../../../src/cli/commands/command.ts";
import { completedCommands } from "../../../src/cli/completion/completed.ts";
import { fishScript } from "../../../src/cli/completion/fish.ts";
import { shells } from "../../../src/cli/completion/shells.ts";
import { zshScript } from "../../../src/cli/completion/zsh.ts";
import { Output } from "../../../src/cli/terminal/output.ts";
import { settingNames, wordsOf } from "../../../src/config/schema/about-settings.ts";
import { reasonOf } from "../../support/error-of.ts";

async function printed(...args: string[]): Promise<string> {
  let text = "";
  const stdout = new Output({ sink: (more) => (text += more), isTty: false });
  const [name = "", ...rest] = args;
  const run = await findCommand(name)!.load();
  expect(await run({ args: rest, stdout } as unknown as CommandContext)).toBe(0);
  return text;
}

describe("replica completion", () => {
  test.each(shells)("prints the script for %s", async (shell) => {
    const script = await printed("completion", shell);
    expect(script).toContain(`made by "replica completion ${shell}"`);
    expect(script).toEndWith("\n");
    // Nothing of what the program would show where a value is missing.
    expect(script).not.toMatch(/undefined|\[object/);
  });

  test.each([
    ["tcsh", 'there is no completion for "tcsh": replica completion takes bash, zsh, fish'],
    [
      "bsah",
      'there is no completion for "bsah": replica completion takes bash, zsh, fish: did you mean bash?',
    ],
    ["BASH", "did you mean bash?"],
    ["a\nb", String.raw`there is no completion for "a\nb"`],
    ["x".repeat(1000), `there is no completion for "${"x".repeat(100)}"`],
  ])("refuses %j", async (shell, message) => {
    const error = await reasonOf(printed("completion", shell));
    expect(error).toMatchObject({ code: "USAGE", message: expect.stringContaining(message) });
  });
});

test("replica man prints the manual page", async () => {
  expect(await printed("man")).toStartWith('.\\" Made by "replica man".\n');
});

describe("the scripts for zsh and fish", () => {
  const all = completedCommands(commands, questions);
  const [zsh, fish] = [zshScript(all), fishScript(all)];

  test("have every command with each of its flags", () => {
    for (const { name, options, takes } of commands) {
      const part = new RegExp(`^    ${name}\\)\n([\\s\\S]*?)^      ;;`, "m").exec(zsh)?.[1] ?? "";
      for (const flag of [...options.map((one) => one.name), ...takes, "config"]) {
        expect(part).toMatch(new RegExp(`^ +'\\*?--${flag}[=[]`, "m"));
        expect(fish).toMatch(new RegExp(`__replica_in [a-z ]*\\b${name}\\b[a-z ]*' -l ${flag} `));
      }
      expect(fish).toContain(`-a ${name} -d '`);
    }
  });

  test("have the words of every enumeration, files and folders", () => {
    for (const name of settingNames.filter((one) => wordsOf(one).length > 0)) {
      const words = wordsOf(name).join(" ");
      expect(zsh).toMatch(new RegExp(`--${name}=\\[.*:\\(${words}\\)'`));
      expect(fish).toMatch(new RegExp(`-l ${name} -d .* -r -f -a '${words}'`));
    }
    expect(zsh).toMatch(/'--dir=\[the data directory\]:DIR:_files -\/'/);
    expect(zsh).toMatch(/'1:URL or OUT:_files'/);
    expect(fish).toMatch(
      /-l dir -d 'the data directory' -r -f -a '\(__fish_complete_directories\)'/,
    );
    expect(fish).toMatch(/-l tls-ca -d '[^']*' -r -F$/m);
  });

  test("quote what help says: every line's quotes are closed", () => {
    for (const line of zsh.split("\n")) {
      expect([line, line.replaceAll(String.raw`'\''`, "").split("'").length % 2]).toEqual([
        line,
        1,
      ]);
    }
    for (const line of fish.split("\n")) {
      expect([line, line.replaceAll(String.raw`\'`, "").split("'").length % 2]).toEqual([line, 1]);
    }
  });
});
