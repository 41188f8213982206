import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync, readFileSync, writeFileSync } from "node:fs";
import { type KeyEntry, readKeys, ReplicaError, snapshots } from "bun-replica";
import { madeRdb } from "../inspect/chosen/made-history.ts";
import { fillAllTypes } from "../support/fill.ts";
import { rejectionOf } from "../support/error-of.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { type RealServer, type ServerKind, startServer } from "../support/servers.ts";
import { amount } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { runProgram } from "./user-program.ts";

setDefaultTimeout(150_000);

const KIND: ServerKind = "redis-8.0";
const DATABASES = [0, 9];
const dir = tempDir("keys");
const data = dir.file("data");
const archive = `file://${dir.file("archive")}`;
const rdb = dir.file("dump.rdb");
let server: RealServer;

beforeAll(async () => {
  server = await startServer(KIND);
  await fillAllTypes(server, { keys: 1_500, databases: DATABASES, seed: 3 });
  await server.send("SELECT", 0);
  await server.send("SET", Buffer.from([0xff, 0x00, 0x0a]), "no text");
  await server.send("SET", "schlüssel", "größe", "EX", 100_000);
  expect((await runReplica(["backup", server.url(), rdb])).exitCode).toBe(0);
  const args = ["--dir", data, "--port", "0", "--archive", archive, "--archive-every", "100ms"];
  await using replica = startReplica(["follow", server.url(), ...args]);
  await replica.waitForLine(/connected by full resync/);
  await until(async () => (await snapshots(archive).catch(() => [])).length === 1, {
    what: "the snapshot in the archive",
  });
  expect((await replica.stop()).exitCode).toBe(0);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  dir.remove();
});

const byName = ({ db, key }: KeyEntry) => `${db} ${Buffer.from(key).toString("latin1")}`;

/** All entries, in an order of their own: that of an RDB is the server's. */
async function sorted(source: Parameters<typeof readKeys>[0], options = {}): Promise<KeyEntry[]> {
  const entries = await Array.fromAsync(readKeys(source, options));
  return entries.toSorted((one, other) => (byName(one) < byName(other) ? -1 : 1));
}

function openIn(path: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const what = readlinkSync(`/proc/self/fd/${fd}`);
      return what.startsWith(path) ? [what] : [];
    } catch {
      return [];
    }
  });
}

test("tells of each key what the server says", async () => {
  const entries = await sorted(rdb);
  const counts = await server.keysPerDatabase();
  expect(entries.length).toBe(Object.values(counts).reduce((sum, count) => sum + count, 0));
  await using client = await server.connect();
  for (const db of DATABASES) {
    await client.send("SELECT", db);
    const own = entries.filter((entry) => entry.db === db);
    expect(own.length).toBe(counts[db]!);
    const kinds = await client.exchange(own.map(({ key }) => ["TYPE", key]));
    expect(own.map(({ kind }) => kind)).toEqual(kinds as never);
    const expiries = await client.exchange(own.map(({ key }) => ["PEXPIRETIME", key]));
    expect(own.map(({ expiresAtMs = -1 }) => expiresAtMs)).toEqual(expiries as never);
    const lengths = own.filter(({ kind }) => kind === "string");
    const strlen = await client.exchange(lengths.map(({ key }) => ["STRLEN", key]));
    expect(lengths.map(({ stringBytes }) => stringBytes)).toEqual(strlen as never);
    const hashes = own.filter(({ kind }) => kind === "hash");
    const hlen = await client.exchange(hashes.map(({ key }) => ["HLEN", key]));
    expect(hashes.map(({ elements }) => elements)).toEqual(hlen as never);
    expect(hashes.length).toBeGreaterThan(10);
  }
  const odd = entries.find(({ key }) => key[0] === 0xff)!;
  expect([...odd.key]).toEqual([0xff, 0x00, 0x0a]);
  expect(odd.text).toBe("\uFFFD\0\n");
  const umlaut = entries.find(({ text }) => text === "schlüssel")!;
  expect(umlaut).toMatchObject({ kind: "string", encoding: "embstr", stringBytes: 7 });
  expect(umlaut.bytes).toBeGreaterThan(17);
});

describe("the same comes", () => {
  const sources: [string, () => Parameters<typeof readKeys>[0]][] = [
    ["from a data directory", () => data],
    ["from an archive", () => archive],
    ["from a stream", () => Bun.file(rdb).stream()],
    [
      "byte by byte",
      async function* () {
        for (const byte of readFileSync(rdb)) yield Uint8Array.of(byte);
      },
    ],
  ];
  test.each(sources)("%s", async (_, source) => {
    const plain = ({ db, key, kind, encoding, elements, bytes }: KeyEntry) => {
      return { db, key: [...key], kind, encoding, elements, bytes };
    };
    expect((await sorted(source())).map(plain)).toEqual((await sorted(rdb)).map(plain));
  });
});

