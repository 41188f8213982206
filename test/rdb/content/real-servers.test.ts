import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ContentDigester } from "../../../src/rdb/content/content-digest.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";
import { parsePreamble } from "../../../src/rdb/header.ts";
import { fillEncodings } from "../../support/fill-encodings.ts";
import { availableServers, type RealServer, startServer } from "../../support/servers.ts";
import { amount, outermost, seedOf } from "../../support/sweep.ts";

const KEYS = amount("CONTENT_KEYS", { sample: 600, full: 20_000 });
const TIME_LIMIT_MS = 600_000;

/** What lets a server keep everything packed, and nothing. */
const PACKED = "1000000";
const ENTRIES = [
  "hash-max-listpack-entries",
  "set-max-listpack-entries",
  "zset-max-listpack-entries",
];
const BYTES = ["hash-max-listpack-value", "set-max-listpack-value", "zset-max-listpack-value"];

/** Has the server keep what it loads in other encodings, and write it in other forms. */
async function reencode(server: RealServer, isPacked: boolean): Promise<void> {
  const set = async (name: string, value: string) => {
    await server.send("CONFIG", "SET", name, value).catch(() => undefined);
  };
  for (const name of ENTRIES) await set(name, isPacked ? PACKED : "0");
  for (const name of BYTES) await set(name, isPacked ? PACKED : "0");
  await set("set-max-intset-entries", isPacked ? "512" : "0");
  await set("rdbcompression", isPacked ? "yes" : "no");
  await server.send("DEBUG", "RELOAD");
}

interface Digested {
  readonly db: number;
  readonly key: Buffer;
  readonly kind: string;
  readonly opcode: number;
  readonly digest: string;
  readonly expires: boolean;
}

async function digested(server: RealServer): Promise<Map<string, Digested>> {
  await server.send("SAVE");
  const rdb = readFileSync(join(server.dir, "dump.rdb"));
  const digester = new ContentDigester();
  const format = parsePreamble(rdb)!;
  const found = new Map<string, Digested>();
  const reader = new RdbReader({
    entry: ({ db, key, kind, opcode, expiresAtMs }, value) => {
      const { digest, isOfBytes } = digester.digest(format, opcode, value!);
      expect(isOfBytes).toBe(false);
      const name = Buffer.from(key);
      const hex = Buffer.from(digest).toString("hex");
      const expires = expiresAtMs !== undefined;
      const about = { db, key: name, kind, opcode, digest: hex, expires };
      found.set(`${db} ${name.toString("latin1")}`, about);
    },
    wants: () => true,
  });
  reader.push(rdb);
  reader.finish();
  return found;
}

/** The server's own digests of the same values. */
async function serversDigests(server: RealServer, keys: Iterable<Digested>): Promise<string[]> {
  await using client = await server.connect();
  const said: string[] = [];
  for (const { db, key } of keys) {
    const [, digests] = await client.exchange([
      ["SELECT", db],
      ["DEBUG", "DIGEST-VALUE", key],
    ]);
    said.push(String(digests));
  }
  return said;
}

test.each(outermost(availableServers()))(
  "%s: values have the same digest in every encoding, and another one where the server's is another",
  async (kind) => {
    await using server = await startServer(kind);
    await fillEncodings(server, { keys: KEYS, seed: seedOf("CONTENT_SEED") });
    const first = await digested(server);
    const servers = await serversDigests(server, first.values());
    const opcodes = new Set<number>();
    for (const isPacked of [true, false]) {
      await reencode(server, isPacked);
      const other = await digested(server);
      expect(other.size).toBe(first.size);
      for (const [name, { opcode, digest }] of other) {
        opcodes.add(opcode);
        expect(`${name} ${digest}`).toBe(`${name} ${first.get(name)!.digest}`);
      }
    }
    // Both forms of each kind came.
    for (const opcode of [0, 2, 4, 5, 16, 17, 18]) expect([...opcodes]).toContain(opcode);
    // The server's digest leaves out a stream's groups, and says whether the key expires.
    const pairs = [...first.values()].flatMap(({ kind: type, digest, expires }, at) => {
      const about = `${type} ${expires}`;
      return type === "stream"
        ? []
        : [{ ours: `${about} ${digest}`, theirs: `${about} ${servers[at]}` }];
    });
    const together = new Set(pairs.map(({ ours, theirs }) => `${ours} ${theirs}`)).size;
    expect(new Set(pairs.map(({ ours }) => ours)).size).toBe(together);
    expect(new Set(pairs.map(({ theirs }) => theirs)).size).toBe(together);
  },
  TIME_LIMIT_MS,
);
