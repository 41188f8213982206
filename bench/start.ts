import * as fs from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";
import { median, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROJECT = join(import.meta.dir, "..");
const PROGRAM = join(PROJECT, "dist/replica");

/** Medians of one command's runs. */
export interface StartRow {
  readonly command: string;
  readonly wallMs: number;
  readonly cpuMs: number;
}

/**
 * Measures what the compiled program takes for the commands that only print, beside an empty program that is compiled
 * with the same flags: what Bun itself takes. They run in turn, so that other work on the machine meets all of them.
 */
export function benchStart(rounds: number): StartRow[] {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const commands = new Map<string, readonly string[]>([
    ["an empty program", [emptyProgram(scratch.path)]],
    ["replica --version", [PROGRAM, "--version"]],
    ["replica --help", [PROGRAM, "--help"]],
    ["replica restore --help", [PROGRAM, "restore", "--help"]],
  ]);
  const runs = [...commands].map(([command, argv]) => ({ command, argv, took: [] as Took[] }));
  // The first round only brings the files into the page cache.
  for (let round = 0; round <= rounds; round++) {
    for (const { argv, took } of round % 2 === 0 ? runs : runs.toReversed()) {
      const one = run(argv);
      if (round > 0) took.push(one);
    }
  }
  const rows = runs.map(({ command, took }) => ({
    command,
    wallMs: median(took.map(({ wallMs }) => wallMs)),
    cpuMs: median(took.map(({ cpuMs }) => cpuMs)),
  }));
  console.log(`start: ${startTable(rows, rounds)}`);
  return rows;
}

type Took = Pick<StartRow, "wallMs" | "cpuMs">;

function run(argv: readonly string[]): Took {
  const beganMs = performance.now();
  const { exitCode, resourceUsage } = Bun.spawnSync([...argv], { stdout: "pipe", stderr: "pipe" });
  const wallMs = performance.now() - beganMs;
  if (exitCode !== 0) throw new Error(`${argv.join(" ")} exited with ${exitCode}`);
  return { wallMs, cpuMs: Number(resourceUsage.cpuTime.total) / 1000 };
}

/** Compiles an empty file into `dir`, as `npm run build` does the program. */
function emptyProgram(dir: string): string {
  const source = join(dir, "empty.ts");
  const program = join(dir, "empty");
  fs.writeFileSync(source, "");
  const flags = packageJson.scripts.build.split(" ").filter((word) => word.startsWith("--"));
  // Those two have a value.
  const given = flags.filter((flag) => flag !== "--outfile" && flag !== "--entry-naming");
  const argv = [process.execPath, "build", ...given, source, "--outfile", program];
  const built = Bun.spawnSync(argv, { stdout: "ignore" });
  if (built.exitCode !== 0) throw new Error(`bun build: ${built.stderr.toString()}`);
  return program;
}

function startTable(rows: readonly StartRow[], rounds: number): string {
  const [floor] = rows;
  const lines = rows.map(({ command, wallMs, cpuMs }) => {
    const times = (ms: number, least: number | undefined) =>
      `${ms.toFixed(1).padStart(6)} ms ${(ms / (least ?? ms)).toFixed(2)} ×`;
    const wall = times(wallMs, floor?.wallMs);
    return `  ${command.padEnd(24)} wall ${wall}  CPU ${times(cpuMs, floor?.cpuMs)}`;
  });
  return `medians of ${rounds} runs\n${lines.join("\n")}`;
}
