import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { IContainer, IPodSpec } from "kubernetes-models/v1";
import { constants, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compiledProgram } from "../support/compiled.ts";
import { thrownBy } from "../support/error-of.ts";
import { FaultS3 } from "../support/fault-s3.ts";
import { hasHelm, helm, helmTemplate } from "../support/helm.ts";
import { freePort } from "../support/ports.ts";
import { programEnvironment, runReplica, startReplica } from "../support/replica-process.ts";
import { startServer } from "../support/servers.ts";
import { mayMount } from "../support/small-disk.ts";
import { serverScript } from "../support/stock.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { objectComplaints, objectsOf, type Part } from "./kubernetes-objects.ts";
import { chartDir, madeManifest, manifestFile, manifestNames } from "./manifests.ts";
import { httpPort, ownPort, programCommand } from "./program-command.ts";
import about from "../../package.json";

const SECRETS = "/run/secrets/replica/";
const FIELDS: Readonly<Record<string, string>> = {
  "metadata.name": "replica-0",
  "status.podIP": "10.1.2.3",
};

/** The plain manifests as they are kept: made from the chart, as a test says. */
const kept = new Map<string, Part[]>();
for (const name of manifestNames) {
  kept.set(name, objectsOf(await Bun.file(manifestFile(name)).text()));
}
const all = kept.get("archive") ?? [];

const canMount = mayMount();
const PASSWORD = "hunter2-of-the-primary";
const dir = tempDir("kubernetes");
beforeAll(() => {
  mkdirSync(dir.file("work"));
  writeFileSync(dir.file("primary-password"), PASSWORD);
  writeFileSync(dir.file("own-password"), "its own");
  writeFileSync(dir.file("archive-identity"), "AGE-SECRET-KEY-1\n");
  writeFileSync(dir.file("aws-credentials"), "[default]\n");
  writeFileSync(dir.file("token"), "a projected token");
});
afterAll(() => dir.remove());

/** A path of the pod as one of this machine. */
function here(text: string): string {
  return text
    .replace(/^\/data$/, dir.file("data"))
    .replace(/^\/proof(?=\/|$)/, dir.file("work"))
    .replace(/^\/run\/secrets\/(?:replica|aws-identity)(?=\/)/, dir.path);
}

/** A field of an object, by its path. */
function at(object: unknown, ...path: readonly string[]): unknown {
  let value = object;
  for (const name of path) value = (value as Record<string, unknown> | undefined)?.[name];
  return value;
}

function ofKind(objects: readonly Part[], kind: string): Part {
  const found = objects.filter((object) => object["kind"] === kind);
  expect([kind, found.length]).toEqual([kind, 1]);
  return found[0]!;
}

const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  StatefulSet: ["spec", "template"],
  CronJob: ["spec", "jobTemplate", "spec", "template"],
};

/** The pods that a manifest starts. */
function podsOf(objects: readonly Part[]): IPodSpec[] {
  return objects.flatMap((object) => {
    const path = TEMPLATES[String(object["kind"])];
    return path === undefined ? [] : [at(object, ...path, "spec") as IPodSpec];
  });
}

function containerOf(objects: readonly Part[], kind: string): IContainer {
  return (at(ofKind(objects, kind), ...TEMPLATES[kind]!, "spec") as IPodSpec).containers[0]!;
}

/** The variables of a container, as kubelet hands them over. */
function environmentOf({ env = [] }: IContainer): Record<string, string> {
  const known: Record<string, string> = {};
  for (const { name, value = "", valueFrom } of env) {
    const field = valueFrom?.fieldRef?.fieldPath;
    const given = field === undefined ? value : FIELDS[field]!;
    known[name] = given.replaceAll(/\$\((\w+)\)/g, (whole, other: string) => known[other] ?? whole);
  }
  return known;
}

function environmentHere(container: IContainer): Record<string, string> {
  const own = Object.entries(environmentOf(container));
  return Object.fromEntries(own.map(([name, value]) => [name, here(value)]));
}