test("patterns choose as KEYS does, and a database alone", async () => {
  for (const pattern of ["*", "*1*", "s*", "[a-h]*", "schl?ssel", "schl??ssel", "none:*"]) {
    const found = (await server.send("KEYS", pattern)) as string[];
    const chosen = await sorted(rdb, { match: pattern, db: 0 });
    expect([pattern, chosen.length]).toEqual([pattern, found.length]);
  }
  const two = await sorted(rdb, { match: ["*1", "*2"] });
  expect(two.every(({ text }) => /[12]$/.test(text))).toBe(true);
  expect(new Set(two.map(({ db }) => db))).toEqual(new Set(DATABASES));
  expect(await sorted(rdb, { db: 5 })).toEqual([]);
});

test("a star alone chooses the empty key, too, as KEYS does", async () => {
  const made = new Blob([madeRdb(["", "a"].map((key) => ({ key, value: "v" })))]);
  const chosen = async (match: string | string[]) => await sorted(made.stream(), { match });
  expect((await chosen("*")).map(({ text }) => text)).toEqual(["", "a"]);
  expect(await chosen(["b", "*"])).toHaveLength(2);
  expect(await chosen("?*")).toHaveLength(1);
});

test("an entry stays what it was while others come", async () => {
  const kept: { entry: KeyEntry; name: string }[] = [];
  for await (const entry of readKeys(rdb)) kept.push({ entry, name: byName(entry) });
  for (const { entry, name } of kept) expect(byName(entry)).toBe(name);
});

test("leaving early, an abort and damage close the file", async () => {
  for await (const _ of readKeys(rdb)) break;
  await until(() => openIn(dir.path).length === 0, { what: "the file to be closed" });
  const stopping = new AbortController();
  const reason = new Error("enough");
  const aborted = async () => {
    for await (const _ of readKeys(rdb, { signal: stopping.signal })) stopping.abort(reason);
  };
  expect(await aborted().catch((error: unknown) => error)).toBe(reason);
  const bytes = readFileSync(rdb);
  bytes[bytes.length - 4]! ^= 1;
  writeFileSync(dir.file("changed.rdb"), bytes);
  let count = 0;
  const error = await rejectionOf(async () => {
    for await (const _ of readKeys(dir.file("changed.rdb"))) count++;
  });
  expect(error).toMatchObject({ code: "BAD_CHECKSUM", retry: "never" });
  expect(count).toBeGreaterThan(1_500);
  await until(() => openIn(dir.path).length === 0, { what: "the files to be closed" });
});

/** Bun itself takes some 50 MiB, and with the program's parts some 80; all keys held at once would take 300 more. */
const MEMORY_BYTES = 160 * 1024 * 1024;

test("a slow reader costs no memory", async () => {
  const keys = amount("READ_KEYS", { sample: 100_000, full: 2_000_000 });
  using own = tempDir("keys");
  await using big = await startServer(KIND);
  await big.send("DEBUG", "POPULATE", keys, "key", 20);
  expect((await runReplica(["backup", big.url(), own.file("big.rdb")])).exitCode).toBe(0);
  const { stdout, stderr } = await runProgram(
    own,
    `
    import { readKeys } from "bun-replica";
    let [keys, bytes, peak] = [0, 0, 0];
    for await (const key of readKeys(process.argv[2]!)) {
      bytes += key.bytes;
      if (keys++ % 10_000 !== 0) continue;
      await Bun.sleep(1);
      peak = Math.max(peak, process.memoryUsage.rss());
    }
    console.log(JSON.stringify({ keys, bytes, peak }));`,
    { args: [own.file("big.rdb")] },
  );
  expect(stderr).toBe("");
  const read = JSON.parse(stdout);
  expect(read).toMatchObject({ keys });
  expect(read.bytes).toBeGreaterThan(25 * keys);
  expect(read.peak).toBeLessThan(MEMORY_BYTES);
});

describe("refuses", () => {
  const cases: [string, () => AsyncIterable<KeyEntry>, string, RegExp][] = [
    ["no source", () => readKeys(undefined as never), "USAGE", /source/],
    ["a file that isn't there", () => readKeys("/nowhere.rdb"), "USAGE", /no such file/],
    ["what is no RDB", () => readKeys(import.meta.path), "BAD_PAYLOAD", /begins with/],
    [
      "half an RDB",
      () => readKeys(Bun.file(rdb).slice(0, 5_000).stream()),
      "BAD_PAYLOAD",
      /too early/,
    ],
    ["an empty pattern", () => readKeys(rdb, { match: "" }), "USAGE", /match is ""/],
    ["a database that is none", () => readKeys(rdb, { db: -1 }), "USAGE", /db is -1/],
    [
      "a generation that isn't there",
      () => readKeys(data, { generation: 9 }),
      "USAGE",
      /generation 9/,
    ],
    ["a name as a number", () => readKeys(archive, { generation: 9 }), "USAGE", /are names/],
    ["a number as a name", () => readKeys(data, { generation: "9" }), "USAGE", /are numbers/],
  ];
  test.each(cases)("%s", async (_what, read, code, said) => {
    const error = await rejectionOf(async () => {
      for await (const _ of read());
    });
    expect(error).toBeInstanceOf(ReplicaError);
    expect(error).toMatchObject({ code, retry: "never" });
    expect(error.message).toMatch(said);
  });
});
