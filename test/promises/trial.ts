import { join } from "node:path";
import type { Checkout } from "./checkout.ts";
import { type HeldPromise, type Mutation, TableError } from "./mutation.ts";
import { runTest, type TestRun } from "./test-run.ts";

/** How a trial ended. `faulty`: it says nothing about the test, because the table or the run is wrong. */
export type Verdict =
  /** `said`: what the test said of the mutation, in one line; empty where there was none. */
  | { readonly kind: "held"; readonly said: string }
  | { readonly kind: "survived" }
  | { readonly kind: "faulty"; readonly why: string };

/** Errors of a program that no longer fits together: a test that meets one has caught nothing. */
const BROKEN_PROGRAM = new Set(["ReferenceError", "SyntaxError", "ResolveMessage", "BuildMessage"]);

/** Runs the tests of a table in a checkout, as it is and with mutations. */
export class Trial {
  readonly #checkout: Checkout;
  readonly #timeoutMs: number;

  /** @param timeoutMs how long one run of a test may take. */
  constructor(checkout: Checkout, timeoutMs: number) {
    this.#checkout = checkout;
    this.#timeoutMs = timeoutMs;
  }

  /** Without a mutation the test must pass. */
  async asItIs(promise: HeldPromise): Promise<Verdict> {
    const run = await this.#run(promise);
    const why = this.#faultOf(run);
    if (why !== undefined) return { kind: "faulty", why };
    return run.failures.length === 0
      ? { kind: "held", said: "" }
      : { kind: "faulty", why: `it fails without a mutation\n${run.output}` };
  }

  /** With a mutation it must fail, by itself: not because the program does not load. */
  async mutated(promise: HeldPromise, mutation: Mutation): Promise<Verdict> {
    for (let left = mutation.tries; ; left--) {
      const verdict = await this.#mutatedOnce(promise, mutation);
      if (verdict.kind !== "survived" || left <= 1) return verdict;
    }
  }

  async #mutatedOnce(promise: HeldPromise, mutation: Mutation): Promise<Verdict> {
    let run: TestRun;
    try {
      using _ = this.#checkout.change(mutation);
      run = await this.#run(promise);
    } catch (error) {
      if (!(error instanceof TableError)) throw error;
      return { kind: "faulty", why: error.message };
    }
    const why = this.#faultOf(run);
    if (why !== undefined) return { kind: "faulty", why };
    const [failure] = run.failures;
    return failure === undefined ? { kind: "survived" } : { kind: "held", said: failure.message };
  }

  /** Why a run tells nothing about its tests; undefined where it does. */
  #faultOf({ tookTooLong, ran, failures, exitCode, output }: TestRun): string | undefined {
    if (tookTooLong) return `it took more than ${this.#timeoutMs / 1000} s and was ended`;
    if (ran === 0) return `no test ran\n${output}`;
    const broken = failures.find(({ type }) => BROKEN_PROGRAM.has(type));
    if (broken !== undefined) return `the program is broken: ${broken.type}: ${broken.message}`;
    if (failures.length === 0 && exitCode !== 0)
      return `something beside the test failed\n${output}`;
    return undefined;
  }

  async #run({ file, name, one = name }: HeldPromise): Promise<TestRun> {
    const { path } = this.#checkout;
    const report = join(path, "report.xml");
    return await runTest({ cwd: path, file, name: one, report, timeoutMs: this.#timeoutMs });
  }
}