/** Everything that the chart can make. */
const EVERY_VALUE = [
  "replicas=3",
  "primary.url=rediss+cluster://redis:6379",
  "primary.username=replica",
  "secret.primaryPassword=p",
  "secret.ownPassword=o",
  "secret.archiveIdentity=AGE-SECRET-KEY-1",
  "secret.awsCredentials=c",
  "settings.fsync=always",
  "settings.snapshot-every=12h",
  "settings.no-archive-bootstrap=true",
  "relay.enabled=true",
  "archive.url=s3://bucket/prefix",
  "archive.endpoint=https://s3.internal",
  "archive.region=us-east-1",
  "serviceAccount.annotations.role=r",
  "persistence.storageClass=-",
  "persistence.annotations.a=b",
  "http.bind=[::]",
  "http.hosts={replica.internal}",
  "imagePullSecrets[0].name=registry",
  "service.annotations.a=b",
  "serviceMonitor.enabled=true",
  "serviceMonitor.labels.release=prometheus",
  "networkPolicy.enabled=true",
  "networkPolicy.primaryTo[0].ipBlock.cidr=10.0.0.0/8",
  "networkPolicy.archiveTo[0].ipBlock.cidr=10.0.0.0/8",
  "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.a=b",
  "proof.enabled=true",
  "proof.timeZone=Europe/Berlin",
  "proof.storageClass=fast",
  "podAnnotations.a=b",
  "podLabels.a=b",
  "priorityClassName=high",
  "nodeSelector.disk=ssd",
  "tolerations[0].operator=Exists",
  "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution=null",
  "topologySpreadConstraints[0].maxSkew=1",
  "topologySpreadConstraints[0].topologyKey=zone",
  "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
  "extraEnv[0].name=REPLICA_TLS_SERVER_NAME",
  "extraEnv[0].value=redis",
  "extraVolumes[0].name=ca",
  "extraVolumes[0].configMap.name=ca",
  "extraVolumeMounts[0].name=ca",
  "extraVolumeMounts[0].mountPath=/etc/ca",
];

describe.skipIf(!hasHelm)("the chart", () => {
  let full: Part[] = [];
  beforeAll(async () => {
    full = objectsOf(await helmTemplate(chartDir, { set: EVERY_VALUE }));
  });

  test("passes Helm's linter", async () => {
    expect(await helm(["lint", "--strict", chartDir])).toContain("0 chart(s) failed");
  });

  test("has the program's version", async () => {
    const chart = Bun.YAML.parse(await Bun.file(join(chartDir, "Chart.yaml")).text());
    expect(chart).toMatchObject({ appVersion: about.version });
  });

  test.each(manifestNames)("makes the plain manifest %s as it is kept", async (name) => {
    expect(await Bun.file(manifestFile(name)).text()).toBe(await madeManifest(name));
  });

  test("makes objects that Kubernetes takes, of every kind, with every value", async () => {
    const kinds = full.map((object) => String(object["kind"]));
    expect(kinds.toSorted()).toEqual([
      "CronJob",
      "NetworkPolicy",
      "PodDisruptionBudget",
      "Secret",
      "Service",
      "ServiceAccount",
      "ServiceMonitor",
      "StatefulSet",
    ]);
    for (const object of full) {
      expect([object["kind"], objectComplaints(object)]).toEqual([object["kind"], []]);
    }
    for (const pod of podsOf(full)) expect(danglingMounts(pod)).toEqual([]);
    const bare = ["persistence.enabled=false", "serviceAccount.create=false"];
    const without = objectsOf(await helmTemplate(chartDir, { set: bare }));
    expect(without.flatMap(objectComplaints)).toEqual([]);
    expect(podsOf(without)[0]!.serviceAccountName).toBe("default");
    expect(podsOf(without).flatMap(danglingMounts)).toEqual([]);
  });

  test("puts what is given into one Secret, and every key of it where the program reads it", () => {
    const data = at(ofKind(full, "Secret"), "data") as Record<string, string>;
    const plain = Object.entries(data).map(([key, text]) => [key, atob(text)]);
    expect(Object.fromEntries(plain)).toEqual({
      "primary-password": "p",
      "own-password": "o",
      "archive-identity": "AGE-SECRET-KEY-1",
      "aws-credentials": "c",
    });
    const files = Object.values(environmentOf(containerOf(full, "StatefulSet")));
    const read = files.filter((value) => value.startsWith(SECRETS));
    expect(read.toSorted()).toEqual(
      Object.keys(data)
        .toSorted()
        .map((key) => SECRETS + key),
    );
    const ofProof = Object.values(environmentOf(containerOf(full, "CronJob")));
    expect(ofProof.filter((value) => value.startsWith(SECRETS)).toSorted()).toEqual(
      ["archive-identity", "aws-credentials"].map((key) => SECRETS + key),
    );
  });

  test("starts the program with settings that it takes, with every value", () => {
    const { args = [], ...follow } = containerOf(full, "StatefulSet");
    const { settings } = programCommand(args, environmentHere(follow));
    expect(settings).toMatchObject({ fsync: "always", bind: "::", username: "replica" });
    expect(settings.http).toEqual({ host: "::", port: httpPort });
    expect(settings.httpHosts).toContain("replica.internal");
  });

  test("says after an install what to look at, in commands that the program takes", async () => {
    const values = join(chartDir, "manifests/archive.values.yaml");
    const place = ["replica", chartDir, "--namespace", "redis", "--values", values];
    const said = await helm(["install", ...place, "--dry-run=client"]);
    const notes = said.slice(said.indexOf("NOTES:"));
    const commands = [...notes.matchAll(/ -- replica (.+)$/gm)].map(([, line]) => line!.split(" "));
    const names = commands.map((words) => programCommand(words, {}).command.name);
    expect(names).toEqual(["status", "snapshots"]);
    expect(notes).toContain(`port-forward replica-0 ${httpPort} `);
  });

  test("is installed as OPERATIONS.md says", async () => {
    const text = await Bun.file(join(chartDir, "../../docs/OPERATIONS.md")).text();
    const [, line = ""] = /^helm (install(?:.*\\\n)*.*)$/m.exec(text) ?? [];
    const words = line.replaceAll("\\\n", " ").replaceAll("'", "").split(/ +/);
    const args = words.map((word) => (word === "deploy/kubernetes" ? chartDir : word));
    const said = await helm([...args, "--dry-run=client"]);
    const [, manifest = ""] = /^MANIFEST:\n([^]*?)^NOTES:/m.exec(said) ?? [];
    const follow = containerOf(objectsOf(manifest), "StatefulSet");
    expect(follow.image).toBe(`registry.internal/replica:${about.version}`);
    expect(
      programCommand(follow.args ?? [], environmentHere(follow)).settings.password?.read(),
    ).toBe(PASSWORD);
  });

  test.each([
    ["archve.url=s3://b/p", "'archve' not allowed"],
    ["replicas=two", "got string, want integer"],
    ["primary.url=redis://:secret@redis:6379", "does not match pattern"],
    ["relay.enabled=true", "relay.enabled needs own-password in the Secret"],
    ["proof.enabled=true", "proof.enabled needs archive.url"],
  ])("refuses %s", async (value, reason) => {
    expect(await thrownBy(helmTemplate(chartDir, { set: [value] }))).toThrow(reason);
  });

  test("gives a single replica no disruption budget, which would keep its node from being drained", async () => {
    const objects = objectsOf(await helmTemplate(chartDir));
    expect(objects.map((object) => object["kind"])).not.toContain("PodDisruptionBudget");
  });
});

