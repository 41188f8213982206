import { describe, expect, test } from "bun:test";
import { commands } from "../../src/cli/command-table.ts";
import { valuesOf } from "../../src/cli/commands/command.ts";
import { parseCommandLine } from "../../src/cli/flags.ts";
import { usageErrorOf } from "../support/error-of.ts";

function run(...argv: string[]) {
  const invocation = parseCommandLine(argv);
  if (invocation.ask !== "run") throw new Error(`asks for ${invocation.ask}`);
  const { command, args, flags, options } = invocation;
  return { command: command.name, args, flags: Object.fromEntries(flags), options: [...options] };
}

function complaint(...argv: string[]): string {
  return usageErrorOf(() => parseCommandLine(argv)).message;
}

const url = "redis://h:1";

test.each<[string[], string, string[]]>([
  [[], "follow", []],
  [["follow"], "follow", []],
  [["follow", url], "follow", [url]],
  [[url], "follow", [url]],
  [["h:1"], "follow", ["h:1"]],
  [["::1"], "follow", ["::1"]],
  // Not a command: the error of its URL says what is meant.
  [["6379"], "follow", ["6379"]],
  [["backup", url, "-"], "backup", [url, "-"]],
  [["backup", "out.rdb"], "backup", ["out.rdb"]],
  [["backup", "--", "--odd.rdb"], "backup", ["--odd.rdb"]],
  [["status"], "status", []],
  [["demo"], "demo", []],
])("parses %j into a command and its arguments", (argv, command, args) => {
  expect(run(...argv)).toMatchObject({ command, args, flags: {}, options: [] });
});

test("takes flags anywhere, with a space or an equals sign; the last one wins", () => {
  expect(run("--port", "1", "follow", "--dir=/a=b", url, "--port=2").flags).toEqual({
    port: "2",
    dir: "/a=b",
  });
  expect(run("--config", "f.toml").flags).toEqual({ config: "f.toml" });
});

test("gathers the values of a list's flag", () => {
  expect(run("--http-host", "a", url, "--http-host=b,c").flags).toEqual({ "http-host": "a,b,c" });
});

test("keeps every value of an option that may be given more than once, with all that is in it", () => {
  const { options } = run("restore", "dir", "to", "--keys", "a,b:*", "--keys=-c", "--keys=");
  expect(valuesOf(new Map(options), "keys")).toEqual(["a,b:*", "-c", ""]);
  expect(valuesOf(new Map(), "keys")).toEqual([]);
});

test("takes a switch alone, or with =true or =false", () => {
  expect(run("--tls-insecure", url)).toMatchObject({
    args: [url],
    flags: { "tls-insecure": "true" },
  });
  expect(run("--no-progress=false").flags).toEqual({ "no-progress": "false" });
});

test("takes a value that begins with a dash only after an equals sign", () => {
  expect(complaint("--port", "-1")).toContain("--port needs a value");
  expect(complaint("--dir", "--port", "1")).toContain("--dir needs a value");
  expect(complaint("--dir")).toContain("--dir needs a value");
  expect(run("--dir=-odd").flags).toEqual({ dir: "-odd" });
});

test("takes --json for commands that print a table", () => {
  expect(run("status", "--json").options).toEqual([["json", "true"]]);
  expect(run("status", "--json=false").options).toEqual([]);
  expect(complaint("follow", "--json")).toBe("follow doesn't take --json");
  expect(complaint("status", "--json=x")).toBe("--json takes no value");
});

test("takes --watch for status only", () => {
  expect(run("status", "--watch")).toMatchObject({ options: [["watch", "true"]], flags: {} });
  expect(run("status").options).toEqual([]);
  expect(complaint("backup", "out.rdb", "--watch")).toBe("backup doesn't take --watch");
});

describe("help and version", () => {
  test.each<[string[], string | undefined]>([
    [["--help"], undefined],
    [["-h"], undefined],
    [["help"], undefined],
    [["help", "backup"], "backup"],
    [["backup", "--help"], "backup"],
    [["--help", "status"], "status"],
    [[url, "--help"], "follow"],
    [["help", url], "follow"],
    [["help", "man"], "man"],
    [["help", "help"], undefined],
    [["version", "--help"], undefined],
    [["backup", "-h"], "backup"],
  ])("%j", (argv, command) => {
    const invocation = parseCommandLine(argv);
    expect(invocation.ask === "help" && invocation.command?.name).toBe(command);
    expect(invocation.ask).toBe("help");
  });

  test.each(["--version", "-V", "version"])("%s", (word) => {
    expect(parseCommandLine([word])).toEqual({ ask: "version" });
  });
});

describe("refuses", () => {
  test.each<[string[], string]>([
    [["--prot", "1"], "unknown flag --prot: did you mean --port?"],
    [["--prot=1"], "unknown flag --prot: did you mean --port?"],
    [["--jsno"], "did you mean --json?"],
    [["-x"], "unknown flag -x"],
    [["folow"], "unknown command folow: did you mean follow?"],
    [["stat"], "did you mean status?"],
    [["localhost"], "the commands are follow, backup, verify"],
    [["help", "folow"], "did you mean follow?"],
    [["folow", "--help"], "did you mean follow?"],
    [["help", "backup", "restore"], "unexpected argument restore: replica help [COMMAND]"],
    [["help", ""], "an argument of help is empty: replica help [COMMAND]"],
    [["version", "x"], "unexpected argument x: replica version"],
    [["verson"], "did you mean version?"],
    [["hepl"], "did you mean help?"],
    [["-v"], "unknown flag -v"],
    [["--version=1"], "--version takes no value"],
    [["completion"], "completion needs more arguments: replica completion SHELL"],
    [["completion", "bash", "zsh"], "unexpected argument zsh: replica completion SHELL"],
    [["completion", "bash", "--json"], "completion doesn't take --json"],
    [["completoin", "bash"], "did you mean completion?"],
    [["man", "replica"], "unexpected argument replica: replica man"],
    [["backup"], "backup needs more arguments: replica backup [URL] OUT"],
    [["backup", url, "a", "b"], "unexpected argument b: replica backup [URL] OUT"],
    [["follow", url, url], "unexpected argument redis://h:1: replica follow [URL]"],
    [[""], "an argument of follow is empty: replica follow [URL]"],
    [["verify", ""], "an argument of verify is empty: replica verify SOURCE"],
    [["backup", "", "out"], "an argument of backup is empty: replica backup [URL] OUT"],
    [["demo", "x"], "unexpected argument x: replica demo"],
    [["status", "--fsync", "no"], "status doesn't take --fsync"],
  ])("%j", (argv, message) => {
    expect(complaint(...argv)).toContain(message);
  });

  test("without printing a password", () => {
    const secret = "redis://u:hunter2@h";
    expect(complaint("follow", secret, secret)).not.toContain("hunter2");
    expect(complaint("--pasword", "hunter2", secret)).not.toContain("hunter2");
    expect(complaint("--password=hunter2")).not.toContain("hunter2");
    expect(complaint("demo", secret)).not.toContain("hunter2");
  });
});

test("an option that several commands have takes a value in all of them, or in none", () => {
  const values = new Map<string, string>();
  for (const { name: command, options } of commands) {
    for (const { name, value } of options) {
      const known = values.get(name) ?? value;
      expect(`${command} --${name} ${value}`.trimEnd()).toBe(
        `${command} --${name} ${known}`.trimEnd(),
      );
      values.set(name, value);
    }
  }
});
