import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { parseDurationMs } from "../../src/base/quantity.ts";
import { compiledProgram } from "../support/compiled.ts";
import { parseExposition } from "../support/exposition.ts";
import { folderOf } from "../support/path.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { type Ran, runProgram } from "../support/run-program.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { mayMount, smallDisk } from "../support/small-disk.ts";
import { serverScript } from "../support/stock.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { programCommand } from "./program-command.ts";
import { proofMetrics, proofScript, proofText } from "./proof-metrics.ts";
import { parseUnit, valuesOf } from "./unit-file.ts";

interface Where {
  readonly work: string;
  readonly file: string;
}

const deployDir = dirname(proofScript);
const dir = tempDir("proof");
const data = dir.file("data");
const archive = `file://${dir.file("archive")}`;
const canMount = mayMount();
/** Of no use to a compressor. */
const VALUE = crypto.getRandomValues(new Uint8Array(60_000)).toHex();
const TOOLS = ["sh", "cat", "date", "grep", "head", "sed", "rm", "mkdir", "mv", "chmod", "sync"];
/** A PATH with the program, and no server. */
let path: string;
let server: string;
let primary: RealServer;
let replica: ReplicaProcess;
let files = 0;
/** A proof of the data directory. */
let good: Where;
let ran: Ran;

beforeAll(async () => {
  path = folderOf(dir, TOOLS);
  fs.symlinkSync(compiledProgram(), join(path, "replica"));
  server = serverScript(dir, "redis-7.0");
  primary = await startServer("redis-7.0");
  const client = await primary.connect();
  for (let key = 0; key < 20; key++) await client.send("SET", `key:${key}`, VALUE);
  const args = [primary.url(), "--dir", data, "--port", "0"];
  replica = startReplica([...args, "--archive", archive, "--archive-every", "100ms"]);
  const whole = new Bun.Glob("generations/*/base.json");
  const isThere = () =>
    fs.existsSync(dir.file("archive")) && [...whole.scanSync(dir.file("archive"))].length > 0;
  await until(isThere, { what: "a snapshot in the archive" });
  await client.send("SET", "since", "then");
  const log = new Bun.Glob("generations/*/log/*");
  const isLogged = () => [...log.scanSync(dir.file("archive"))].length > 0;
  await until(isLogged, { what: "what came after it" });
  good = place();
  ran = await prove(data, good);
});
afterAll(async () => {
  await replica[Symbol.asyncDispose]();
  await primary[Symbol.asyncDispose]();
  dir.remove();
});

/** A new place for the outcome, and an empty one to work in. */
function place() {
  const name = `proof-${files++}`;
  fs.mkdirSync(dir.file(name));
  return { work: dir.file(name, "work"), file: dir.file(name, "replica.prom") };
}

/** The same after a good proof of the data directory; and what that told. */
function placeAfterGood() {
  const where = place();
  fs.copyFileSync(good.file, where.file);
  return [where, told(data, where)] as const;
}

async function prove(source: string, { work, file }: Where, env: Record<string, string> = {}) {
  const variables = { PATH: path, PROOF_SERVER: server, ...env };
  return await runProgram(["/bin/sh", proofScript, source, work, file], { env: variables });
}

