import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";

/** What became of the tests of a run. */
export interface TestRun {
  /** The tests that ran. */
  readonly ran: number;
  /** Of those that failed: the kind of error, and its message. */
  readonly failures: readonly Failure[];
  /** Not 0 without a failure: something failed beside the tests, such as a hook. Null where the run was ended. */
  readonly exitCode: number | null;
  /** Whether the run took longer than it may. */
  readonly tookTooLong: boolean;
  /** What it printed. */
  readonly output: string;
}

interface Failure {
  readonly type: string;
  readonly message: string;
}

export interface TestRunOptions {
  /** The checkout. */
  readonly cwd: string;
  readonly file: string;
  /** The name of a test or of a group; `%s` and `$name` stand for what a table puts there. */
  readonly name: string;
  /** Where the report goes; a file of that name is replaced. What the run prints goes to beside it, as `.out`. */
  readonly report: string;
  /** Milliseconds. */
  readonly timeoutMs: number;
}

/** The groups of the processes that run now. */
const groups = new Set<number>();

/** Ends every run, with all that it has started. */
export function endAllRuns(): void {
  for (const pid of groups) endGroup(pid);
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All of them have ended.
  }
}

/** How long a test waits for what a mutation keeps from coming. */
const PATIENCE_MS = "45000";

/** Runs a test, up to its first failure, in a group of processes that is ended with it. */
export async function runTest(options: TestRunOptions): Promise<TestRun> {
  const { cwd, file, name, report, timeoutMs } = options;
  rmSync(report, { force: true });
  const argv = [
    process.execPath,
    "test",
    "--bail",
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    `--test-name-pattern=${patternOf(name)}`,
    `./${file}`,
  ];
  // A file: what a test has left behind in a group of its own would hold a pipe open for as long as it lives.
  const printed = `${report}.out`;
  const out = openSync(printed, "w");
  const child = Bun.spawn(argv, {
    cwd,
    env: { ...process.env, NO_COLOR: "1", TEST_PATIENCE_MS: PATIENCE_MS },
    stdin: "ignore",
    stdout: out,
    stderr: out,
    detached: true,
  });
  closeSync(out);
  groups.add(child.pid);
  let tookTooLong = false;
  const timer = setTimeout(() => {
    tookTooLong = true;
    endGroup(child.pid);
  }, timeoutMs);
  await child.exited;
  clearTimeout(timer);
  // What a test has left behind.
  endGroup(child.pid);
  groups.delete(child.pid);
  const output = readFileSync(printed, "utf8");
  const cases = existsSync(report) ? casesOf(readFileSync(report, "utf8")) : [];
  const failures = cases.filter((one) => one !== undefined);
  return { ran: cases.length, failures, exitCode: child.exitCode, tookTooLong, output };
}

/** The regular expression that finds a test by its name. */
export function patternOf(name: string): string {
  const literal = name.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return literal.replaceAll(/%[sidjo]|\\\$\w+/g, ".*");
}

/** Of each test that ran, by a report in the form of JUnit: how it failed, or undefined. */
function casesOf(report: string): (Failure | undefined)[] {
  const cases = report.matchAll(/<testcase [^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g);
  return Array.from(cases, ([, inside = ""]) => inside)
    .filter((inside) => !inside.includes("<skipped"))
    .map((inside) => {
      const failed = /<failure(?: type="([^"]*)")?(?: message="([^"]*)")?/.exec(inside);
      if (failed === null) return undefined;
      const [, type = "", message = ""] = failed;
      return { type, message: plain(message) };
    });
}

/** The text of an attribute, on one line. */
function plain(text: string): string {
  const names: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text
    .replaceAll(/&(?:#(\d+)|(\w+));/g, (_, code?: string, name = "") =>
      code === undefined ? (names[name] ?? "?") : String.fromCodePoint(Number(code)),
    )
    .replaceAll(/\s+/g, " ")
    .trim();
}
