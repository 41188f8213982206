import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Encryption } from "../../src/archive/format/encryption.ts";
import { FileStore } from "../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { realClock } from "../../src/base/clock.ts";
import { endingWithParent, endWithProcess } from "../support/children.ts";
import { compiledProgram } from "../support/compiled.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { fillAllTypes } from "../support/fill.ts";
import { follow } from "../support/following.ts";
import { currentFiles } from "../support/generation-files.ts";
import { programEnvironment, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { amount, outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { streamOf, writeArchive, writeGeneration } from "../support/written-archive.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { realDisk } from "../../src/store/disk/disk.ts";

interface Row {
  readonly keys: number;
  readonly bytes: number;
  readonly elements: number | null;
}

interface Told extends Row {
  readonly complete: boolean;
  readonly snapshots: readonly {
    readonly generation: number | string | null;
    readonly time: string;
    readonly rdb_bytes: number;
    readonly log_bytes: number | null;
    readonly function_libraries: number | null;
    readonly damage: string | null;
  }[];
  readonly passed_over: number;
  readonly types: readonly (Row & { readonly type: string })[];
  readonly databases: readonly (Row & { readonly db: number })[];
  readonly time_to_live: readonly (Row & { readonly left: string })[];
  readonly prefixes: {
    readonly exact: boolean;
    readonly by_keys: readonly (Row & { readonly prefix: string })[];
  };
  readonly biggest_by_elements: readonly { readonly key: string; readonly elements: number }[];
}

/** What a server says of its keys. */
interface Facts {
  readonly databases: Record<string, number>;
  /** Keys and elements. */
  readonly types: Record<string, [number, number]>;
  readonly prefixes: Record<string, number>;
  readonly expiring: number;
  readonly longest: number;
}

/** Of each key: its type, its elements, its prefix, and 1 where it expires. On the server, since names are any bytes. */
const FACTS = `local lengths = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN'}
local facts = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key)['ok']
  local elements = lengths[kind] and redis.call(lengths[kind], key) or 0
  local expires = redis.call('PTTL', key) >= 0 and 1 or 0
  facts[#facts + 1] = {kind, elements, key:match('^[^:]*:') or '', expires}
end
return facts`;
const DATABASES = [0, 1, 9];

async function factsOf(server: RealServer): Promise<Facts> {
  await using client = await server.connect();
  const facts = { databases: {}, types: {}, prefixes: {}, expiring: 0, longest: 0 } as {
    -readonly [Name in keyof Facts]: Facts[Name];
  };
  for (const db of DATABASES) {
    await client.send("SELECT", db);
    facts.databases[String(db)] = Number(await client.send("DBSIZE"));
    const found = (await client.send("EVAL", FACTS, "0")) as [string, number, string, number][];
    for (const [type, elements, prefix, expires] of found) {
      const ofType = (facts.types[type] ??= [0, 0]);
      ofType[0] += 1;
      ofType[1] += Number(elements);
      facts.longest = Math.max(facts.longest, Number(elements));
      facts.prefixes[prefix] = (facts.prefixes[prefix] ?? 0) + 1;
      facts.expiring += Number(expires);
    }
  }
  return facts;
}

/** The same of what the program tells. */
function factsIn(told: Told): Facts {
  const ofExpiring = told.time_to_live.filter(({ left }) => left !== "no_expiry");
  return {
    databases: Object.fromEntries(told.databases.map(({ db, keys }) => [String(db), keys])),
    types: Object.fromEntries(
      told.types.map(({ type, keys, elements }) => [type, [keys, elements ?? 0]]),
    ),
    prefixes: Object.fromEntries(told.prefixes.by_keys.map(({ prefix, keys }) => [prefix, keys])),
    expiring: ofExpiring.reduce((sum, { keys }) => sum + keys, 0),
    longest: told.biggest_by_elements[0]?.elements ?? 0,
  };
}

async function told(args: readonly string[], env: Record<string, string> = {}): Promise<Told> {
  const run = await runReplica(["keys", ...args, "--json", "--top", "1000"], { env });
  expect([run.exitCode, run.stderr]).toEqual([0, run.stderr]);
  return JSON.parse(run.stdout) as Told;
}

const dir = tempDir("keys");
afterAll(() => dir.remove());

/** Runs a line of the shell, in which "$0" is the program and $1 a path; standard output goes to a file. */
async function shell(line: string, path: string, stdin: number | "ignore" = "ignore") {
  const [out, err] = [dir.file("shell-out"), dir.file("shell-err")];
  const child = Bun.spawn(endingWithParent(["bash", "-c", line, compiledProgram(), path]), {
    stdin,
    stdout: fs.openSync(out, "w"),
    stderr: fs.openSync(err, "w"),
    env: { ...programEnvironment(), NO_COLOR: "1" },
  });
  endWithProcess(child);
  const exitCode = await child.exited;
  return { exitCode, stdout: fs.readFileSync(out, "utf8"), stderr: fs.readFileSync(err, "utf8") };
}

describe.each(outermost(availableServers()))("what %s says of its keys", (kind) => {
  let first: Facts;
  let second: Facts;
  /** The snapshot of the first facts. */
  let rdb: string;
  let data: string;
  let betweenMs: number;

  beforeAll(async () => {
    await using server = await startServer(kind);
    await fillAllTypes(server, { keys: 3_000 });
    first = await factsOf(server);
    await using client = await server.connect();
    await client.send("SAVE");
    const [, folder] = (await client.send("CONFIG", "GET", "dir")) as unknown[];
    rdb = dir.file(`${kind}.rdb`);
    fs.copyFileSync(join(String(folder), "dump.rdb"), rdb);
    using own = tempDir("keys-followed");
    await using replica = follow(server.url(), realDisk, own);
    await replica.connected();
    await server.acknowledgedBy(1);
    const generations = () => {
      using catalogue = new Catalogue(replica.path);
      return catalogue.generations;
    };
    await until(() => generations()[0]?.last !== undefined, { what: "a mark" });
    await client.send("SELECT", 1);
    for (let n = 0; n < 50; n++) await client.send("RPUSH", "new:long", ..."0123456789".repeat(20));
    await client.send("DEL", "list:4", "hash:7");
    second = await factsOf(server);
    await server.acknowledgedBy(1);
    const end = await server.offset();
    await until(() => (generations()[0]?.last?.offset ?? 0) >= end, {
      what: "a mark behind all that",
    });
    betweenMs = generations()[0]!.last!.atMs;
    await using port = await RespClient.connect({ port: replica.port });
    await port.send("BGSAVE");
    await until(() => generations()[1]?.state === "current", { what: "a second snapshot" });
    await replica.stop();
    data = dir.file(`${kind}-data`);
    fs.cpSync(replica.path, data, { recursive: true });
  });

  test("is what a file of it holds", async () => {
    const found = await told([rdb]);
    expect(factsIn(found)).toEqual(first);
    const [snapshot] = found.snapshots;
    expect(snapshot).toMatchObject({ damage: null, function_libraries: 1, generation: null });
    // All but the head, the end and what stands between keys.
    expect(found.bytes).toBeLessThan(snapshot!.rdb_bytes);
    expect(found.bytes).toBeGreaterThan(snapshot!.rdb_bytes - 1_000);
  });

  test("is what comes over standard input, from a file and from a pipe", async () => {
    for (const line of ['"$0" keys - --json < "$1"', 'cat "$1" | "$0" keys - --json']) {
      const { exitCode, stdout } = await shell(line, rdb);
      expect(exitCode).toBe(0);
      const found = JSON.parse(stdout) as Told;
      expect(found.databases).toEqual((await told([rdb])).databases);
      expect(found.complete).toBe(true);
    }
  });

  test("is what the last snapshot of a data directory holds", async () => {
    const found = await told([data]);
    expect(factsIn(found)).toEqual(second);
    expect(found.snapshots[0]).toMatchObject({ generation: 2, damage: null });
  });

  test("is, as of a moment, what the last snapshot before it holds, and says what isn't in it", async () => {
    const at = new Date(betweenMs).toISOString();
    const run = await runReplica(["keys", data, "--at", at, "--json", "--top", "1000"]);
    const found = JSON.parse(run.stdout) as Told;
    expect(factsIn(found)).toEqual(first);
    expect(found.snapshots[0]!.generation).toBe(1);
    expect(found.snapshots[0]!.log_bytes).toBeGreaterThan(1_000);
    expect(run.stderr).toMatch(
      /^reads the snapshot of generation 1 at offset \d+, from .*Z, without the [\d.]+ KiB of log up to the moment: replica log shows /m,
    );
    expect(factsIn(await told([data, "--generation", "1"]))).toEqual(first);
  });

  test("is counted for one database, and for what matches a pattern", async () => {
    const nine = await told([rdb, "--db", "9"]);
    expect(nine.keys).toBe(first.databases["9"]!);
    expect(nine.passed_over).toBe(first.databases["0"]! + first.databases["1"]!);
    const lists = await told([rdb, "--match", "l[hij]st:*"]);
    expect(lists.types.map(({ type, keys }) => [type, keys])).toEqual([
      ["list", first.types["list"]![0]],
    ]);
    expect((await told([rdb, "--match", "*"])).keys).toBe((await told([rdb])).keys);
    expect((await told([rdb, "--match", "nothing*"])).keys).toBe(0);
  });
});

/** An RDB of a server, for what needs one alone. */
async function anyRdb(): Promise<Buffer> {
  await using server = await startServer(availableServers()[0]!);
  await fillAllTypes(server, { keys: 2_000 });
  await using client = await server.connect();
  await client.send("SAVE");
  const [, folder] = (await client.send("CONFIG", "GET", "dir")) as unknown[];
  return fs.readFileSync(join(String(folder), "dump.rdb"));
}

describe("an archive", () => {
  let rdb: Buffer;
  let plain: string;
  let secret: string;
  const identity = dir.file("identity");
  const { stream } = streamOf(3, 200);

  beforeAll(async () => {
    rdb = await anyRdb();
    fs.writeFileSync(dir.file("any.rdb"), rdb);
    const key = await generateX25519Identity();
    fs.writeFileSync(identity, `${key}\n`);
    const encryption = new Encryption([await identityToRecipient(key)]);
    for (const [name, more] of [
      ["plain", {}],
      ["secret", { encryption }],
    ] as const) {
      const store = new FileStore(dir.file(name), realFolderDisk, realClock);
      await writeArchive(store);
      await writeGeneration(store, { rdb, stream, cuts: [stream.length], ...more });
    }
    plain = `file://${dir.file("plain")}`;
    secret = `file://${dir.file("secret")}`;
  });

  test("in a folder, a bucket, and encrypted, gives what the file gives", async () => {
    const { snapshots: _, ...wanted } = await told([dir.file("any.rdb")]);
    const server = await FaultS3.start();
    for (const name of fs.readdirSync(dir.file("plain"), { recursive: true }) as string[]) {
      const path = dir.file("plain", name);
      if (fs.statSync(path).isFile())
        server.objects.set(`a/${name}`, { bytes: fs.readFileSync(path), atMs: Date.now() });
    }
    const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
    for (const [source, ...more] of [
      [plain],
      [secret, "--archive-identity", identity],
      ["s3://bucket/a", "--archive-endpoint", server.endpoint],
    ] as const) {
      const { snapshots, ...found } = await told([source, ...more], env);
      expect(found).toEqual({ ...wanted, source } as never);
      expect(snapshots[0]).toMatchObject({ rdb_bytes: rdb.length, log_bytes: stream.length });
    }
    await server.stop();
  });

  test("that is encrypted can't be read without the identity", async () => {
    const run = await runReplica(["keys", secret]);
    expect([run.exitCode, run.stdout]).toEqual([2, ""]);
    expect(run.stderr).toContain("--archive-identity");
  });

  test("with a damaged piece tells what came before it, and exits with 3", async () => {
    const folder = dir.file("cut");
    fs.cpSync(dir.file("plain"), folder, { recursive: true });
    const names = fs.readdirSync(folder, { recursive: true }) as string[];
    const piece = names.find((name) => name.includes("base/000002"))!;
    fs.writeFileSync(join(folder, piece), "something else");
    const run = await runReplica(["keys", `file://${folder}`, "--json"]);
    expect(run.exitCode).toBe(3);
    expect(run.stderr).toContain("base/000002");
    const found = JSON.parse(run.stdout) as Told;
    expect(found.complete).toBe(false);
    expect(found.snapshots[0]!.damage).toContain("base/000002");
    expect(found.keys).toBeGreaterThan(100);
    expect(found.keys).toBeLessThan(2_000);
  });
});

describe("damage", () => {
  let rdb: Buffer;
  const file = dir.file("damaged.rdb");
  beforeAll(async () => {
    rdb = await anyRdb();
  });

  test("in the middle: what came before is told and marked as partial, then the error, and exit code 3", async () => {
    fs.writeFileSync(file, rdb.subarray(0, rdb.length / 2));
    const run = await runReplica(["keys", file]);
    expect(run.exitCode).toBe(3);
    expect(run.stdout).toMatch(/\n1?\d{3} keys, /);
    expect(run.stdout).toMatch(/\ndamaged: .*damaged\.rdb: .*byte \d+ of the REDIS\d+ file/);
    expect(run.stderr).toMatch(/^replica: .*damaged\.rdb: .*; \d+ keys were counted before\n$/);
    const json = await runReplica(["keys", file, "--json"]);
    expect(json.exitCode).toBe(3);
    expect(JSON.parse(json.stdout)).toMatchObject({ complete: false });
    const csv = await runReplica(["keys", file, "--csv"]);
    expect([csv.exitCode, csv.stdout.split("\n")[1]]).toEqual([
      3,
      expect.stringMatching(/^total,partial,/),
    ]);
  });

  test("that only the checksum tells: all is told, and the error", async () => {
    const at = rdb.indexOf("field0");
    const changed = Buffer.from(rdb);
    changed[at] = "F".charCodeAt(0);
    fs.writeFileSync(file, changed);
    const run = await runReplica(["keys", file, "--json"]);
    expect(run.exitCode).toBe(3);
    expect(JSON.parse(run.stdout)).toMatchObject({ complete: false, keys: 2_000 });
    expect(run.stderr).toContain("checksum");
  });

  test.each([
    ["no RDB", Buffer.from("#!/bin/sh\necho no RDB at all, but a script\n"), "REDIS or VALKEY"],
    ["an empty file", Buffer.alloc(0), "it is empty"],
  ])("of all of it (%s): nothing but the error", async (_, bytes, why) => {
    fs.writeFileSync(file, bytes);
    const run = await runReplica(["keys", file]);
    expect([run.exitCode, run.stdout]).toEqual([3, ""]);
    expect(run.stderr).toContain(why);
    expect(run.stderr).toContain("no key was counted");
  });

  test("of a data directory's snapshot is told with its file", async () => {
    await using server = await startServer(availableServers()[0]!);
    await fillAllTypes(server, { keys: 500 });
    using own = tempDir("keys-damaged");
    await using replica = follow(server.url(), realDisk, own);
    await replica.connected();
    await replica.stop();
    const { base } = currentFiles(replica.path);
    const bytes = fs.readFileSync(base);
    // Sound by itself, but another one than came.
    const before = await told([replica.path]);
    expect(before.keys).toBe(500);
    fs.writeFileSync(base, Buffer.concat([bytes.subarray(0, -8), Buffer.alloc(8)]));
    const zeroed = await runReplica(["keys", replica.path, "--json"]);
    expect([zeroed.exitCode, JSON.parse(zeroed.stdout)]).toMatchObject([0, { keys: 500 }]);
    fs.writeFileSync(base, rdb);
    const other = await runReplica(["keys", replica.path, "--json"]);
    expect([other.exitCode, JSON.parse(other.stdout)]).toMatchObject([3, { keys: 2_000 }]);
    expect(other.stderr).toContain(`${base}: it has ${rdb.length} bytes, though it had`);
    fs.rmSync(base);
    const gone = await runReplica(["keys", replica.path]);
    expect([gone.exitCode, gone.stderr]).toEqual([3, expect.stringContaining("it is missing")]);
  });
});

describe("bad input", () => {
  const file = dir.file("few.rdb");
  beforeAll(() => {
    // A single key: magic, SELECTDB 0, a string, the end without a checksum.
    const key = Buffer.concat([Buffer.from([0, 4]), Buffer.from("a:\n1"), Buffer.from([1, 0x78])]);
    const end = Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    fs.writeFileSync(
      file,
      Buffer.concat([Buffer.from("REDIS0009"), Buffer.from([0xfe, 0]), key, end]),
    );
    fs.mkdirSync(dir.file("server", "appendonlydir"), { recursive: true });
    fs.copyFileSync(file, dir.file("server", "appendonlydir", "appendonly.aof.1.base.rdb"));
    fs.mkdirSync(dir.file("empty"));
    Bun.spawnSync(["mkfifo", dir.file("fifo")]);
  });

  test.each([
    [["nowhere.rdb"], "can't open nowhere.rdb: there is no such file or directory"],
    [[dir.file("fifo")], "is neither a file nor a directory"],
    [[dir.file("empty")], "isn't a replica data directory"],
    [[dir.file("server")], "appendonlydir/appendonly.aof.1.base.rdb"],
    [["file:///nowhere/at/all"], "is no archive"],
    [[file, "--at", "now"], "--at is for a data directory or an archive"],
    [["-", "--generation", "1"], "--generation is for a data directory or an archive"],
    [[file, "--json", "--csv"], "give --json or --csv, not both"],
    [[file, "--top", "10001"], '--top is "10001": it takes a whole number up to 10000'],
    [[file, "--prefix-depth", "x"], "--prefix-depth is"],
    [[file, "--db=-1"], "--db is"],
    [[file, "--separators="], "--separators is"],
    [[file, "--separators", "ä"], "--separators is"],
    [[], "keys needs more arguments: replica keys SOURCE|FILE.rdb|-"],
  ] as const)("%j is refused with exit code 2", async (args, why) => {
    const run = await runReplica(["keys", ...args]);
    expect([run.exitCode, run.stdout]).toEqual([2, ""]);
    expect(run.stderr).toContain(why);
  });

  test("a terminal as standard input is refused", async () => {
    const terminal = fs.openSync("/dev/ptmx", "r+");
    const { exitCode, stderr } = await shell('"$0" keys -', "", terminal);
    fs.closeSync(terminal);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("standard input is a terminal: pipe an RDB into it");
  });

  test("a reader that has seen enough ends it quietly", async () => {
    const line = 'exec 3> >(true); wait $!; "$0" keys "$1" >&3; echo "exit code $?" >&2';
    const { stderr } = await shell(line, file);
    expect(stderr).toBe("exit code 0\n");
  });

  test("a snapshot that doesn't say when it was taken is measured from now", async () => {
    const run = await runReplica(["keys", file]);
    expect(run.exitCode).toBe(0);
    expect(run.stdout).toContain("of an unknown time");
    expect(run.stdout).toContain("By time to live, as of now");
    expect(run.stdout).toContain(String.raw`"a:\n1"`);
  });

  test("a stop ends it while it waits for standard input", async () => {
    const fifo = dir.file("waiting");
    Bun.spawnSync(["mkfifo", fifo]);
    const pipe = await fs.promises.open(fifo, "r+");
    const ended = shell('"$0" keys - < "$1" & echo $! > "$1.pid"; wait $!', fifo);
    // More than a pipe holds, so it is being read once this is written.
    await pipe.write(Buffer.concat([(await anyRdb()).subarray(0, 150_000)]));
    process.kill(Number(fs.readFileSync(`${fifo}.pid`, "utf8")), "SIGTERM");
    const { exitCode, stdout, stderr } = await ended;
    await pipe.close();
    expect([exitCode, stdout, stderr]).toEqual([1, "", "replica: stopped by SIGTERM\n"]);
  });
});

test("memory stays flat with a prefix for each key", async () => {
  const keys = amount("TEST_KEYS_MEMORY", { sample: 400_000, full: 10_000_000 });
  const file = dir.file("many.rdb");
  const fd = fs.openSync(file, "w");
  let pieces = [Buffer.from("REDIS0009"), Buffer.from([0xfe, 0])];
  for (let n = 0; n < keys; n++) {
    const key = Buffer.from(n % 4 === 0 ? `heavy:${n}` : `${n}:x`);
    pieces.push(Buffer.from([0, key.length]), key, Buffer.from([1, 0x78]));
    if (n % 10_000 > 0) continue;
    fs.writeSync(fd, Buffer.concat(pieces));
    pieces = [];
  }
  fs.writeSync(fd, Buffer.concat([...pieces, Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 0])]));
  fs.closeSync(fd);
  await using replica = startReplica(["keys", file, "--json"]);
  let peakBytes = 0;
  await until(
    () => {
      peakBytes = Math.max(peakBytes, replica.rssPeakBytes());
      return !replica.isRunning;
    },
    { what: "the report" },
  );
  expect((await replica.ended()).exitCode).toBe(0);
  const found = JSON.parse(replica.stdout) as Told & {
    prefixes: { keys_missed_at_most: number; by_keys: { prefix: string; keys: number }[] };
  };
  expect(found.keys).toBe(keys);
  expect(found.prefixes.exact).toBe(false);
  expect(found.prefixes.by_keys[0]).toMatchObject({ prefix: "heavy:", keys: keys / 4 });
  expect(found.prefixes.keys_missed_at_most).toBeLessThanOrEqual((4 * keys) / 100_000);
  expect(peakBytes).toBeGreaterThan(0);
  expect(peakBytes).toBeLessThan(220 * 1024 * 1024);
}, 600_000);