/** Mounts of a pod that no volume or claim is for. */
function danglingMounts({ containers, volumes = [] }: IPodSpec): string[] {
  const known = new Set(["data", ...volumes.map(({ name }) => name)]);
  const mounts = containers.flatMap(({ volumeMounts = [] }) => volumeMounts);
  return mounts.map(({ name }) => name).filter((name) => !known.has(name));
}

test("the check of objects finds mistakes", () => {
  const object = structuredClone(ofKind(all, "StatefulSet"));
  const complaintsWith = (change: (container: Record<string, unknown>) => void) => {
    const changed = structuredClone(object);
    change(containerOf([changed], "StatefulSet") as unknown as Record<string, unknown>);
    return objectComplaints(changed).join();
  };
  expect(complaintsWith(() => undefined)).toBe("");
  const where = "spec.template.spec.containers.0";
  expect(complaintsWith((one) => (one["livenesProbe"] = {}))).toBe(
    `${where}.livenesProbe is unknown`,
  );
  expect(complaintsWith((one) => delete one["name"])).toContain("required property name");
  expect(complaintsWith((one) => (one["args"] = "follow"))).toContain("must be array");
  expect(objectComplaints({ apiVersion: "v1", kind: "Pot" })).toEqual(["v1 Pot is unknown here"]);
});

