import { writeFileSync } from "node:fs";
import { freePort } from "./ports.ts";
import { type Ran, runProgram } from "./run-program.ts";
import { answers, ServerProcesses, startedOnFreePorts } from "./s3-server.ts";
import { fetched, type PackageKind, programCommand, readStamp } from "./server-catalog.ts";
import { PATIENCE_MS } from "./wait.ts";

/** Whether their tests run: where they have been fetched, and in CI in any case, so that they fail where they could not be. */
export const hasPrometheus = isHere("prometheus");
export const hasRedisExporter = isHere("redis-exporter");

function isHere(kind: PackageKind): boolean {
  return readStamp(kind) !== undefined || process.env["CI"] === "true";
}

function command(kind: "prometheus" | "redis-exporter", program: string): string[] {
  const { dir, stamp } = fetched(kind);
  return programCommand(dir, stamp, program);
}

/** Runs promtool. @returns what it wrote and its exit code. */
export async function promtool(
  args: readonly string[],
  { stdin = "", timeoutMs = PATIENCE_MS }: { stdin?: string; timeoutMs?: number } = {},
): Promise<Ran> {
  const argv = [...command("prometheus", "promtool"), ...args];
  return await runProgram(argv, { stdin: Buffer.from(stdin), timeoutMs });
}

/** One series of an answer, at one moment. */
export interface Point {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [atSeconds: number, value: string];
}

/** A rule as Prometheus shows it. */
export interface SeenRule {
  readonly name: string;
  readonly health: string;
  readonly lastError?: string;
  readonly state: "inactive" | "pending" | "firing";
  readonly alerts: readonly { readonly annotations: Readonly<Record<string, string>> }[];
}

export interface Prometheus extends AsyncDisposable {
  /** Asks for an expression now. @throws Error with what Prometheus says of it. */
  query(expression: string): Promise<readonly Point[]>;
  /** Its alerting rules, as it evaluates them. */
  rules(): Promise<readonly SeenRule[]>;
  /** The values of a label, as Grafana asks for those of a variable. */
  labelValues(label: string, selector: string): Promise<readonly string[]>;
}

/**
 * Starts Prometheus, which scrapes these targets in the job "replica" and evaluates the rules of a file.
 * @throws Error with its log if it doesn't start.
 */
export async function startPrometheus(
  targets: readonly string[],
  ruleFile: string,
): Promise<Prometheus> {
  return await startedOnFreePorts(() => start(targets, ruleFile));
}

async function start(targets: readonly string[], ruleFile: string): Promise<Prometheus> {
  const processes = new ServerProcesses("prometheus");
  try {
    const address = `127.0.0.1:${freePort()}`;
    const config = processes.file("prometheus.yml");
    writeFileSync(
      config,
      JSON.stringify({
        global: { scrape_interval: "2s", scrape_timeout: "2s", evaluation_interval: "1s" },
        rule_files: [ruleFile],
        scrape_configs: [{ job_name: "replica", static_configs: [{ targets }] }],
      }),
    );
    processes.start("prometheus", [
      ...command("prometheus", "prometheus"),
      `--config.file=${config}`,
      `--storage.tsdb.path=${processes.file("data")}`,
      `--web.listen-address=${address}`,
    ]);
    await processes.up("Prometheus to be ready", () => answers(`http://${address}/-/ready`));
    return prometheusAt(`http://${address}/api/v1`, processes);
  } catch (error) {
    await processes.end();
    throw error;
  }
}

function prometheusAt(api: string, processes: ServerProcesses): Prometheus {
  const get = async (path: string, asked: Record<string, string>): Promise<unknown> => {
    const response = await fetch(`${api}/${path}?${new URLSearchParams(asked)}`);
    const said = (await response.json()) as { status: string; data: unknown; error?: string };
    if (said.status === "success") return said.data;
    throw new Error(`Prometheus refuses ${JSON.stringify(asked)}: ${said.error}`);
  };
  return {
    query: async (query) => {
      const { result } = (await get("query", { query })) as { result: readonly Point[] };
      return result;
    },
    rules: async () => {
      type Groups = readonly { readonly rules: readonly SeenRule[] }[];
      const { groups } = (await get("rules", { type: "alert" })) as { groups: Groups };
      return groups.flatMap(({ rules }) => rules);
    },
    labelValues: async (label, selector) =>
      (await get(`label/${label}/values`, { "match[]": selector })) as readonly string[],
    [Symbol.asyncDispose]: () => processes.end(),
  };
}

export interface RedisExporter extends AsyncDisposable {
  /** What it makes of the server. */
  metrics(): Promise<string>;
  /** What it has logged. */
  log(): string;
}

/** Options by which redis_exporter asks for whatever it knows of. */
const ALL_QUESTIONS = [
  "-ping-on-connect",
  "-include-system-metrics",
  "-include-config-metrics",
  "-include-modules-metrics",
  "-export-client-list",
  "-export-client-port",
];

/**
 * Starts redis_exporter for a server, with all that it can ask for.
 * @throws Error with its log if it doesn't start.
 */
export async function startRedisExporter(url: string, password = ""): Promise<RedisExporter> {
  return await startedOnFreePorts(async () => {
    const processes = new ServerProcesses("redis-exporter", { REDIS_PASSWORD: password });
    try {
      const address = `127.0.0.1:${freePort()}`;
      processes.start("redis-exporter", [
        ...command("redis-exporter", "prometheus-redis-exporter"),
        ...ALL_QUESTIONS,
        "-redis.addr",
        url,
        "-web.listen-address",
        address,
      ]);
      await processes.up("redis_exporter", () => answers(`http://${address}/health`));
      return {
        metrics: async () => await (await fetch(`http://${address}/metrics`)).text(),
        log: () => processes.log("redis-exporter"),
        [Symbol.asyncDispose]: () => processes.end(),
      };
    } catch (error) {
      await processes.end();
      throw error;
    }
  });
}
