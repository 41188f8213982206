import { describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { commands, questions } from "../../../src/cli/command-table.ts";
import { completedCommands } from "../../../src/cli/completion/completed.ts";
import { fishScript } from "../../../src/cli/completion/fish.ts";
import { zshScript } from "../../../src/cli/completion/zsh.ts";
import { manPage } from "../../../src/cli/manual/man-page.ts";
import { runProgram } from "../../support/run-program.ts";
import { fetched, programCommand, readStamp } from "../../support/server-catalog.ts";
import { IS_FULL } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";

const LIMIT_MS = 150_000;
/** A letter that is struck over, as bold ones are. */
const BACKSPACED = new RegExp(`.${String.fromCharCode(8)}`, "g");
const all = completedCommands(commands, questions);

/** Runs one of the shells' programs where nothing of the user's is read. @throws Error where it complains. */
async function run(program: string, args: readonly string[], cwd: string): Promise<string> {
  const { dir, stamp } = fetched("shells");
  const argv = [...programCommand(dir, stamp, program), ...args];
  const env = {
    HOME: `${cwd}/.home`,
    XDG_CONFIG_HOME: `${cwd}/.home`,
    XDG_DATA_HOME: `${cwd}/.home`,
    TERM: "dumb",
    PATH: "/usr/bin:/bin",
  };
  const { stdout, stderr, exitCode } = await runProgram(argv, { cwd, env, timeoutMs: LIMIT_MS });
  if (exitCode !== 0 || stderr !== "")
    throw new Error(`${program}: ${exitCode} ${stderr}${stdout}`);
  return stdout;
}

// Fetched by the sweeps alone. In CI they run in any case, so that they fail where the shells could not be had.
const hasShells = readStamp("shells") !== undefined || process.env["CI"] === "true";

describe.skipIf(!IS_FULL || !hasShells)("real shells", () => {
  test(
    "fish reads its script, and completes by it",
    async () => {
      using dir = tempDir("fish");
      await Bun.write(dir.file("replica.fish"), fishScript(all));
      mkdirSync(dir.file("work/data"), { recursive: true });
      await Bun.write(dir.file("work/dump.rdb"), "");
      await run("fish", ["--no-execute", dir.file("replica.fish")], dir.path);
      const functions = `${fetched("shells").dir}/usr/share/fish/functions`;
      const offered = async (line: string) => {
        const script = `set fish_function_path ${functions}; set -e fish_complete_path; source ${dir.file("replica.fish")}; complete -C '${line}'`;
        const text = await run("fish", ["--no-config", "-c", script], dir.file("work"));
        return text.split("\n").flatMap((one) => one.split("\t")[0] || []);
      };
      const names = [...commands, ...questions].map(({ name }) => name);
      expect((await offered("replica ")).toSorted()).toEqual(names.toSorted());
      expect(await offered("replica --log-level d")).toEqual(["debug"]);
      expect(await offered("replica --log-level=d")).toEqual(["--log-level=debug"]);
      expect(await offered("replica verify --qu")).toEqual(["--quick"]);
      expect(await offered("replica redis://h:1 --archive-comp")).toEqual([
        "--archive-compression",
      ]);
      expect(await offered("replica --dir ")).toEqual(["data/"]);
      expect(await offered("replica verify d")).toEqual(["data/", "dump.rdb"]);
      expect(await offered("replica restore d")).toEqual(["data/"]);
      expect(await offered("replica completion z")).toEqual(["zsh"]);
      expect(await offered("replica status --fsy")).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "zsh reads its script, and hands the right flags on",
    async () => {
      using dir = tempDir("zsh");
      await Bun.write(dir.file("_replica"), zshScript(all));
      await run("zsh", ["-f", "-n", dir.file("_replica")], dir.path);
      // What zsh's own functions would be given.
      const handedOn = async (...words: string[]) => {
        const quoted = words.map((word) => `'${word}'`).join(" ");
        const script = `_arguments() { print -rl -- "$words" "$@" }
_describe() { print -r -- described }
words=(${quoted}) CURRENT=${words.length}
. ${dir.file("_replica")}`;
        return (await run("zsh", ["-f", "-c", script], dir.path)).split("\n").slice(0, -1);
      };
      const flagsIn = (lines: readonly string[]) =>
        lines.flatMap((line) => /^\*?--([a-z-]+)[=[]/.exec(line)?.[1] ?? []);
      for (const { name, options, takes } of commands) {
        const [left, ...specs] = await handedOn("replica", "--config", "x", name, "");
        expect(left).toBe("replica --config x ");
        const wanted = [...options.map((one) => one.name), ...takes, "config"];
        expect([name, flagsIn(specs)]).toEqual([name, wanted]);
      }
      const url = await handedOn("replica", "redis://h", "");
      expect(url[0]).toBe("replica redis://h ");
      expect(url).toContain("1:URL: ");
      const none = await handedOn("replica", "--log-level", "debug", "");
      expect(none).toContain("1: :_replica_commands");
      expect(none).toContain("--log-level=[the lowest level to log]:LEVEL:(debug info warn error)");
    },
    LIMIT_MS,
  );

  test(
    "mandoc warns of nothing in the manual page, and renders it in 80 columns",
    async () => {
      using dir = tempDir("mandoc");
      const page = manPage(commands, questions);
      // A page that is the same for the same version has no date.
      const dated = page.replace(/^\.TH REPLICA 1 ""/m, '.TH REPLICA 1 "2026-01-31"');
      await Bun.write(dir.file("replica.1"), dated);
      const lint = ["-T", "lint", "-W", "warning", dir.file("replica.1")];
      expect(await run("mandoc", lint, dir.path)).toBe("");
      const text = await run(
        "mandoc",
        ["-T", "utf8", "-O", "width=78", dir.file("replica.1")],
        dir.path,
      );
      const shown = text.replaceAll(BACKSPACED, "");
      for (const { name } of commands) expect(shown).toContain(`replica ${name}`);
      for (const line of shown.split("\n")) expect([line, line.length <= 80]).toEqual([line, true]);
    },
    LIMIT_MS,
  );
});
