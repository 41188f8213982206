import { expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { loadSettings } from "../../src/config/load-settings.ts";

const projectDir = join(import.meta.dir, "../..");

/** Who listens by default on a machine that has a Redis or a Prometheus, and where. */
const TAKEN: Readonly<Record<number, string>> = {
  3000: "Grafana",
  3100: "Loki",
  4317: "OpenTelemetry",
  4318: "OpenTelemetry",
  6379: "Redis",
  8080: "an application",
  8428: "VictoriaMetrics",
  12345: "Grafana Alloy",
  16379: "the bus of a Redis cluster",
  26379: "Sentinel",
};

/** Who has a port by default; undefined: nobody. */
function ownerOf(port: number): string | undefined {
  // 9090 is Prometheus itself, 9091 its Pushgateway, 9093 its Alertmanager.
  if (port >= 9090 && port < 9100) return "Prometheus";
  // Prometheus's wiki, "Default port allocations": 9100 node_exporter, 9121 redis_exporter, and so on.
  if (port >= 9100 && port < 10_000) return "an exporter of Prometheus";
  // Outgoing connections take them ("Linux, ip_local_port_range").
  if (port >= 32_768) return "any program";
  return TAKEN[port];
}

/** What people read and copy. */
function pathsOfTexts(): string[] {
  const files = ["docs", "deploy", "examples"].flatMap((folder) =>
    readdirSync(join(projectDir, folder), { recursive: true, encoding: "utf8" })
      .map((name) => join(folder, name))
      .filter((name) => !name.includes("node_modules")),
  );
  return ["README.md", "SECURITY.md", ...files].filter((path) =>
    statSync(join(projectDir, path)).isFile(),
  );
}

/** Where a replica's own ports are named, in commands, settings, units, images and scrape configurations. */
const NAMED = [
  /--(?:port|relay-ports|serve)[ =](\d+)/g,
  /--http[ =](?:[\w.:[\]]*:)?(\d+)\b/g,
  /REPLICA_(?:PORT|HTTP|RELAY_PORTS)(?:=|: )(?:\S*:)?["']?(\d+)\b/g,
  /targets: \[".*?:(\d+)"\]/g,
  /^EXPOSE (\d+) /gm,
  /^EXPOSE \d+ (\d+)$/gm,
];

test("the ports that documents and deployments name are nobody's default", async () => {
  const named: [path: string, port: number][] = [];
  for (const path of pathsOfTexts()) {
    const lines = (await Bun.file(join(projectDir, path)).text()).split("\n");
    // A server's own port is its own matter.
    const text = lines.filter((line) => !/\b(?:redis|valkey)-server\b/.test(line)).join("\n");
    for (const form of NAMED)
      for (const [, port] of text.matchAll(form)) named.push([path, Number(port)]);
  }
  // A pattern that finds nothing would hold nothing.
  for (const path of ["README.md", "docs/OPERATIONS.md", "deploy/alerts.yml", "deploy/Dockerfile"])
    expect(named.map(([one]) => one)).toContain(path);
  const ofUnit = named.filter(([path]) => path === "deploy/replica.service");
  expect(ofUnit.map(([, port]) => port)).toContain(6395);
  const collisions = named.filter(([, port]) => ownerOf(port) !== undefined);
  expect(collisions).toEqual([]);
});

test("so are the defaults: a port for Redis's protocol, and no HTTP", () => {
  const settings = loadSettings({ flags: new Map(), env: {} });
  expect([settings.port, ownerOf(settings.port)]).toEqual([6380, undefined]);
  expect(settings.http).toBeUndefined();
});

test("the owners are known", () => {
  const known = [6379, 9090, 9100, 9121, 26_379, 40_000].map(ownerOf);
  expect(known).not.toContain(undefined);
  expect(ownerOf(6395)).toBeUndefined();
});
