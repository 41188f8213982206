import { afterAll, beforeAll, expect, test } from "bun:test";
import * as fs from "node:fs";
import { clusterDatabase } from "../../src/cluster/ledger/cluster-schema.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { follow } from "../support/following.ts";
import { runReplica } from "../support/replica-process.ts";
import { startServer } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KIND = "redis-7.0";
const TIME_LIMIT_MS = 150_000;
/** A machine that has no server. */
const NO_SERVER = { env: { PATH: "/nowhere" } };
const FAR_MS = 4_102_444_800_000;

let made: TempDir;
let data: string;
let archive: string;
let server: string;
/** Times: at rest; after changes; after more in a new generation, which changes little. */
let rest: string;
let changed: string;
let renewed: string;

beforeAll(async () => {
  made = tempDir("keys-compare");
  archive = `file://${made.file("archive")}`;
  server = serverScript(made, KIND);
  await using primary = await startServer(KIND);
  const many = Array.from({ length: 60 }, (_, n) => ["SET", `user:${n}`, `value ${n}`]);
  await primary.sendAll([
    ...many,
    ["HSET", "cart:1", "a", 1, "b", 2],
    ["SADD", "set:1", 1, 2, 3],
    ["RPUSH", 'odd\n,"name"', "item"],
    ["SET", "alike", "the same"],
  ]);
  await using replica = follow(primary.url(), realDisk, made, { archive, "archive-every": "1s" });
  await replica.connected();
  const settled = async () => {
    const end = await primary.offset();
    const hasCome = () => (replica.status.archive?.archivedOffset ?? 0) >= end;
    await until(hasCome, { what: "the archive" });
    const comeMs = Date.now();
    // The next command comes in another second, and so with another mark.
    await until(() => Date.now() > comeMs + 1100, { what: "another second" });
    using catalogue = new Catalogue(replica.path);
    return String(catalogue.generations.at(-1)!.last!.atMs);
  };
  await primary.send("SET", "alike", "the same");
  rest = await settled();
  await primary.sendAll([
    ["DEL", "user:1", "user:2"],
    ["SET", "user:new", "x"],
    ["HSET", "cart:1", "a", 5, "c", 3],
    ["PEXPIREAT", "user:3", FAR_MS],
    ["SADD", "set:1", "text"],
    ["SREM", "set:1", "text"],
    ["RPUSH", 'odd\n,"name"', "another"],
    ["SELECT", 2],
    ["SET", Buffer.from([0xff, 0x00]).toString("latin1"), "elsewhere"],
    ["SELECT", 0],
  ]);
  changed = await settled();
  replica.replica.renewal.begin("the test");
  await until(() => (replica.status.generation?.id ?? 0) > 1, { what: "a new generation" });
  await primary.send("DEL", "user:4");
  renewed = await settled();
  await replica.stop();
  data = replica.path;
});

afterAll(() => made[Symbol.dispose]());

