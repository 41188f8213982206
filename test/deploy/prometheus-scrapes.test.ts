import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startCluster } from "../support/cluster.ts";
import { freePort } from "../support/ports.ts";
import {
  hasPrometheus,
  hasRedisExporter,
  type Prometheus,
  promtool,
  startPrometheus,
  startRedisExporter,
} from "../support/prometheus.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { startServer } from "../support/servers.ts";
import { IS_FULL } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { dashboardQueries, filledIn } from "./dashboard.ts";

const KIND = "valkey-9";
const RULES = join(import.meta.dir, "../../deploy/alerts.yml");
const PASSWORD = "seen by nobody";
const LIMIT_MS = 300_000;

/** A replica with all that can be measured, one of a cluster, and Prometheus that scrapes both. */
class Scraped implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #dir = this.#stack.use(tempDir("scraped"));
  readonly #writing = new AbortController();
  /** Where HTTP is served: by the one replica, and by that of the cluster. */
  readonly http = [freePort(), freePort()].map((port) => `127.0.0.1:${port}`) as [string, string];
  readonly ports = [freePort(), freePort()] as [number, number];
  single!: ReplicaProcess;
  prometheus!: Prometheus;

  static async start(): Promise<Scraped> {
    const scraped = new Scraped();
    try {
      await scraped.#start();
      return scraped;
    } catch (error) {
      await scraped[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const [server, cluster, downstream] = await Promise.all([
      startServer(KIND).then((one) => this.#stack.use(one)),
      startCluster(KIND, { shards: 2, replicas: 0 }).then((one) => this.#stack.use(one)),
      startServer(KIND).then((one) => this.#stack.use(one)),
    ]);
    const password = this.#dir.file("password");
    writeFileSync(password, PASSWORD);
    chmodSync(password, 0o600);
    // Nothing shortens the log: so there is a time after which the disk is full.
    this.single = this.#follow(0, [server.url(), "--snapshot-ratio", "0"]);
    const other = this.#follow(1, [cluster.url(), "--requirepass-file", password]);
    this.#write(server.port);
    await this.single.waitForLine(/connected by full resync/);
    await other.waitForLine(/connected by full resync/);
    await downstream.send("REPLICAOF", "127.0.0.1", String(this.ports[0]));
    this.prometheus = this.#stack.use(await startPrometheus(this.http, RULES));
  }

  #follow(index: 0 | 1, more: readonly string[]): ReplicaProcess {
    const [dir, archive] = ["data", "archive"].map((name) => this.#dir.file(`${name}-${index}`));
    const place = ["--dir", dir!, "--port", String(this.ports[index]), "--http", this.http[index]];
    const archiving = ["--archive", `file://${archive}`, "--archive-every", "1s"];
    const replica = startReplica([...more, ...place, ...archiving]);
    return this.#stack.use(replica);
  }

  /** Writes to the primary as long as all this lasts. */
  #write(port: number): void {
    const { signal } = this.#writing;
    const writing = (async () => {
      await using client = await RespClient.connect({ port });
      for (let count = 0; !signal.aborted; count++) {
        await client.send("SET", `key:${count % 100}`, "x".repeat(1_000));
        await Bun.sleep(50);
      }
    })();
    this.#stack.defer(async () => {
      this.#writing.abort();
      await writing;
    });
  }

  /** What the path answers, of one of the two. */
  async metrics(index: 0 | 1): Promise<string> {
    return await (await fetch(`http://${this.http[index]}/metrics`)).text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

describe.skipIf(!IS_FULL || !hasPrometheus || !hasRedisExporter)("Debian's Prometheus", () => {
  let scraped: Scraped;
  beforeAll(async () => {
    scraped = await Scraped.start();
  }, LIMIT_MS);
  afterAll(async () => {
    await scraped[Symbol.asyncDispose]();
  }, LIMIT_MS);

  test(
    "finds something for each expression of the dashboard",
    async () => {
      const { prometheus } = scraped;
      const scrapes = async () => await prometheus.query('count(up{job="replica"} == 1) == 2');
      await until(async () => (await scrapes()).length > 0, { what: "both to be scraped" });
      // A new generation is marked on it.
      await using client = await RespClient.connect({ port: scraped.ports[0] });
      expect(await client.send("BGSAVE")).toBe("Background saving started");
      const empty = new Set(dashboardQueries.map(filledIn));
      expect(empty.size).toBeGreaterThan(50);
      const remaining = async () => {
        for (const query of empty)
          if ((await prometheus.query(query)).length > 0) empty.delete(query);
        return empty.size === 0;
      };
      await until(remaining, { what: "an answer to each", everyMs: 500 }).catch((error) => {
        throw new Error(`nothing for ${[...empty].join("\n")}`, { cause: error });
      });
    },
    LIMIT_MS,
  );

  test(
    "knows what the dashboard's variables choose from",
    async () => {
      const { prometheus } = scraped;
      expect(await prometheus.labelValues("job", "replica_build_info")).toEqual(["replica"]);
      const instances = await prometheus.labelValues("instance", "replica_build_info");
      expect(instances.toSorted()).toEqual(scraped.http.toSorted());
      expect(await prometheus.labelValues("shard", "replica_link_up")).toEqual(["0001", "0002"]);
    },
    LIMIT_MS,
  );

  test(
    "evaluates each rule, and none fires",
    async () => {
      const { groups } = Bun.YAML.parse(await Bun.file(RULES).text()) as {
        groups: { rules: { alert: string }[] }[];
      };
      const names = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
      const rules = await until(
        async () => {
          const seen = await scraped.prometheus.rules();
          return seen.every(({ health }) => health !== "unknown") ? seen : undefined;
        },
        { what: "the rules to be evaluated" },
      );
      const told = rules.map(({ name, health, state, lastError = "" }) => {
        return [name, health, state === "firing", lastError];
      });
      expect(told).toEqual(names.map((name) => [name, "ok", false, ""]));
    },
    LIMIT_MS,
  );

  test.each([0, 1] as const)(
    "finds nothing wrong with /metrics (%p)",
    async (index) => {
      const stdin = await scraped.metrics(index);
      const { stdout, stderr, exitCode } = await promtool(["check", "metrics"], { stdin });
      expect([exitCode, stdout, stderr]).toEqual([0, "", ""]);
    },
    LIMIT_MS,
  );

  test(
    "knows the process by the names that all programs use",
    async () => {
      const { prometheus, single } = scraped;
      const asked = async (query: string) => {
        // Not where a busy machine kept the last scrape from its end.
        const point = await until(async () => (await prometheus.query(query))[0], { what: query });
        return Number(point.value[1]);
      };
      const one = `{instance="${scraped.http[0]}"}`;
      expect(await asked(`process_cpu_seconds_total${one}`)).toBeGreaterThan(0);
      expect(await asked(`process_resident_memory_bytes${one}`)).toBeGreaterThan(10e6);
      expect(await asked(`process_open_fds${one}`)).toBeGreaterThan(5);
      expect(await asked(`time() - process_start_time_seconds${one}`)).toBeGreaterThan(0);
      const limits = await Bun.file(`/proc/${single.pid}/limits`).text();
      const soft = Number(/^Max open files +(\d+)/m.exec(limits)?.[1]);
      expect(await asked(`process_max_fds${one}`)).toBe(soft);
    },
    LIMIT_MS,
  );

  test.each([
    ["a replica", 0, ""],
    ["a cluster's, with a password", 1, PASSWORD],
  ] as const)(
    "redis_exporter reads the port of %s without an error",
    async (_what, index, password) => {
      await expectReadable(scraped.ports[index], password);
    },
    LIMIT_MS,
  );

  test(
    "redis_exporter reads the port where nothing is kept yet",
    async () => {
      using dir = tempDir("unreached");
      const port = freePort();
      const nobody = `redis://127.0.0.1:${freePort()}`;
      const args = [nobody, "--dir", dir.file("data"), "--port", String(port)];
      await using replica = startReplica(args);
      await replica.waitForLine(/CONNECT_FAILED/);
      const metrics = await expectReadable(port, "");
      expect(metrics).toMatch(/^redis_master_link_up\{.*\} 0$/m);
    },
    LIMIT_MS,
  );

  test(
    "sees a replica end, and says so in the words of the rule",
    async () => {
      await scraped.single.stop();
      const rule = await until(
        async () => {
          const rules = await scraped.prometheus.rules();
          return rules.find(({ name, state }) => name === "ReplicaDown" && state !== "inactive");
        },
        { what: "ReplicaDown to be pending" },
      );
      expect(rule.alerts.map(({ annotations }) => annotations["summary"])).toEqual([
        `The replica ${scraped.http[0]} does not answer`,
      ]);
    },
    LIMIT_MS,
  );
});

/** Has redis_exporter read a port; returns what it makes of it. */
async function expectReadable(port: number, password: string): Promise<string> {
  await using exporter = await startRedisExporter(`redis://127.0.0.1:${port}`, password);
  const metrics = await exporter.metrics();
  expect(metrics).toMatch(/^redis_up 1$/m);
  expect(metrics).toMatch(/^redis_exporter_last_scrape_error\{err=""\} 0$/m);
  expect(metrics).toMatch(/^redis_instance_info\{.*role="slave".*\} 1$/m);
  expect(metrics).toMatch(/^redis_slowlog_length 0$/m);
  // It logs an error of a command once, as one of level "error".
  const bad = exporter.log().split("\n");
  expect(bad.filter((line) => /level=(?:warn|error|fatal|panic)/.test(line))).toEqual([]);
  return metrics;
}