describe.each([...kept])("the plain manifest %s", (_name, objects) => {
  test("holds objects that Kubernetes takes", () => {
    for (const object of objects) expect(objectComplaints(object)).toEqual([]);
    for (const pod of podsOf(objects)) expect(danglingMounts(pod)).toEqual([]);
  });

  test("starts the program with settings that it takes, in images of its version", () => {
    for (const { containers } of podsOf(objects)) {
      for (const container of containers) {
        const { command, settings } = programCommand(
          container.args ?? [],
          environmentHere(container),
        );
        expect(container.image).toEndWith(`:${about.version}`);
        if (command.name !== "follow") continue;
        expect([settings.dir, settings.http?.port, settings.port]).toEqual([
          dir.file("data"),
          httpPort,
          ownPort,
        ]);
      }
    }
  });

  test("runs without any right: no root, no capability, nothing writable but its volumes", () => {
    for (const { containers, ...pod } of podsOf(objects)) {
      expect(pod.securityContext).toMatchObject({
        runAsNonRoot: true,
        runAsUser: 65532,
        fsGroup: 65532,
        seccompProfile: { type: "RuntimeDefault" },
      });
      expect(pod.automountServiceAccountToken).toBe(false);
      // Of a service named "replica" Kubernetes would make variables that are taken for settings.
      expect(pod.enableServiceLinks).toBe(false);
      for (const { securityContext, resources } of containers) {
        expect(securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        });
        expect(resources).toMatchObject({ requests: {}, limits: { memory: expect.any(String) } });
      }
    }
  });

  test("is selected by the Service that gives it its names, at the ports that it opens", () => {
    const set = ofKind(objects, "StatefulSet");
    const service = ofKind(objects, "Service");
    expect(at(set, "spec", "serviceName")).toBe(at(service, "metadata", "name"));
    const labels = at(set, "spec", "template", "metadata", "labels") as Part;
    expect(labels).toMatchObject(at(set, "spec", "selector", "matchLabels") as Part);
    expect(labels).toMatchObject(at(service, "spec", "selector") as Part);
    const { ports: opened = [] } = containerOf(objects, "StatefulSet");
    const served = at(service, "spec", "ports") as { name: string; port: number }[];
    const expected = [["http", httpPort], ...(objects === all ? [["redis", ownPort]] : [])];
    expect(served.map(({ name, port }) => [name, port])).toEqual(expected);
    expect(opened.map(({ name, containerPort }) => [name, containerPort])).toEqual(expected);
  });
});

test("the role's token lies where the program is told to look", () => {
  for (const pod of podsOf(all)) {
    const [container] = pod.containers;
    const { mountPath } = container!.volumeMounts!.find(({ name }) => name === "aws-identity")!;
    const { projected } = pod.volumes!.find(({ name }) => name === "aws-identity")!;
    const token = projected?.sources?.[0]?.serviceAccountToken;
    expect(token?.audience).toBe("sts.amazonaws.com");
    const told = environmentOf(container!)["AWS_WEB_IDENTITY_TOKEN_FILE"];
    expect(`${mountPath}/${token?.path}`).toBe(told!);
  }
});

test("Prometheus's operator finds the Service, and calls the job as the alerts do", async () => {
  const monitor = ofKind(all, "ServiceMonitor");
  const labels = at(ofKind(all, "Service"), "metadata", "labels") as Part;
  expect(labels).toMatchObject(at(monitor, "spec", "selector", "matchLabels") as Part);
  expect(at(monitor, "spec", "endpoints") as unknown[]).toEqual([
    expect.objectContaining({
      port: "http",
      path: "/metrics",
      relabelings: [{ targetLabel: "job", replacement: "replica" }],
    }),
  ]);
  const rules = await Bun.file(join(chartDir, "../alerts.yml")).text();
  expect(rules).toContain('up{job="replica"}');
});