async function compared(source: string, from: string, to: string, ...more: string[]) {
  const argv = ["keys", source, "--at", from, "--compare-to", to, "--json", ...more];
  // Whatever is made on the way is gone at the end.
  using dir = tempDir("tmp");
  const env = { TMPDIR: dir.path };
  const { exitCode, stdout, stderr } = await runReplica([...argv, "--server", server], { env });
  expect(fs.readdirSync(dir.path)).toEqual([]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const lines = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  return { lines: lines.slice(0, -1), summary: lines.at(-1), stderr };
}

test(
  "tells which keys came, went and changed, of a directory and of its archive alike",
  async () => {
    for (const source of [data, archive]) {
      const { lines, summary, stderr } = await compared(source, rest, changed);
      expect(stderr).toContain(`--compare-to ${changed} is `);
      expect(lines).toMatchObject([
        {
          what: "changed",
          db: 0,
          key: "cart:1",
          before: { type: "hash", elements: 2, expires_at_ms: null },
          after: { type: "hash", elements: 3 },
          value_changed: true,
        },
        { what: "changed", key: 'odd\n,"name"', value_changed: true },
        { what: "went", key: "user:1", before: { type: "string", elements: null }, after: null },
        { what: "went", key: "user:2" },
        { what: "changed", key: "user:3", after: { expires_at_ms: FAR_MS }, value_changed: false },
        { what: "came", key: "user:new", before: null },
        { what: "came", db: 2 },
      ]);
      expect(summary).toMatchObject({
        what: "summary",
        compared: "touched",
        came: 2,
        went: 2,
        changed: 3,
        expiry_only: 1,
        // set:1, which is a table of hashes by then.
        unchanged: 1,
      });
    }
  },
  TIME_LIMIT_MS,
);

test(
  "compares all keys across generations, and backwards",
  async () => {
    for (const source of [data, archive]) {
      const { lines, summary, stderr } = await compared(source, renewed, changed);
      expect(stderr).toContain("hold in memory: the moments lie in different");
      expect(lines).toMatchObject([{ what: "came", db: 0, key: "user:4" }]);
      expect(summary).toMatchObject({ compared: "all", came: 1, went: 0, changed: 0 });
      // All the others, in whatever encoding.
      expect(summary.unchanged).toBe(63);
    }
    const { lines, summary } = await compared(data, rest, renewed, "--match", "user:[34]");
    expect(lines.map(({ what, key }) => `${what} ${key}`)).toEqual([
      "changed user:3",
      "went user:4",
    ]);
    expect(summary).toMatchObject({ unchanged: 0 });
    const elsewhere = await compared(data, rest, renewed, "--db", "2");
    expect(elsewhere.lines).toMatchObject([{ what: "came", db: 2 }]);
  },
  TIME_LIMIT_MS,
);

test(
  "tells it to people and as CSV, and needs no server where no key was touched",
  async () => {
    const at = ["--at", rest, "--compare-to"];
    const server7 = ["--server", server];
    const text = await runReplica(["keys", data, ...at, changed, ...server7]);
    expect(text.stdout.split("\n")).toMatchObject([
      expect.stringMatching(
        /^changed {2}db0 {2}cart:1 {2}hash, 2 fields, \d+ B → hash, 3 fields, /,
      ),
      expect.stringMatching(/^changed {2}db0 {2}"odd\\n,\\"name\\"" {2}list, 1 item, .* 2 items, /),
      expect.stringMatching(/^went {5}db0 {2}user:1 {2}string, 8 B$/),
      expect.stringMatching(/^went {5}db0 {2}user:2 /),
      expect.stringMatching(/user:3 {2}string, 8 B, the same value, expires never → 2100-01-01T/),
      expect.stringMatching(/^came {5}db0 {2}user:new /),
      expect.stringMatching(/^came {5}db2 {2}/),
      expect.stringMatching(
        /^from offset \d+ .* 2 keys came, 2 went, 3 changed \(1 only in the time/,
      ),
      "",
    ]);
    const csv = await runReplica(["keys", data, ...at, changed, "--csv", ...server7]);
    const [head, first, second] = csv.stdout.split("\n");
    expect(head).toStartWith("what,db,key,key_base64,type_before,");
    expect(first).toMatch(/^changed,0,cart:1,,hash,2,\d+,,hash,3,\d+,,true$/);
    expect(second).toStartWith('changed,0,"odd');
    const untouched = ["--match", "nobody:*", "--json"];
    const none = await runReplica(["keys", data, ...at, changed, ...untouched], NO_SERVER);
    expect(none.exitCode).toBe(0);
    expect(JSON.parse(none.stdout)).toMatchObject({
      what: "summary",
      came: 0,
      compared: "touched",
    });
    const needed = await runReplica(["keys", data, ...at, changed], NO_SERVER);
    expect(`${needed.exitCode} ${needed.stderr}`).toMatch(/^1 .*--server PATH/s);
  },
  TIME_LIMIT_MS,
);

test(
  "refuses what doesn't go together, before anything is read",
  async () => {
    using dir = tempDir("keys-compare");
    fs.writeFileSync(dir.file("dump.rdb"), "REDIS0011");
    fs.mkdirSync(dir.file("cluster"));
    fs.writeFileSync(clusterDatabase(dir.file("cluster")), "");
    const run = async (source: string, ...argv: string[]) => {
      const { exitCode, stdout, stderr } = await runReplica(["keys", source, ...argv], NO_SERVER);
      expect(stdout).toBe("");
      return `${exitCode} ${stderr}`;
    };
    const both = ["--at", rest, "--compare-to", changed];
    expect(await run(data, "--compare-to", changed)).toMatch(/^2 .*add --at TIME/s);
    expect(await run(data, "--server", server)).toMatch(/^2 .*--server is for --compare-to/s);
    for (const other of ["offset", "generation", "prefix-depth", "top"])
      expect(await run(data, ...both, `--${other}`, "1")).toMatch(/^2 .*doesn't go with/s);
    expect(await run(data, ...both, "--json", "--csv")).toMatch(/^2 .*not both/s);
    expect(await run(data, "--at", rest, "--compare-to", "noon")).toMatch(/^2 .*--compare-to is/s);
    expect(await run(data, "--at", "10", "--compare-to", rest)).toMatch(/^2 .*is not kept/s);
    expect(await run(data, ...both, "--server", "/nowhere/x")).toMatch(/^2 .*--server PATH/s);
    expect(await run(dir.file("dump.rdb"), ...both)).toMatch(/^2 .*is one snapshot/s);
    expect(await run("-", ...both)).toMatch(/^2 .*standard input is one snapshot/s);
    expect(await run(dir.file("cluster"), ...both)).toMatch(/^2 .*shards\/0001/s);
  },
  TIME_LIMIT_MS,
);
