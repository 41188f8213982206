import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { fillAllTypes } from "../support/fill.ts";
import { generationFiles } from "../support/generation-files.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, serverVersion, startServer } from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { followArgs } from "./bad-input-rig.ts";
import { outermost } from "../support/sweep.ts";

describe.each(outermost(availableServers()))("an RDB of %s", (kind) => {
  let dir: TempDir;
  beforeAll(async () => {
    dir = tempDir("verify");
    await using primary = await startServer(kind);
    await fillAllTypes(primary, { keys: 500 });
    const backup = await runReplica(["backup", primary.url(), dir.file("whole.rdb")]);
    expect(backup.exitCode).toBe(0);
  });
  afterAll(() => dir[Symbol.dispose]());

  test("passes if it is whole", async () => {
    const { exitCode, stdout } = await runReplica(["verify", dir.file("whole.rdb")]);
    expect([exitCode, stdout]).toEqual([
      0,
      expect.stringMatching(/version \d+, .* checksum [0-9a-f]{16} verified\n$/),
    ]);
    const { stdout: json } = await runReplica(["verify", dir.file("whole.rdb"), "--json"]);
    expect(JSON.parse(json)).toMatchObject({
      ok: true,
      bytes: readFileSync(dir.file("whole.rdb")).length,
      checked: true,
    });
  });

  const damages: [string, (bytes: Buffer) => Buffer, RegExp][] = [
    [
      "a byte has changed",
      (bytes) => (bytes.writeUInt8(bytes[200]! ^ 1, 200), bytes),
      /states the checksum/,
    ],
    ["it is cut short", (bytes) => bytes.subarray(0, -20), /ends after|states the checksum/],
    ["it is empty", () => Buffer.alloc(0), /ends after 0 bytes/],
    ["it is something else", () => Buffer.from("PK\x03\x04 and so on"), /./],
  ];
  test.each(damages)("ends with 3 and the reason if %s", async (_, damage, why) => {
    writeFileSync(dir.file("damaged.rdb"), damage(readFileSync(dir.file("whole.rdb"))));
    const file = dir.file("damaged.rdb");
    const { exitCode, stdout } = await runReplica(["verify", file]);
    expect(exitCode).toBe(3);
    const beginning = `${file}: damaged: `;
    expect(stdout).toStartWith(beginning);
    expect(stdout).toMatch(why);
    const what = stdout.slice(beginning.length, -1);
    const { stdout: json } = await runReplica(["verify", file, "--json"]);
    expect(JSON.parse(json)).toEqual({
      path: file,
      ok: false,
      damages: [{ file, byte: null, what, meaning: "a server refuses to load it" }],
    });
  });
});

test("verify refuses anything but a file or a folder", async () => {
  using dir = tempDir("verify");
  const fifo = dir.file("fifo");
  expect(Bun.spawnSync(["mkfifo", fifo]).exitCode).toBe(0);
  using _ = Bun.listen({ unix: dir.file("socket"), socket: { data: () => undefined } });
  for (const path of [fifo, dir.file("socket"), "/dev/null", "/dev/zero"]) {
    const { exitCode, stdout, stderr } = await runReplica(["verify", path, "--json"]);
    const why = `replica: ${path} is neither a file nor a directory: give an RDB file or a data directory\n`;
    expect([path, exitCode, stdout, stderr]).toEqual([path, 2, "", why]);
  }
  const none = await runReplica(["verify", "-"]);
  expect([none.exitCode, none.stdout]).toEqual([2, ""]);
});

const ruins: [string, (path: string) => void][] = [
  ["is no database", (path) => writeFileSync(path, Buffer.alloc(8192, "x"))],
  [
    "has no tables",
    (path) => {
      rmSync(path);
      using database = new Database(path);
      database.run("CREATE TABLE other (x)");
    },
  ],
];

test.each(ruins)("verify and restore end with 3 if replica.db %s", async (_, ruin) => {
  using dir = tempDir("verify");
  mkdirSync(dir.file("data/generations"), { recursive: true });
  writeFileSync(dir.file("data/replica.db"), "");
  ruin(dir.file("data/replica.db"));
  const verified = await runReplica(["verify", dir.file("data"), "--json"]);
  expect([verified.exitCode, verified.stderr]).toEqual([3, expect.stringMatching(/replica\.db/)]);
  expect(JSON.parse(verified.stdout)).toEqual({
    path: dir.file("data"),
    ok: false,
    damages: [
      {
        file: dir.file("data/replica.db"),
        byte: null,
        what: expect.stringMatching(/^it is damaged \(SQLITE_.*\): restore it from a copy/),
        meaning: "nothing can be restored until the database is moved away",
      },
    ],
  });
  const restored = await runReplica(["restore", dir.file("data"), dir.file("target"), "--json"]);
  expect([restored.exitCode, restored.stdout]).toEqual([3, ""]);
  expect(restored.stderr).toBe(verified.stderr);
});

