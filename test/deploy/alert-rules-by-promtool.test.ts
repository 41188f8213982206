import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasPrometheus, promtool } from "../support/prometheus.ts";
import { IS_FULL } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { ALERT_CASES, type AlertCase } from "./alert-cases.ts";
import { valueAt, type Values } from "./alert-scenes.ts";

/** How long a case is that is evaluated less often. */
const LONG_MINUTES = 300;
/** It takes a minute where nothing else runs. */
const LIMIT_MS = 900_000;
const RULES = join(import.meta.dir, "../../deploy/alerts.yml");

describe.skipIf(!IS_FULL || !hasPrometheus)("promtool", () => {
  test(
    "finds nothing wrong with the rules",
    async () => {
      const check = ["check", "rules", "--lint=all", "--lint-fatal"];
      const { stdout, stderr, exitCode } = await promtool([...check, RULES]);
      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(stdout).toMatch(/SUCCESS: \d+ rules found/);
    },
    LIMIT_MS,
  );

  test(
    "fires each alert for its cause, and none for what looks like it",
    async () => {
      using dir = tempDir("rules");
      const files = ALERT_CASES.map((one, index) => {
        const file = dir.file(`${index}.yml`);
        writeFileSync(file, JSON.stringify(ruleTest(one)));
        return file;
      });
      // One process plays them all: each takes every core for itself.
      const { stderr } = await promtool(["test", "rules", ...files], { timeoutMs: LIMIT_MS });
      const told = stderr.split("FAILED:").slice(1);
      expect(told).toHaveLength(files.length);
      const fired = ALERT_CASES.map(({ name }, index) => [name, said(told[index]!)] as const);
      const expected = ALERT_CASES.map(({ name, fires }) => [name, fires] as const);
      expect(Object.fromEntries(fired)).toEqual(Object.fromEntries(expected));
    },
    LIMIT_MS,
  );
});

/** What `promtool test rules` reads (its documentation, "Unit testing for rules"; JSON is YAML, too). */
function ruleTest({ name, minutes, series }: AlertCase) {
  const [job, instance] = ["replica", "10.0.0.6:6395"];
  // The first sample of each alert that has fired, in minutes.
  const first = `min_over_time(timestamp(ALERTS{alertstate="firing"})[${minutes + 1}m:1m])`;
  const expr = `min by (alertname, shard) (${first}) / 60`;
  return {
    rule_files: [RULES],
    // It is what takes the time.
    evaluation_interval: minutes > LONG_MINUTES ? "5m" : "1m",
    tests: [
      {
        name,
        interval: "1m",
        input_series: Object.entries(series).map(([key, values]) => {
          const [metric, labels = "}"] = key.split("{");
          const target = `job="${job}",instance="${instance}"${labels === "}" ? "" : ","}`;
          return { series: `${metric}{${target}${labels}`, values: sampled(values, minutes) };
        }),
        // None fits this, so promtool tells what there is.
        promql_expr_test: [
          { expr, eval_time: `${minutes}m`, exp_samples: [{ labels: "none", value: 0 }] },
        ],
      },
    ],
  };
}

/** Prometheus's notation of samples: `5x9` is 5 and nine more of it, `_x9` are nine that are missing. */
function sampled(values: Values, minutes: number): string {
  const written: string[] = [];
  let run: { value: number | undefined; more: number } | undefined;
  const end = () => {
    if (run === undefined) return;
    const { value, more } = run;
    if (value === undefined) written.push(`_x${more + 1}`);
    else if (Number.isFinite(value)) written.push(`${value}x${more}`);
    else written.push(...Array.from({ length: more + 1 }, () => "Inf"));
  };
  for (let minute = 0; minute <= minutes; minute++) {
    const value = valueAt(values, minute);
    if (run !== undefined && run.value === value) run.more++;
    else {
      end();
      run = { value, more: 0 };
    }
  }
  end();
  return written.join(" ");
}

/** The alerts that promtool names in its complaint, and when each began. */
function said(output: string): Record<string, number> {
  const got = /got:(.*)/.exec(output)?.[1];
  if (got === undefined) throw new Error(`promtool says ${output}`);
  const found = got.matchAll(/\{alertname="(\w+)"(?:, shard="(\d+)")?\} ([\d.E+]+)/g);
  return Object.fromEntries(
    Array.from(found, ([, alert = "", shard, minute]) => [
      shard === undefined ? alert : `${alert} ${shard}`,
      Number(minute),
    ]),
  );
}