/** The values in a file of metrics, which hold for this source. */
function told(source: string, { file, work }: Where): Record<string, number> {
  expect(fs.existsSync(join(work, "proof"))).toBe(false);
  expect(fs.existsSync(`${file}.new`)).toBe(false);
  const families = parseExposition(fs.readFileSync(file, "utf8"));
  const values = families.flatMap(({ type, help, samples }) => {
    expect([type, help]).toEqual(["gauge", expect.any(String)]);
    const written = source.replaceAll(/[\\"]/g, "\\$&");
    expect(samples.map(({ labels }) => labels)).toEqual([new Map([["source", written]])]);
    return samples.map(({ name, value }) => [name, value] as const);
  });
  return Object.fromEntries(values);
}

const failed = (proven: Record<string, number>, since: Record<string, number>) => {
  expect(proven["replica_proof_success"]).toBe(0);
  for (const name of proofMetrics.filter((name) => name.startsWith("replica_last_proof_"))) {
    expect([name, proven[name]]).toEqual([name, since[name]]);
  }
};

/** Checks what a good proof told. */
function expectGood(source: string, where: Where, { exitCode, stderr }: Ran): void {
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const proven = told(source, where);
  expect(Object.keys(proven).toSorted()).toEqual(proofMetrics.toSorted());
  expect(proven["replica_proof_success"]).toBe(1);
  const last = proven["replica_last_proof_timestamp_seconds"]!;
  expect(last).toBe(proven["replica_proof_timestamp_seconds"]!);
  expect(proven["replica_proof_duration_seconds"]).toBeGreaterThanOrEqual(0);
  const moment = proven["replica_last_proof_moment_timestamp_seconds"]!;
  expect([moment > last - 86_400, moment <= last]).toEqual([true, true]);
  expect(proven["replica_last_proof_offset_bytes"]).toBeGreaterThan(0);
  expect(fs.statSync(where.file).mode & 0o777).toBe(0o644);
}

describe("a proof", () => {
  test("of a data directory that a replica writes tells when it succeeded, and which moment it restored", () => {
    expectGood(data, good, ran);
  });

  test("of an archive tells the same, and removes what a killed one has left", async () => {
    const where = place();
    fs.mkdirSync(join(where.work, "proof/restored"), { recursive: true });
    fs.writeFileSync(join(where.work, "proof/restored/left"), "left");
    expectGood(archive, where, await prove(archive, where));
  });

  test("that fails keeps when the last good one was: damage, no server, a source that is gone", async () => {
    const where = place();
    const copy = dir.file('a "copy"\\');
    expect((await runProgram(["cp", "-r", data, copy])).exitCode).toBe(0);
    expect((await prove(copy, where)).exitCode).toBe(0);
    const before = told(copy, where);

    const noServer = await prove(copy, where, { PROOF_SERVER: "" });
    expect(noServer.stderr).toContain("neither redis-server nor valkey-server is on PATH");
    failed(told(copy, where), before);

    const [base] = [...new Bun.Glob("generations/*/*.base.rdb").scanSync(copy)];
    const bytes = fs.readFileSync(join(copy, base!));
    bytes[bytes.length >> 1]! ^= 1;
    fs.writeFileSync(join(copy, base!), bytes);
    expect((await prove(copy, where)).exitCode).toBe(3);
    failed(told(copy, where), before);

    fs.rmSync(copy, { recursive: true });
    expect((await prove(copy, where)).exitCode).not.toBe(0);
    failed(told(copy, where), before);
  });

  test("that never succeeded says so, of this source alone", async () => {
    const [where] = placeAfterGood();
    const other = dir.file("nothing");
    expect((await prove(other, where)).exitCode).not.toBe(0);
    expect(told(other, where)).toMatchObject({
      replica_proof_success: 0,
      replica_last_proof_timestamp_seconds: 0,
    });
  });

  test("that takes too long is stopped with what it started, and has failed", async () => {
    const [where, before] = placeAfterGood();
    const [slow, marker] = [dir.file("slow-server"), dir.file("marker")];
    const claim = `[ "$1" = --version ] && exec echo "Redis server v=7.0.15 sha=0"`;
    fs.writeFileSync(slow, `#!/bin/sh\n${claim}\necho $$ >${marker}\nexec sleep 3600\n`);
    fs.chmodSync(slow, 0o755);
    const child = Bun.spawn(["/bin/sh", proofScript, data, where.work, where.file], {
      env: { PATH: `${path}:${process.env["PATH"]}`, PROOF_SERVER: slow },
      stdout: "ignore",
      stderr: "ignore",
    });
    const sleeping = () => fs.existsSync(marker) && fs.readFileSync(marker, "utf8").trim();
    await until(() => Boolean(sleeping()), { what: "the server to load" });
    child.kill("SIGTERM");
    expect(await child.exited).not.toBe(0);
    failed(told(data, where), before);
    await until(() => !fs.existsSync(`/proc/${sleeping()}`), { what: "the server to be gone" });
  });

  test.skipIf(!canMount)(
    "that finds no room has failed, and tells it on the same disk",
    async () => {
      using disk = smallDisk(dir.file("small"), 64 * 1024 * 1024);
      const where = { work: dir.file("small/work"), file: dir.file("small/replica.prom") };
      expect((await prove(data, where)).exitCode).toBe(0);
      const good = told(data, where);
      disk?.resize(512 * 1024);
      const { exitCode, stderr } = await prove(data, where);
      expect([exitCode, stderr]).toEqual([1, expect.stringContaining("disk is full")]);
      failed(told(data, where), good);
    },
  );

  test("that can't tell its outcome fails", async () => {
    const { work } = place();
    const { exitCode, stderr } = await prove(dir.file("nothing"), {
      work,
      file: dir.file("no/folder.prom"),
    });
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("is not told")]);
  });
});