describe("what the manifests start", () => {
  const ROLE = { key: "ASIAEXAMPLE", secret: "of the role", token: "of the session" };
  const follow = containerOf(all, "StatefulSet");
  const proof = containerOf(all, "CronJob");
  let s3: FaultS3;
  /** Amazon's service that gives a role's credentials for a token of Kubernetes's. */
  const tokens: string[] = [];
  const sts = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const asked = new URLSearchParams(await request.text());
      tokens.push(
        `${asked.get("Action")} ${asked.get("RoleArn")} ${asked.get("WebIdentityToken")}`,
      );
      const expiration = new Date(Date.now() + 3_600_000).toISOString();
      return new Response(
        `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>${ROLE.key}</AccessKeyId><SecretAccessKey>${ROLE.secret}</SecretAccessKey><SessionToken>${ROLE.token}</SessionToken><Expiration>${expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
        { headers: { "content-type": "text/xml" } },
      );
    },
  });
  beforeAll(async () => {
    s3 = await FaultS3.start();
    s3.logins.set(ROLE.key, ROLE);
    symlinkSync(serverScript(dir, "redis-7.0"), dir.file("redis-server"));
  });
  afterAll(async () => {
    await s3.stop();
    await sts.stop(true);
  });

  /** The bucket as the test's own. */
  const inBucket = (text: string) => here(text).replace(/^s3:\/\/[^/]+/, `s3://${s3.bucket}`);
  const variables = (container: IContainer) => {
    const own = Object.entries(environmentHere(container));
    return {
      ...Object.fromEntries(own.map(([name, value]) => [name, inBucket(value)])),
      REPLICA_ARCHIVE_ENDPOINT: s3.endpoint,
      REPLICA_ARCHIVE_REGION: s3.region,
      AWS_ENDPOINT_URL_STS: sts.url.href,
      // No credentials of whoever runs the test.
      AWS_ACCESS_KEY_ID: "",
      AWS_SECRET_ACCESS_KEY: "",
      PATH: `${dir.path}:${process.env["PATH"]}`,
    };
  };

  test("follows, answers the probes, fills the archive as the role, and is proven from there", async () => {
    await using primary = await startServer("redis-7.0", { password: PASSWORD });
    const client = await primary.connect();
    await client.send("SET", "a key", "a value");

    const port = freePort();
    const env = {
      ...variables(follow),
      REPLICA_HTTP: `127.0.0.1:${port}`,
      REPLICA_BIND: "127.0.0.1",
      REPLICA_PORT: "0",
      REPLICA_ARCHIVE_EVERY: "100ms",
    };
    const args = (follow.args ?? []).map((arg) =>
      arg.replace("redis:6379", `127.0.0.1:${primary.port}`),
    );
    {
      await using replica = startReplica(args, { env });
      const status = async (path: string | undefined) => {
        const asked = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);
        return asked?.status;
      };
      const { startupProbe, livenessProbe, readinessProbe } = follow;
      for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
        const path = probe?.httpGet?.path;
        await until(async () => (await status(path)) === 200, { what: `200 at ${path}` });
      }
      await until(() => [...s3.objects.keys()].some((key) => key.endsWith("/base.json")), {
        what: "a snapshot in the archive",
      });
      const metrics = await fetch(`http://127.0.0.1:${port}/metrics`, {
        headers: { host: "replica-0.replica.redis.svc" },
      });
      expect(metrics.status).toBe(200);
      expect(replica.stderr).not.toContain(PASSWORD);
    }
    expect(new Set(tokens)).toEqual(
      new Set([
        `AssumeRoleWithWebIdentity ${environmentOf(follow)["AWS_ROLE_ARN"]} a projected token`,
      ]),
    );

    const proven = await runReplica((proof.args ?? []).map(inBucket), { env: variables(proof) });
    expect(proven).toMatchObject({ exitCode: 0 });
    expect(JSON.parse(proven.stdout)).toMatchObject({ check: { keys: { db0: 1 } } });
  });

  test.skipIf(!canMount)("follows with a read-only root, and without a capability", async () => {
    await using primary = await startServer("redis-7.0");
    using own = tempDir("read-only");
    const [port, program] = [freePort(), own.file("replica")];
    copyFileSync(compiledProgram(), program, constants.COPYFILE_FICLONE);
    const confine = `set -e
      mount --bind ${own.path} ${own.path}
      mount -o remount,ro,bind /
      if touch /written 2>/dev/null; then exit 99; fi
      cd ${own.path}
      exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"`;
    const env = {
      REPLICA_DIR: own.file("data"),
      REPLICA_PORT: "0",
      REPLICA_HTTP: `127.0.0.1:${port}`,
    };
    const words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", confine, "sh"];
    const child = Bun.spawn([...words, program, "follow", primary.url()], {
      env: { ...programEnvironment(), ...env },
      stdio: ["ignore", "ignore", Bun.file(own.file("log"))],
    });
    try {
      const asked = () => fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
      const isReady = async () => (await asked())?.status === 200;
      await until(isReady, { what: "it to be ready" }).catch(async (error: unknown) => {
        throw new Error(await Bun.file(own.file("log")).text(), { cause: error });
      });
      child.kill("SIGTERM");
      expect(await child.exited).toBe(0);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("fails where the archive's snapshot is damaged", async () => {
    const [key, piece] = [...s3.objects].find(([name]) => name.includes("/base/"))!;
    const bytes = Buffer.from(piece.bytes);
    bytes[bytes.length >> 1]! ^= 1;
    s3.objects.set(key, { ...piece, bytes });
    const args = (proof.args ?? []).map((arg) => inBucket(arg).replace(/\/restored$/, "/again"));
    const { exitCode } = await runReplica(args, { env: variables(proof) });
    expect(exitCode).toBe(3);
  });
});
