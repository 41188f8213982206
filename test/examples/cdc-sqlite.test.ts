import { expect, setDefaultTimeout, test } from "bun:test";
import { Database } from "bun:sqlite";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { endWithProcess, endingWithParent } from "../support/children.ts";
import { Random } from "../support/fill.ts";
import {
  programEnvironment,
  type ReplicaProcess,
  startReplica,
} from "../support/replica-process.ts";
import { type RealServer, type ServerKind, startServer, tool } from "../support/servers.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KILLS = amount("CDC_KILLS", { sample: 6, full: 100 });
setDefaultTimeout(150_000 + KILLS * 10_000);

const KIND: ServerKind = "redis-8.0";
const PREFIX = "user:";
const example = join(import.meta.dir, "../../examples/cdc-sqlite");

/** A file that is there isn't emptied by being somebody's output. */
let outputs = 0;

/** Starts a script of the example, as its README does. */
function start(dir: TempDir, script: string, data: string, env: Record<string, string> = {}) {
  const argv = [process.execPath, join(example, script), data, dir.file("mirror.sqlite"), PREFIX];
  const errors = dir.file(`errors-${outputs++}`);
  const child = Bun.spawn(endingWithParent(argv), {
    env: { ...programEnvironment(), ...env },
    stdin: "ignore",
    stdout: "ignore",
    stderr: Bun.file(errors),
  });
  endWithProcess(child);
  return { child, errors: async () => await Bun.file(errors).text() };
}

async function seed(dir: TempDir, data: string): Promise<void> {
  const { child, errors } = startSeed(dir, data);
  expect([await child.exited, await errors()]).toEqual([0, ""]);
}

function startSeed(dir: TempDir, data: string, env: Record<string, string> = {}) {
  const server = dir.file("server");
  const quoted = tool(KIND, "redis-server").map((word) => `'${word}'`);
  writeFileSync(server, `#!/bin/sh\nexec ${quoted.join(" ")} "$@"\n`, { mode: 0o755 });
  return start(dir, "seed.ts", data, { SERVER: server, ...env });
}

/** Commands whose effect shows if one is applied twice, or not at all. */
function someWrites(random: Random): (string | number)[][] {
  const user = `${PREFIX}${random.below(40)}`;
  const other = `other:${random.below(40)}`;
  const field = `f${random.below(5)}`;
  switch (random.below(10)) {
    case 0:
      return [["APPEND", `${user}:log`, random.text(3)]];
    case 1:
      return [["SET", `${user}:name`, random.text(8)]];
    case 2:
      return [["HSET", `${user}:profile`, field, random.text(6), `${field}b`, 1]];
    case 3:
      return [["HDEL", `${user}:profile`, field]];
    case 4:
      return [["DEL", `${user}:log`, other]];
    case 5:
      return [["MSET", `${user}:name`, "m", other, "m"]];
    case 6:
      return [["LPUSH", `list:${other}`, "not mirrored"]];
    case 7:
      return [
        ["MULTI"],
        ["INCR", `${user}:visits`],
        ["HINCRBY", `${user}:sums`, field, 3],
        ["EXEC"],
      ];
    case 8:
      return [["HINCRBY", `${user}:sums`, field, -2]];
    default:
      return [["INCRBY", `${user}:visits`, 2]];
  }
}

/** Writes until it is ended, which tells how many writes there were. */
function beginLoad(primary: RealServer, random: Random) {
  let isOver = false;
  let count = 0;
  const running = (async () => {
    while (!isOver) {
      const batch = Array.from({ length: 20 }, () => someWrites(random)).flat();
      count += batch.length;
      await primary.sendAll(batch);
      await Bun.sleep(5);
    }
  })();
  const end = async () => {
    isOver = true;
    await running;
    return count;
  };
  return { end, [Symbol.asyncDispose]: async () => void (await end()) };
}

/** What the primary has under the prefix. */
async function primaryData(primary: RealServer): Promise<Record<string, unknown>> {
  const keys = (await primary.send("KEYS", `${PREFIX}*`)) as string[];
  const all: [string, unknown][] = [];
  for (const key of keys.toSorted()) {
    if ((await primary.send("TYPE", key)) === "string") {
      all.push([key, await primary.send("GET", key)]);
      continue;
    }
    const flat = (await primary.send("HGETALL", key)) as string[];
    const fields = Array.from({ length: flat.length / 2 }, (_, at) =>
      flat.slice(2 * at, 2 * at + 2),
    );
    all.push([key, fields.toSorted()]);
  }
  return Object.fromEntries(all);
}

/** Opens the mirror to read it, also while it is being recovered after a kill. */
function openMirror(dir: TempDir): Database {
  const db = new Database(dir.file("mirror.sqlite"));
  db.run("PRAGMA busy_timeout = 10000");
  return db;
}

function mirrorData(dir: TempDir): Record<string, unknown> {
  using db = openMirror(dir);
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
  const all = new Map<string, unknown>();
  for (const [key, value] of db.query<never, []>("SELECT * FROM strings").values())
    all.set(text(key as Uint8Array), text(value as Uint8Array));
  for (const [key, field, value] of db.query<never, []>("SELECT * FROM hashes").values()) {
    const fields = (all.get(text(key as Uint8Array)) ?? []) as string[][];
    fields.push([text(field as Uint8Array), text(value as Uint8Array)]);
    all.set(text(key as Uint8Array), fields.toSorted());
  }
  return Object.fromEntries([...all].toSorted());
}

