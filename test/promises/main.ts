import { join } from "node:path";
import { parseArgs } from "node:util";
import { tempDir } from "../support/temp.ts";
import { Checkout } from "./checkout.ts";
import type { HeldPromise } from "./mutation.ts";
import { tables } from "./tables.ts";
import { endAllRuns } from "./test-run.ts";
import { Trial, type Verdict } from "./trial.ts";

const HELP = `npm run test:promises -- [flags] [word…]: breaks each promise of SECURITY.md in a copy of this
checkout, and demands that the test which SECURITY.md names fails. Exits with 1 if a mutation survives.

  --jobs N     how many tests run at a time, each in a copy of its own (default: 3)
  --help       print this help
  word…        only mutations whose test, file or description has all these words
`;

/** How long one run of a test may take; none takes a quarter of it alone. */
const RUN_TIMEOUT_MS = 180_000;

/** A wrong command line: printed with the help, exit code 2. */
class Usage extends Error {}

function commandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        jobs: { type: "string", default: "3" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new Usage(error instanceof Error ? error.message : String(error));
  }
}

/** The promises with the mutations whose description has all words. */
function chosen(words: readonly string[]): HeldPromise[] {
  return Object.entries(tables)
    .flatMap(([section, promises]) => promises.map((promise) => ({ section, promise })))
    .map(({ section, promise }) => {
      const { file, name } = promise;
      const mutations = promise.mutations.filter(({ breaks, edits }) => {
        const about = [section, file, name, breaks, ...edits.map((edit) => edit.file)].join(" ");
        return words.every((word) => about.toLowerCase().includes(word.toLowerCase()));
      });
      return { ...promise, mutations };
    })
    .filter(({ mutations }) => mutations.length > 0);
}

/** Prints the outcome of each trial, in the form of bun test, and counts them. */
class Report {
  #passed = 0;
  readonly #failed: string[] = [];

  add({ file, name }: HeldPromise, what: string, verdict: Verdict, sinceMs: number): void {
    const seconds = ((performance.now() - sinceMs) / 1000).toFixed(1);
    const title = `${file} "${name}" > ${what}`;
    if (verdict.kind === "held") {
      this.#passed++;
      console.log(`(pass) ${title} [${seconds} s]: ${verdict.said.slice(0, 100)}`);
      return;
    }
    const why = verdict.kind === "survived" ? "the test passes all the same" : verdict.why;
    this.#failed.push(`${title}: ${why.split("\n")[0]}`);
    console.log(`(fail) ${title} [${seconds} s]\n${why}`);
  }

  /** Returns the exit code. */
  end(): number {
    for (const line of this.#failed) console.log(`\nfailed: ${line}`);
    console.log(`\n ${this.#passed} pass\n ${this.#failed.length} fail`);
    return this.#failed.length === 0 && this.#passed > 0 ? 0 : 1;
  }
}

async function main(): Promise<number> {
  const { values, positionals } = commandLine();
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const jobs = Number(values.jobs);
  if (!(Number.isSafeInteger(jobs) && jobs > 0)) throw new Usage("--jobs takes a number above 0");
  const promises = chosen(positionals);
  if (promises.length === 0) throw new Usage(`no mutation has the words ${positionals.join(" ")}`);
  using dir = tempDir("promises");
  const report = new Report();
  const left = promises.values();
  const lane = async (_: unknown, n: number): Promise<void> => {
    const checkout = Checkout.copy(join(import.meta.dir, "../.."), dir.file(`copy-${n}`));
    const trial = new Trial(checkout, RUN_TIMEOUT_MS);
    for (const promise of left) {
      let beganMs = performance.now();
      const verdict = await trial.asItIs(promise);
      if (verdict.kind !== "held") {
        report.add(promise, "as it is", verdict, beganMs);
        continue;
      }
      for (const mutation of promise.mutations) {
        beganMs = performance.now();
        const outcome = await trial.mutated(promise, mutation);
        report.add(promise, mutation.breaks, outcome, beganMs);
      }
    }
  };
  await Promise.all(Array.from({ length: jobs }, lane));
  return report.end();
}

process.on("exit", endAllRuns);
for (const [signal, exitCode] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const) {
  process.on(signal, () => process.exit(exitCode));
}
try {
  process.exitCode = await main();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(error instanceof Usage ? `${message}\n\n${HELP}` : `${message}\n`);
  // At once: another lane may still run.
  process.exit(error instanceof Usage ? 2 : 1);
}