describe("the units of the proof", () => {
  const service = parseUnit(fs.readFileSync(join(deployDir, "replica-proof.service"), "utf8"));
  const timer = parseUnit(fs.readFileSync(join(deployDir, "replica-proof.timer"), "utf8"));
  const replicaUnit = parseUnit(fs.readFileSync(join(deployDir, "replica.service"), "utf8"));
  const one = (unit: typeof service, section: string, name: string) => {
    const values = valuesOf(unit, section, name);
    expect([name, values]).toEqual([name, [expect.any(String)]]);
    return values[0]!;
  };

  test("run the script, whose command line the program takes", () => {
    const [script, ...args] = one(service, "Service", "ExecStart").split(" ");
    expect(script).toBe("/usr/local/bin/replica-proof");
    expect(args).toEqual(["${SOURCE}", "%C/replica-proof", "%S/replica-proof/replica-proof.prom"]);
    const [, line = ""] = /replica (restore .*?) \$\{PROOF_SERVER/.exec(proofText) ?? [];
    const words = line.split(" ").map((word) => word.replaceAll('"', ""));
    expect(programCommand([...words, "--server", "redis-server"], {}).args).toHaveLength(2);
  });

  test("read the directory of replica.service, as its user", () => {
    const state = one(replicaUnit, "Service", "StateDirectory");
    expect(valuesOf(service, "Service", "Environment")).toContain(`SOURCE=/var/lib/${state}`);
    expect(one(service, "Service", "StateDirectory").split(" ")).toContain(state);
    // Of a unit with DynamicUser alone, it is the unit's own name.
    expect([one(replicaUnit, "Service", "DynamicUser"), one(service, "Service", "User")]).toEqual([
      "yes",
      "replica",
    ]);
  });

  test("have no more rights than the replica", () => {
    // What it is started for, and what the stock server needs beside it.
    const own =
      /^(?:Type|NotifyAccess|Environment\w*|Exec\w+|Restart\w*|WatchdogSec|Timeout\w+|StateDirectory|LimitNOFILE|SystemCallFilter)$/;
    const confinement = replicaUnit.get("Service")!.filter(([name]) => !own.test(name));
    expect(confinement.length).toBeGreaterThan(20);
    expect(service.get("Service")).toEqual(expect.arrayContaining([...confinement]));
    const refused = valuesOf(service, "Service", "SystemCallFilter");
    expect(refused).toEqual(["@system-service", "~@privileged"]);
  });

  test("put the outcome where node_exporter reads it, in one step", async () => {
    const [{ file }] = placeAfterGood();
    const target = dir.file("collected.prom");
    const line = one(service, "Service", "ExecStopPost");
    const [, code = ""] = /^\+\/bin\/sh -c '(.*)' sh %S\/\S+ \$\{TEXTFILE\}$/.exec(line) ?? [];
    const mask = `umask ${one(service, "Service", "UMask")};`;
    const command = ["/bin/sh", "-c", `${mask} ${code.replaceAll("$$", "$")}`, "sh", file, target];
    expect((await runProgram(command)).exitCode).toBe(0);
    expect(fs.statSync(target).mode & 0o777).toBe(0o644);
    expect(fs.readFileSync(target, "utf8")).toBe(fs.readFileSync(file, "utf8"));
    expect(fs.existsSync(`${target}.new`)).toBe(false);
    // A link to a file of root's isn't followed.
    fs.rmSync(file);
    fs.symlinkSync("/etc/shadow", file);
    await runProgram(command);
    expect(fs.readlinkSync(target)).toBe("/etc/shadow");
  });

  test("run once a night, and end before the alert calls a proof old", () => {
    expect(one(timer, "Timer", "OnCalendar")).toBe("*-*-* 03:17:00");
    expect(one(timer, "Timer", "Persistent")).toBe("true");
    const delayMs = parseDurationMs(one(timer, "Timer", "RandomizedDelaySec").replace("min", "m"))!;
    const limitMs = parseDurationMs(one(service, "Service", "TimeoutStartSec"))!;
    const rules = fs.readFileSync(join(deployDir, "alerts.yml"), "utf8");
    const oldSeconds = /replica_last_proof_timestamp_seconds > (\d+)/.exec(rules)?.[1];
    expect(Number(oldSeconds) * 1000).toBeGreaterThan(24 * 3_600_000 + delayMs + limitMs);
  });

  test.skipIf(Bun.which("systemd-analyze") === null)("pass systemd's own check", async () => {
    using root = tempDir("units");
    const units = ["replica.service", "replica-proof.service", "replica-proof.timer"];
    const others = ["sysinit", "basic", "shutdown", "network-online", "timers", "time-set"];
    const folder = root.file("etc/systemd/system");
    fs.mkdirSync(folder, { recursive: true });
    for (const name of [...others.map((other) => `${other}.target`), "system.slice"])
      fs.writeFileSync(join(folder, name), "[Unit]\nDescription=what is there\n");
    for (const program of ["usr/local/bin/replica", "usr/local/bin/replica-proof", "bin/sh"]) {
      fs.mkdirSync(dirname(root.file(program)), { recursive: true });
      fs.writeFileSync(root.file(program), "#!/bin/sh\n", { mode: 0o755 });
    }
    const complaints = async (unit: string, text: string) => {
      fs.writeFileSync(join(folder, unit), text);
      const argv = ["systemd-analyze", "verify", `--root=${root.path}`, unit];
      return (await runProgram(argv)).stderr;
    };
    for (const unit of units) {
      const text = fs.readFileSync(join(deployDir, unit), "utf8");
      expect(await complaints(unit, text)).toBe("");
      const wrong = text.replace("Description=", "Descripton=");
      expect(await complaints(unit, wrong)).toContain("Unknown key 'Descripton'");
      fs.writeFileSync(join(folder, unit), text);
    }
  });
});