test("neither waits for a pipe nor reads a device without end in place of a kept file", async () => {
  using dir = tempDir("verify");
  await using primary = await startServer("redis-7.0");
  await using replica = startReplica(followArgs(primary.url(), dir.file("data")));
  await replica.waitForLine(/connected by full resync/);
  expect((await replica.stop()).exitCode).toBe(0);
  const ends = { timeoutMs: 30_000 };
  for (const name of ["base", "log", "manifest"] as const) {
    for (const take of ["pipe", "device"]) {
      const copy = dir.file(`${name}-${take}`);
      cpSync(dir.file("data"), copy, { recursive: true, verbatimSymlinks: true });
      const file = generationFiles(copy, 1)[name];
      rmSync(file);
      if (take === "pipe") expect(Bun.spawnSync(["mkfifo", file]).exitCode).toBe(0);
      else symlinkSync("/dev/zero", file);
      const verified = await runReplica(["verify", copy], ends);
      expect([verified.exitCode, verified.stdout]).toEqual([3, expect.stringContaining(file)]);
      const restored = await runReplica(
        ["restore", copy, dir.file(`target-${name}-${take}`)],
        ends,
      );
      // The log is empty so far, and a restore writes its own manifest.
      expect(restored.exitCode).toBe(name === "base" ? 3 : 0);
    }
  }
  // A start opens the log for writing, and replica.db to see what it is.
  for (const take of [generationFiles(dir.file("data"), 1).log, dir.file("data/replica.db")]) {
    rmSync(take);
    expect(Bun.spawnSync(["mkfifo", take]).exitCode).toBe(0);
    const started = await runReplica(followArgs(primary.url(), dir.file("data")), ends);
    expect(started.exitCode).not.toBe(0);
    expect(started.stderr).toContain(take);
  }
});

test("snapshots lists what is kept, and verify what is damaged", async () => {
  using dir = tempDir("verify");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
  await using replica = startReplica(argv);
  await replica.waitForLine(/connected by full resync/);
  await primary.cli("set", "key", "value");
  replica.signal("SIGUSR1");
  await replica.waitForLine(/generation 2 replaces generation 1/);
  expect((await replica.stop()).exitCode).toBe(0);
  const table = await runReplica(["snapshots", dir.file("data")]);
  const [times = "", sizes, origins = "", reasons] = table.stdout.split("\n\n");
  expect(times).toMatch(/^id +state +from +until\n 1 +sealed .*\n 2 +current /);
  expect(sizes).toMatch(/^id +from offset +to offset +snapshot +log\n/);
  expect(reasons).toMatch(/^id +sealed because\n 1 +replaced \(SIGUSR1\)\n 2\n$/);
  const made = `${primary.url()}  redis ${serverVersion("redis-7.0")}  REDIS0010`;
  const [titles, ...rows] = origins.split("\n");
  expect(titles).toMatch(/^id {2}primary +server +rdb$/);
  expect(rows).toEqual([` 1  ${made}`, ` 2  ${made}`]);
  for (const line of table.stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  const json = await runReplica(["snapshots", dir.file("data"), "--json"]);
  const { generations } = JSON.parse(json.stdout);
  expect(generations).toHaveLength(2);
  expect(generations[1]).toMatchObject({
    id: 2,
    state: "current",
    sealed_reason: null,
    primary: primary.url(),
    rdb_bytes: expect.any(Number),
    log_bytes: expect.any(Number),
  });
  expect(generations[0].to_offset).toBeGreaterThanOrEqual(generations[1].from_offset);
  const sound = await runReplica(["verify", dir.file("data")]);
  expect([sound.exitCode, sound.stdout]).toEqual([0, expect.stringContaining("no damage found")]);
  const { log } = generationFiles(dir.file("data"), 2);
  rmSync(dir.file("data/current"));
  writeFileSync(log, readFileSync(log).subarray(0, 10));
  const damaged = await runReplica(["verify", dir.file("data")]);
  expect(damaged.exitCode).toBe(3);
  expect(damaged.stdout).toContain(`damaged: ${log}, byte 10: `);
  expect(damaged.stdout).toContain(`damaged: ${dir.file("data/current")}: it is missing`);
  for (const command of ["verify", "snapshots"]) {
    const none = await runReplica([command, dir.file("nowhere")]);
    expect([none.exitCode, none.stdout]).toEqual([2, ""]);
  }
});
