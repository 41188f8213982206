import { parseExposition } from "../support/exposition.ts";
import { Random } from "../support/fill.ts";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Encryption } from "../../src/archive/format/encryption.ts";
import { FileStore } from "../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { realClock } from "../../src/base/clock.ts";
import { archiveDirectory } from "../support/archived-directory.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { fillAllTypes } from "../support/fill.ts";
import { NotifySocket } from "../support/notify-socket.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { outermost, seedOf, swept } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const dir = tempDir("archive-bootstrap");
afterAll(() => dir.remove());

/** No PINGs of the primary in the stream. */
const QUIET = ["--repl-ping-replica-period", "3600"];
/** Which server makes no difference to most of it. */
const KIND = availableServers().at(-1)!;
let folders = 0;
const newFolder = (): string => dir.file(`folder-${folders++}`);

/** Archives what a primary has now, by a replica that follows it for a moment. @returns the archive's URL. */
async function archived(primary: RealServer, root = newFolder()): Promise<string> {
  const data = newFolder();
  await using replica = startReplica([primary.url(), "--dir", data, "--port", "0"]);
  await replica.waitForLine(/connected by full resync/);
  await primary.sendAll([["SET", "followed", "by the first"]]);
  await reaches(primary);
  await replica.stop();
  await archiveDirectory(data, new FileStore(root, realFolderDisk, realClock));
  return `file://${root}`;
}

/** Waits until a replica of the primary has got everything. */
async function reaches(primary: RealServer): Promise<void> {
  await until(
    async () => {
      const { slave0 = "", master_repl_offset: end } = await primary.info("replication");
      return Number(/offset=(\d+)/.exec(slave0)?.[1]) === Number(end) || undefined;
    },
    { what: "the replica to have all of the stream" },
  );
}

/** A replica that keeps nothing and has an archive. */
function startEmpty(primary: RealServer, archive: string, data: string, ...more: string[]) {
  return startReplica([
    primary.url(),
    "--dir",
    data,
    "--port",
    "0",
    "--archive",
    archive,
    "--min-free",
    "0",
    ...more,
  ]);
}

/** The digest of a stock server that is started on what the directory keeps. */
async function digestOf(data: string, kind: ServerKind): Promise<string> {
  const target = newFolder();
  const { exitCode, stderr } = await runReplica(["restore", data, target]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  await using server = await bootCopyOfDir(kind, target, { args: ["--appendonly", "yes"] });
  return await server.digest();
}

async function syncs(primary: RealServer): Promise<[full: number, partial: number]> {
  const stats = await primary.info("stats");
  return [Number(stats["sync_full"]), Number(stats["sync_partial_ok"])];
}

/** Stops the replica, which has all of the stream, and compares what it keeps with what the primary has. */
async function expectSame(primary: RealServer, replica: ReplicaProcess, data: string) {
  await reaches(primary);
  expect((await replica.stop()).exitCode).toBe(0);
  expect(await digestOf(data, primary.kind)).toBe(await primary.digest());
}

describe("an archive in a folder", () => {
  test("that is the data directory is refused before anything is written", async () => {
    using own = tempDir("archive-inside");
    fs.symlinkSync(own.file("data"), own.file("link"));
    const args = ["--dir", own.file("data"), "--port", "0"];
    for (const archive of ["data", "data/archive", "link"]) {
      const url = `file://${own.file(archive)}`;
      const { exitCode, stderr } = await runReplica([...args, "--archive", url]);
      expect([exitCode, stderr]).toEqual([2, expect.stringContaining("data directory")]);
    }
    expect(fs.readdirSync(own.path)).toEqual(["link"]);
  });
});

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("a directory that was lost is filled from the archive, and a partial resync brings the rest", async () => {
    await using primary = await startServer(kind, {
      args: [...QUIET, "--repl-backlog-size", "8mb"],
    });
    await fillAllTypes(primary, { keys: 1_000, seed: 31 });
    const archive = await archived(primary);
    await primary.sendAll([["SET", "later", "than the archive"]]);
    const before = await syncs(primary);
    const data = newFolder();
    await using replica = startEmpty(primary, archive, data);
    await replica.waitForLine(/filled .* from the archive/);
    await replica.waitForLine(/connected by partial resync/);
    const [full, partial] = await syncs(primary);
    expect([full - before[0], partial - before[1]]).toEqual([0, 1]);
    await primary.sendAll([["SET", "last", "of all"]]);
    await expectSame(primary, replica, data);
    expect(fs.readdirSync(data).filter((name) => name.startsWith("."))).toEqual([]);
  });
});

