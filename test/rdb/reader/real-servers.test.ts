import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Crc64 } from "../../../src/rdb/crc64.ts";
import type { RdbEntry, RdbReaderSummary } from "../../../src/rdb/reader/entry.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";
import { fillEncodings } from "../../support/fill-encodings.ts";
import type { Reply } from "../../support/resp.ts";
import {
  availableServers,
  type RealServer,
  serverVersion,
  startServer,
  tool,
} from "../../support/servers.ts";
import { amount, outermost, seedOf } from "../../support/sweep.ts";

const KEYS = amount("RDB_KEYS", { sample: 3_000, full: 100_000 });
const TIMEOUT_MS = 600_000;
/** Of how many keys one is restored. */
const RESTORED_ONE_IN = 11;
const SIZES: Readonly<Record<string, string>> = {
  string: "STRLEN",
  list: "LLEN",
  set: "SCARD",
  zset: "ZCARD",
  hash: "HLEN",
  stream: "XLEN",
};

interface Found {
  readonly key: Buffer;
  readonly db: number;
  readonly type: string;
  readonly encoding: string;
  readonly size: number;
  readonly expiresAtMs: number;
  readonly opcode: number;
  readonly value: Buffer;
}

interface Read {
  readonly found: readonly Found[];
  readonly summary: RdbReaderSummary;
  readonly libraries: readonly string[];
  readonly keysTold: number;
}

function readRdb(rdb: Uint8Array, chunkBytes: number): Read {
  const found: Found[] = [];
  const libraries: string[] = [];
  let keysTold = 0;
  const entry = (entry: RdbEntry, value: Uint8Array | undefined) => {
    expect(value?.length).toBe(entry.valueBytes);
    found.push({
      key: Buffer.from(entry.key),
      db: entry.db,
      type: entry.kind,
      encoding: entry.encoding,
      size: entry.stringBytes ?? entry.elements ?? -1,
      expiresAtMs: entry.expiresAtMs ?? -1,
      opcode: entry.opcode,
      value: Buffer.from(value!),
    });
  };
  const reader = new RdbReader({
    entry,
    wants: () => true,
    functionLibrary: (code) => libraries.push(Buffer.from(code).toString()),
    resizeDb: (keys) => (keysTold += keys),
  });
  for (let at = 0; at < rdb.length; at += chunkBytes) {
    reader.push(rdb.subarray(at, at + chunkBytes));
  }
  return { found, summary: reader.finish(), libraries, keysTold };
}

/** What the server says of the keys, in the same form. */
async function told(server: RealServer, found: readonly Found[]): Promise<unknown[]> {
  await using client = await server.connect();
  const facts: unknown[] = [];
  for (let from = 0; from < found.length; from += 2000) {
    const some = found.slice(from, from + 2000);
    const commands = some.flatMap(({ key, db, type }) => [
      ["SELECT", db],
      ["TYPE", key],
      ["OBJECT", "ENCODING", key],
      [SIZES[type]!, key],
      ["PEXPIRETIME", key],
    ]);
    const replies = await client.exchange(commands);
    some.forEach((_, n) => facts.push(replies.slice(5 * n + 1, 5 * n + 5)));
  }
  return facts;
}

const DEFAULT_CHUNK = 512 * 1024;

/** What RESTORE takes: type, value, version of the RDB, CRC64. */
function payload(opcode: number, value: Uint8Array, rdbVersion: number): Buffer {
  const body = Buffer.concat([
    Buffer.from([opcode]),
    value,
    Buffer.from([rdbVersion & 0xff, rdbVersion >>> 8]),
  ]);
  const crc = new Crc64();
  crc.update(body);
  const sum = Buffer.alloc(8);
  sum.writeBigUInt64LE(crc.value);
  return Buffer.concat([body, sum]);
}

async function save(server: RealServer): Promise<Buffer> {
  await server.send("SAVE");
  return readFileSync(join(server.dir, "dump.rdb"));
}

/** From Valkey 8.1 on a key's length also decides whether a string lies in one piece with it, which no RDB tells. */
function withoutEmbedding(server: RealServer, facts: unknown[]): unknown[] {
  if (!server.kind.startsWith("valkey")) return facts;
  return facts.map((fact) => {
    const [type, encoding, ...others] = fact as Reply[];
    return [type, encoding === "embstr" ? "raw" : encoding, ...others];
  });
}

for (const kind of outermost(availableServers())) {
  describe(`an RDB of ${kind} ${serverVersion(kind)}`, () => {
    test(
      `tells of ${KEYS} keys what the server tells`,
      async () => {
        const seed = seedOf("RDB_SEED");
        await using server = await startServer(kind);
        await fillEncodings(server, { keys: KEYS, seed });
        // The encodings that a load leads to: SETRANGE, PFADD and others leave ones that no RDB tells.
        await server.send("DEBUG", "RELOAD");
        const rdb = await save(server);
        const { found, summary, libraries, keysTold } = readRdb(rdb, DEFAULT_CHUNK);
        expect(summary.checked).toBe(true);
        expect(summary.bytes).toBe(rdb.length);
        expect(found).toHaveLength(summary.keys);
        expect(keysTold).toBe(summary.keys);
        expect(summary.functionLibraries).toBe(2);
        expect(libraries.map((code) => code.split("\n")[0]).toSorted()).toEqual([
          "#!lua name=one",
          "#!lua name=two",
        ]);
        const read = found.map(({ type, encoding, size, expiresAtMs }) => [
          type,
          encoding,
          size,
          expiresAtMs,
        ]);
        const facts = await told(server, found);
        expect(withoutEmbedding(server, read)).toEqual(withoutEmbedding(server, facts));
        expect(keysCounted(server, rdb)).toBe(summary.keys);
        expect(await restoredDiffer(server, found, summary.version)).toEqual([]);
      },
      TIMEOUT_MS,
    );
  });
}

/** How many keys the server's own checker counts. */
function keysCounted(server: RealServer, rdb: Uint8Array): number {
  const path = join(server.dir, "checked.rdb");
  writeFileSync(path, rdb);
  const checked = Bun.spawnSync([...tool(server.kind, "redis-check-rdb"), path]);
  const said = checked.stdout.toString();
  expect(said).toContain("looks OK");
  return Number(/(\d+) keys read/.exec(said)?.[1]);
}

/** The keys whose value isn't the same once RESTORE took what stands in the RDB. */
async function restoredDiffer(
  server: RealServer,
  found: readonly Found[],
  rdbVersion: number,
): Promise<string[]> {
  await using client = await server.connect();
  const differ: string[] = [];
  const chosen = found.filter((_, n) => n % RESTORED_ONE_IN === 0);
  expect(chosen.length).toBeGreaterThan(100);
  for (const { key, db, opcode, value, type, encoding, expiresAtMs } of chosen) {
    const bytes = payload(opcode, value, rdbVersion);
    const [, restored, digests] = await client.exchange([
      ["SELECT", db],
      ["RESTORE", "restored", Math.max(0, expiresAtMs), bytes, "ABSTTL"],
      ["DEBUG", "DIGEST-VALUE", key, "restored"],
      ["DEL", "restored"],
    ]);
    const [one, other] = digests as [string, string];
    if (restored !== "OK" || one !== other || /^0+$/.test(one)) {
      differ.push(`${type} ${encoding} ${key.toString("latin1")}: ${String(restored)}`);
    }
  }
  return differ;
}