function positionOf(dir: TempDir): number {
  using db = openMirror(dir);
  return db.query<{ offset: number }, []>(`SELECT "offset" FROM position`).get()?.offset ?? -1;
}

function startFollowing(primary: RealServer, data: string): ReplicaProcess {
  const args = ["--dir", data, "--port", "0", "--fsync", "always", "--retry-max", "50ms"];
  return startReplica(["follow", primary.url(), ...args]);
}

test("mirrors each write exactly once, however often it and the replica are killed", async () => {
  using dir = tempDir("cdc");
  const data = dir.file("data");
  const random = new Random(seedOf("CDC_SEED"));
  await using primary = await startServer(KIND);
  for (let n = 0; n < 200; n++) await primary.sendAll(someWrites(random));
  let replica = startFollowing(primary, data);
  await replica.waitForLine(/connected by full resync/);
  await using load = beginLoad(primary, random);
  await until(async () => (await primary.offset()) > 50_000, { what: "some load" });
  await seed(dir, data);
  let kills = 0;
  let mirror = start(dir, "mirror.ts", data);
  while (kills < KILLS) {
    const before = positionOf(dir);
    // Often while it starts, and as often after it has done something.
    if (random.below(2) === 0)
      await until(() => mirror.child.exitCode !== null || positionOf(dir) > before, {
        what: "progress",
      });
    await Bun.sleep(random.below(150));
    expect([mirror.child.exitCode, await mirror.errors()]).toEqual([null, ""]);
    mirror.child.kill("SIGKILL");
    await mirror.child.exited;
    kills++;
    const chance = random.below(3);
    if (chance === 0) {
      await replica.kill9();
      replica = startFollowing(primary, data);
    } else if (chance === 1) {
      replica.signal("SIGUSR1");
    }
    mirror = start(dir, "mirror.ts", data);
  }
  const writes = await load.end();
  expect(writes).toBeGreaterThan(100 * KILLS);
  const end = await primary.offset();
  await until(() => positionOf(dir) >= end, { what: `the mirror to reach offset ${end}` });
  mirror.child.kill("SIGTERM");
  expect(await mirror.child.exited).toBe(0);
  expect(mirrorData(dir)).toEqual(await primaryData(primary));
  await replica.stop();
});

test("stops at what it can't mirror, and at another history", async () => {
  using dir = tempDir("cdc");
  const data = dir.file("data");
  await using primary = await startServer(KIND);
  await primary.send("SET", `${PREFIX}1`, "one");
  const ending = async () => {
    const { child, errors } = start(dir, "mirror.ts", data);
    return { exitCode: await child.exited, stderr: await errors() };
  };
  {
    await using replica = startFollowing(primary, data);
    await replica.waitForLine(/connected by full resync/);
    expect(await ending()).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("fill it with seed.ts first"),
    });
    await seed(dir, data);
    expect(mirrorData(dir)).toEqual({ [`${PREFIX}1`]: "one" });
    await primary.send("RENAME", `${PREFIX}1`, `${PREFIX}2`);
    const unknown = { exitCode: 1, stderr: expect.stringContaining("doesn't know RENAME") };
    expect(await ending()).toMatchObject(unknown);
    expect(await ending()).toMatchObject(unknown);
    // A seed passes over it.
    await primary.acknowledgedBy(1);
    await seed(dir, data);
    expect(mirrorData(dir)).toEqual({ [`${PREFIX}2`]: "one" });
    await replica.stop();
  }
  await using other = await startServer(KIND);
  await other.send("SET", `${PREFIX}3`, "three");
  const args = ["--dir", data, "--port", "0", "--adopt"];
  await using replica = startReplica(["follow", other.url(), ...args]);
  await replica.waitForLine(/connected by full resync/);
  expect(await ending()).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("LOG_GAP"),
  });
  await seed(dir, data);
  expect(mirrorData(dir)).toEqual({ [`${PREFIX}3`]: "three" });
});

test("a seed that fails changes no table, and leaves no copy of the data", async () => {
  using dir = tempDir("cdc");
  const data = dir.file("data");
  await using primary = await startServer(KIND);
  await primary.send("SET", `${PREFIX}1`, "one");
  await using replica = startFollowing(primary, data);
  await replica.waitForLine(/connected by full resync/);
  await seed(dir, data);
  await primary.send("HSET", `${PREFIX}2`, "field", Buffer.from([0xff, 0x00]));
  await primary.acknowledgedBy(1);
  const TMPDIR = dir.file("tmp");
  mkdirSync(TMPDIR);
  const failures = [
    [{ TMPDIR, SERVER: "/nowhere/redis-server" }, "/nowhere/redis-server"],
    [{ TMPDIR }, "is no UTF-8"],
  ] as const;
  for (const [env, said] of failures) {
    const { child, errors } = startSeed(dir, data, env);
    expect(await child.exited).toBe(1);
    expect(await errors()).toContain(said);
    expect(readdirSync(TMPDIR)).toEqual([]);
    expect(mirrorData(dir)).toEqual({ [`${PREFIX}1`]: "one" });
  }
});