test("a backlog that is too short costs a full resync", async () => {
  await using primary = await startServer(KIND, {
    args: [...QUIET, "--repl-backlog-size", "16kb"],
  });
  await fillAllTypes(primary, { keys: 300, seed: 32 });
  const archive = await archived(primary);
  await primary.sendAll([["SET", "large", "x".repeat(100_000)]]);
  const data = newFolder();
  await using replica = startEmpty(primary, archive, data);
  await replica.waitForLine(/filled .* from the archive/);
  await replica.waitForLine(/connected by full resync/);
  await expectSame(primary, replica, data);
  // What was fetched is kept as the generation before.
  const { stdout } = await runReplica(["snapshots", data, "--json"]);
  const { generations } = JSON.parse(stdout) as { generations: { state: string }[] };
  expect(generations.map(({ state }) => state).toSorted()).toEqual(["current", "sealed"]);
});

describe("what can't be had from an archive is had from the primary", () => {
  let primary: RealServer;
  let server: FaultS3;
  const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
  let root: string;
  /** What the bucket held before any replica of a test wrote there. */
  let first: FaultS3["objects"];
  let place: string[];

  beforeAll(async () => {
    primary = await startServer(KIND, { args: [...QUIET, "--repl-backlog-size", "8mb"] });
    await fillAllTypes(primary, { keys: 500, seed: 33 });
    root = newFolder();
    await archived(primary, root);
    server = await FaultS3.start();
    for (const name of fs.readdirSync(root, { recursive: true, encoding: "utf8" })) {
      const path = `${root}/${name}`;
      if (!fs.statSync(path).isFile()) continue;
      server.objects.set(`here/${name}`, { bytes: fs.readFileSync(path), atMs: Date.now() });
    }
    first = new Map(server.objects);
    place = [
      primary.url(),
      "--port",
      "0",
      "--min-free",
      "0",
      "--archive-endpoint",
      server.endpoint,
    ];
  });
  afterAll(async () => {
    await primary.stop();
    await server.stop();
  });

  const start = (data: string, archive: string, ...more: string[]) =>
    startReplica([...place, "--dir", data, "--archive", archive, ...more], { env });

  /** Expects a full resync, after a line that says why. */
  async function expectFull(data: string, archive: string, why: RegExp, ...more: string[]) {
    await using replica = start(data, archive, ...more);
    await replica.waitForLine(why);
    await replica.waitForLine(/connected by full resync/);
    await replica.stop();
    expect(fs.readdirSync(data).filter((name) => name.startsWith("."))).toEqual([]);
    return replica.stderr;
  }

  test("from a bucket that has it, nothing else is needed", async () => {
    const data = newFolder();
    const there = new Set(server.objects.keys());
    // As a volume is that was just mounted.
    fs.mkdirSync(`${data}/lost+found`, { recursive: true });
    await using replica = start(data, "s3://bucket/here");
    await replica.waitForLine(/connected by partial resync/);
    await replica.stop();
    // The next start finds what is kept.
    const asked = server.seen.length;
    await using again = start(data, "s3://bucket/here");
    await again.waitForLine(/connected by partial resync/);
    expect(again.stderr).not.toContain("keeps nothing yet");
    const fetched = server.seen
      .slice(asked)
      // Of its own folder it may ask what came of a piece that a stop cut off.
      .filter(
        ({ operation, key }) => operation === "GET" && key.includes("/base/") && there.has(key),
      );
    expect(fetched).toEqual([]);
  });

  test.each([
    ["there is none", "s3://bucket/nothing", /info .*s3:\/\/bucket\/nothing is no archive.* yet/],
    ["there is no bucket", "s3://another/here", /the bucket "another" does not exist/],
  ])("where %s", async (_, archive, why) => {
    await expectFull(newFolder(), archive, why);
  });

  test("where it is damaged, at any of its objects", async () => {
    const keys = [...first.keys()].filter((key) => /base\/|log\/|\.json$/.test(key));
    expect(keys.length).toBeGreaterThanOrEqual(5);
    for (const key of swept(keys, 3, new Random(seedOf("BOOTSTRAP_SEED")))) {
      // Else it is filled from what another test's replica had the time to archive.
      server.objects.clear();
      for (const [name, object] of first) server.objects.set(name, object);
      const { bytes, atMs } = first.get(key)!;
      const changed = Buffer.from(bytes);
      changed[changed.length >> 1]! ^= 0xff;
      server.objects.set(key, { bytes: changed, atMs });
      const data = newFolder();
      await using replica = start(data, "s3://bucket/here");
      await replica.waitForLine(/connected by (full|partial) resync/);
      await replica.stop();
      // The log up to where it is sound is as good as less of it.
      if (key.includes("/base/"))
        expect(replica.stderr).toContain("is not filled from the archive");
      const verified = await runReplica(["verify", data]);
      expect([verified.exitCode, verified.stdout]).toEqual([0, expect.any(String)]);
      server.objects.set(key, { bytes, atMs });
    }
  });

  test("where access is denied", async () => {
    server.fail({ times: 1_000, effect: { kind: "error", status: 403, code: "AccessDenied" } });
    await expectFull(newFolder(), "s3://bucket/here", /is not filled from the archive.*denied/);
    server.heal();
  });

  test("where it answers late, it is used", async () => {
    server.fail({ times: 7, effect: { kind: "error", status: 503, code: "SlowDown" } });
    await using replica = start(newFolder(), "s3://bucket/here");
    await replica.waitForLine(/connected by partial resync/);
    server.heal();
  });

  test("where it is encrypted, and there is no identity; with one it is used", async () => {
    const key = await generateX25519Identity();
    const encryption = new Encryption([await identityToRecipient(key)]);
    const [data, secret, identity] = [newFolder(), newFolder(), newFolder()];
    fs.writeFileSync(identity, `${key}\n`);
    await using replica = startReplica([primary.url(), "--dir", data, "--port", "0"]);
    await replica.waitForLine(/connected by full resync/);
    await replica.stop();
    await archiveDirectory(data, new FileStore(secret, realFolderDisk, realClock), encryption);
    const [filled, why] = [newFolder(), /is not filled from the archive.*age identity/];
    await expectFull(newFolder(), `file://${secret}`, why);
    await using other = start(filled, `file://${secret}`, "--archive-identity", identity);
    await other.waitForLine(/connected by partial resync/);
    await other.stop();
    // What is wrong with the settings is an error as ever.
    const args = ["--archive", `file://${secret}`, "--archive-identity", `${identity}-none`];
    const wrong = await runReplica([...place, "--dir", newFolder(), ...args], { env });
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining("can't be read")]);
  });

  test("where there is no room for it and for a full resync", async () => {
    const [data, why] = [newFolder(), /is not filled from the archive.*--min-free/];
    await using replica = start(data, "s3://bucket/here", "--min-free", "1024TiB");
    await replica.waitForLine(why);
  });

  test("where it isn't wanted, or the directory keeps something", async () => {
    const data = newFolder();
    const said = await expectFull(data, "s3://bucket/here", /following/, "--no-archive-bootstrap");
    expect(said).not.toContain("s3://");
    // Whoever removed the link is to find the data as it was.
    fs.rmSync(`${data}/current`);
    await using replica = start(data, "s3://bucket/here");
    await replica.waitForLine(/connected by partial resync/);
    expect(replica.stderr).not.toContain("filling");
  });

  test("a kill while it is fetched leaves nothing: the next start begins anew", async () => {
    const data = newFolder();
    server.fail({ within: "/base/", times: 1_000, effect: { kind: "hang", at: "body" } });
    await using replica = start(data, "s3://bucket/here");
    await until(() => server.hanging > 0 || undefined, { what: "a request to hang" });
    // Nobody else may use the directory meanwhile.
    const second = await runReplica([...place, "--dir", data, "--archive", "s3://bucket/here"], {
      env,
    });
    expect([second.exitCode, second.stderr]).toEqual([1, expect.stringContaining("is in use by")]);
    await replica.kill9();
    expect(fs.existsSync(`${data}/.filling`)).toBe(true);
    server.heal();
    // Even without the archive.
    const verified = await runReplica(["verify", data]);
    expect(verified.exitCode).not.toBe(0);
    await using again = start(data, "s3://bucket/here");
    await again.waitForLine(/connected by partial resync/);
    expect(fs.existsSync(`${data}/.filling`)).toBe(false);
    server.hanging = 0;
  });

  test("a stop while it is fetched is a stop", async () => {
    const data = newFolder();
    const before = server.hanging;
    server.fail({ within: "/base/", times: 1_000, effect: { kind: "hang", at: "body" } });
    const http = `127.0.0.1:${freePort()}`;
    using manager = new NotifySocket(dir.file("notify"));
    const notified = { ...env, NOTIFY_SOCKET: dir.file("notify") };
    const args = ["--dir", data, "--archive", "s3://bucket/here", "--http", http];
    await using replica = startReplica([...place, ...args], { env: notified });
    await until(() => server.hanging > before || undefined, { what: "a request to hang" });
    // Nobody takes it for a hang meanwhile.
    const get = (path: string) => fetch(`http://${http}/${path}`);
    const [health, ready, metrics] = [
      await get("healthz"),
      await get("readyz"),
      await get("metrics"),
    ];
    expect([health.status, ready.status, metrics.status]).toEqual([200, 503, 200]);
    expect(await ready.text()).toContain("is being filled from the archive");
    expect(parseExposition(await metrics.text())).toEqual([]);
    await manager.waitFor(/^EXTEND_TIMEOUT_USEC=60000000$/);
    replica.signal("SIGTERM");
    expect((await replica.ended()).exitCode).toBe(0);
    server.heal();
    expect(fs.existsSync(`${data}/.filling`)).toBe(false);
  });

  test("what was filled is refused to no primary before one has continued it, after a restart neither", async () => {
    const data = newFolder();
    const args = (port: number) => [
      "follow",
      `redis://127.0.0.1:${port}`,
      "--dir",
      data,
      "--port",
      "0",
    ];
    await using away = startReplica([...args(freePort()), "--archive", `file://${root}`]);
    await away.waitForLine(/filled .* from the archive/);
    await away.waitForLine(/code=CONNECT_FAILED/);
    expect((await away.stop()).exitCode).toBe(0);
    await using other = await startServer(KIND, { args: QUIET });
    await using again = startReplica(args(other.port));
    await again.waitForLine(/connected by full resync/);
    expect((await again.stop()).exitCode).toBe(0);
    // From there on it is that primary's.
    await using third = await startServer(KIND, { args: QUIET });
    const refused = await runReplica(args(third.port));
    expect([refused.exitCode, refused.stderr]).toEqual([2, expect.stringContaining("--adopt")]);
  });

  test("of two primaries in one archive, that of the URL is taken, and PSYNC decides for another", async () => {
    await using other = await startServer(KIND, { args: QUIET });
    await other.sendAll([["SET", "another", "primary"]]);
    // It was archived last.
    await archived(other, root);
    await using replica = start(newFolder(), `file://${root}`);
    await replica.waitForLine(/connected by partial resync/);
    await replica.stop();
    await using third = await startServer(KIND, { args: QUIET });
    await third.sendAll([["SET", "a third", "primary"]]);
    const data = newFolder();
    await using unknown = startEmpty(third, `file://${root}`, data);
    await unknown.waitForLine(/connected by full resync/);
    expect(unknown.stderr).toMatch(/filling .* of redis:/);
    await expectSame(third, unknown, data);
  });
});
