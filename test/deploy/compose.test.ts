import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../support/run-program.ts";
import {
  fetched,
  programCommand as packagedCommand,
  readStamp,
} from "../support/server-catalog.ts";
import { tempDir } from "../support/temp.ts";
import { httpPort, ownPort, programCommand } from "./program-command.ts";
import about from "../../package.json";

const deployDir = join(import.meta.dir, "../../deploy");

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly build?: {
    readonly context: string;
    readonly dockerfile: string;
    readonly target?: string;
  };
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly depends_on?: readonly string[] | Readonly<Record<string, object>>;
  readonly tmpfs?: readonly string[];
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: object;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
}

const text = await Bun.file(join(deployDir, "compose.yml")).text();
/** As compose reads it where no variable is set. */
const compose = Bun.YAML.parse(text.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1")) as Compose;
const services = Object.entries(compose.services);
const { replica, proof, prometheus, grafana, store } = compose.services as Record<
  "replica" | "proof" | "prometheus" | "grafana" | "store",
  Service
>;

/** Whether it is there; in CI in any case, so that the test fails where it isn't. */
const hasCompose = readStamp("docker-compose") !== undefined || process.env["CI"] === "true";

/** What `docker compose config` says of a compose file: it reads it whole, and needs no Docker for that. */
async function composeConfig(file: string) {
  const { dir, stamp } = fetched("docker-compose");
  using place = tempDir("compose");
  await Bun.write(place.file("compose.yml"), file);
  const args = ["--project-directory", deployDir, "--file", place.file("compose.yml")];
  const config = ["--profile", "proof", "config", "--format", "json"];
  const env = { PATH: process.env["PATH"], HOME: place.path };
  const program = packagedCommand(dir, stamp, "docker-compose");
  return await runProgram([...program, ...args, ...config], { env });
}

/** The content of a file that a service gets from the compose file itself. */
function configOf(service: Service, target: string): unknown {
  const source = service.configs?.find((config) => config.target === target)?.source ?? "none";
  return Bun.YAML.parse(compose.configs[source]!.content);
}

describe("compose.yml", () => {
  test.skipIf(!hasCompose)(
    "is what docker compose takes, and reads as these tests do",
    async () => {
      const taken = await composeConfig(text);
      expect(taken).toMatchObject({ exitCode: 0, stderr: "" });
      const { services: theirs } = JSON.parse(taken.stdout) as Compose;
      for (const [name, { image, command, environment }] of services) {
        const read = { image, ...(command && { command }), ...(environment && { environment }) };
        expect(theirs[name]).toMatchObject(read);
      }
      const changed = await composeConfig(text.replace("    volumes: [", "    volume: ["));
      expect(changed.stderr).toContain("Additional property volume is not allowed");
    },
  );

  test("starts the program with settings that it takes, at the ports of the image", () => {
    const follow = programCommand(replica.command!, replica.environment!);
    expect([follow.command.name, follow.args]).toEqual(["follow", ["redis://primary:6379"]]);
    const { settings } = follow;
    expect([settings.http?.port, settings.port]).toEqual([httpPort, ownPort]);
    expect(settings.httpHosts).toEqual(["replica"]);
    expect(replica.ports).toEqual([`127.0.0.1:${httpPort}:${httpPort}`]);
    expect(replica.volumes).toEqual([`data:${settings.dir}`]);
    const restore = programCommand(proof.command!, proof.environment!);
    expect(restore.command.name).toBe("restore");
    expect(restore.args[0]).toBe(settings.archive.url ?? "");
    expect(restore.settings.archive.endpoint).toBe(settings.archive.endpoint);
  });

  test("pins every image, and builds those of the program's version", () => {
    for (const [name, { image }] of services) {
      expect([name, image]).toEqual([name, expect.stringMatching(/:[\w.-]*\d[\w.-]*$/)]);
    }
    expect(replica.image).toBe(`replica:${about.version}`);
    expect(proof.image).toBe(`replica-proof:${about.version}`);
    for (const { build } of [replica, proof]) {
      expect(existsSync(join(deployDir, build!.context, build!.dockerfile))).toBe(true);
    }
    expect(proof.build?.target).toBe("proof");
  });

  test("checks with a server that is as new as the primary", async () => {
    const dockerfile = await Bun.file(join(deployDir, "Dockerfile")).text();
    const { image } = compose.services["primary"]!;
    expect(dockerfile).toContain(`ARG SERVER_IMAGE=${image}\n`);
  });

  test("opens ports on this machine alone", () => {
    for (const [, { ports = [] }] of services) {
      for (const port of ports) expect(port).toStartWith("127.0.0.1:");
    }
  });

  test("names only services, volumes, configs and files that are there", () => {
    for (const [name, { depends_on = [], volumes = [], configs = [] }] of services) {
      const others = Array.isArray(depends_on) ? depends_on : Object.keys(depends_on);
      for (const other of others)
        expect([name, Object.keys(compose.services)]).toEqual([
          name,
          expect.arrayContaining([other]),
        ]);
      for (const { source } of configs) expect(Object.keys(compose.configs)).toContain(source);
      for (const volume of volumes) {
        const from = volume.split(":")[0]!;
        const isThere = from.startsWith("./")
          ? existsSync(join(deployDir, from))
          : from in compose.volumes;
        expect([name, from, isThere]).toEqual([name, from, true]);
      }
    }
    expect(store.environment).toMatchObject({
      MINIO_ROOT_USER: replica.environment!["AWS_ACCESS_KEY_ID"]!,
      MINIO_ROOT_PASSWORD: replica.environment!["AWS_SECRET_ACCESS_KEY"]!,
    });
  });

  test("has Prometheus scrape the replica with the alerts, as the job that they ask for", () => {
    const scraping = configOf(prometheus, "/etc/prometheus/prometheus.yml");
    expect(scraping).toMatchObject({
      rule_files: ["/etc/prometheus/alerts.yml"],
      scrape_configs: [
        { job_name: "replica", static_configs: [{ targets: [`replica:${httpPort}`] }] },
      ],
    });
    expect(prometheus.volumes).toContain("./alerts.yml:/etc/prometheus/alerts.yml:ro");
  });

  test("has Grafana show the dashboard of that Prometheus", () => {
    expect(configOf(grafana, "/etc/grafana/provisioning/datasources/prometheus.yml")).toMatchObject(
      { datasources: [{ type: "prometheus", url: "http://prometheus:9090" }] },
    );
    const [provider] = (
      configOf(grafana, "/etc/grafana/provisioning/dashboards/replica.yml") as {
        providers: { options: { path: string } }[];
      }
    ).providers;
    const mounted = grafana.volumes![0]!.split(":")[1]!;
    expect(mounted).toBe(`${provider!.options.path}/replica.json`);
    expect(grafana.environment!["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).toBe(mounted);
  });
});
