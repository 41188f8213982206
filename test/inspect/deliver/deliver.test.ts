import { describe, expect, test } from "bun:test";
import type { DeliveredEntry } from "../../../src/inspect/deliver/entry.ts";
import { fixedPassword } from "../../../src/config/password.ts";
import { dumpedEntries } from "../../support/dumped-entries.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { fillAllTypes } from "../../support/fill.ts";
import { availableServers, type RealServer, startServer } from "../../support/servers.ts";
import { certificates } from "../../support/tls.ts";
import { bring, stringEntry } from "./rig.ts";

const TIME_LIMIT_MS = 150_000;
const HOUR_MS = 3_600_000;

/** What can be told apart of every key. */
async function factsOf(server: RealServer, entries: readonly DeliveredEntry[]) {
  const client = await server.connect();
  try {
    const facts: unknown[] = [];
    for (const { db, key } of entries) {
      await client.send("SELECT", db);
      const name = Buffer.from(key);
      const digest = await client.send("DEBUG", "DIGEST-VALUE", name);
      facts.push([db, name.toString(), digest, await client.send("PEXPIRETIME", name)]);
    }
    return facts;
  } finally {
    client.close();
  }
}

describe.each(availableServers())("%s", (kind) => {
  test(
    "gets every type as it was, with its expiry, in every database",
    async () => {
      await using source = await startServer(kind);
      await using target = await startServer(kind);
      await fillAllTypes(source, { keys: 600, seed: 3 });
      const entries = await dumpedEntries(source, [0, 1, 9]);
      expect(entries.length).toBeGreaterThan(500);
      const { counts, error, told } = await bring(entries, target.url());
      expect(error).toBeUndefined();
      expect(counts).toEqual({
        restored: entries.length,
        replaced: 0,
        existed: 0,
        expired: 0,
        failed: 0,
        left: 0,
      });
      expect(Object.values(told).flat()).toEqual([]);
      expect(await factsOf(target, entries)).toEqual(await factsOf(source, entries));
      expect(await target.keysPerDatabase()).toEqual(await source.keysPerDatabase());
    },
    TIME_LIMIT_MS,
  );
});

const [oldest = "redis-7.0"] = availableServers();

test(
  "leaves what exists, and replaces it only where that is asked for",
  async () => {
    await using target = await startServer(oldest);
    await target.send("SET", "b", "theirs");
    const entries = ["a", "b", "c"].map((key) => stringEntry(key, `ours ${key}`));
    const first = await bring(entries, target.url());
    expect(first.counts).toMatchObject({ restored: 2, existed: 1, replaced: 0 });
    expect(first.told.existed).toEqual(["b"]);
    expect(await target.send("MGET", "a", "b", "c")).toEqual(["ours a", "theirs", "ours c"]);
    await target.send("DEL", "c");
    const second = await bring(entries, target.url(), { replace: true });
    expect(second.counts).toMatchObject({ restored: 1, existed: 0, replaced: 2 });
    expect(await target.send("MGET", "a", "b", "c")).toEqual(["ours a", "ours b", "ours c"]);
  },
  TIME_LIMIT_MS,
);

test(
  "gives times to live as moments, and sends nothing whose time is over, not even to replace",
  async () => {
    await using target = await startServer(oldest);
    await target.send("SET", "over", "theirs");
    const atMs = Date.now() + HOUR_MS;
    const entries = [
      { ...stringEntry("over", "ours"), expiresAtMs: Date.now() - HOUR_MS },
      { ...stringEntry("soon", "ours"), expiresAtMs: atMs },
      stringEntry("ever", "ours"),
    ];
    const { counts, told } = await bring(entries, target.url(), { replace: true });
    expect(counts).toMatchObject({ restored: 2, expired: 1 });
    expect(told.expired).toEqual(["over"]);
    expect(await target.send("GET", "over")).toBe("theirs");
    expect(await target.send("PEXPIRETIME", "soon")).toBe(atMs);
    expect(await target.send("PEXPIRETIME", "ever")).toBe(-1);
  },
  TIME_LIMIT_MS,
);

test(
  "brings along how long a key wasn't used, and how often it was",
  async () => {
    await using idle = await startServer(oldest, { args: ["--maxmemory-policy", "allkeys-lru"] });
    await bring([{ ...stringEntry("k", "v"), idleSeconds: 5000 }], idle.url());
    expect(Number(await idle.send("OBJECT", "IDLETIME", "k"))).toBeGreaterThanOrEqual(5000);
    await using often = await startServer(oldest, { args: ["--maxmemory-policy", "allkeys-lfu"] });
    await bring([{ ...stringEntry("k", "v"), frequency: 77 }], often.url());
    expect(await often.send("OBJECT", "FREQ", "k")).toBe(77);
    // Whoever has no use for it passes over it.
    const { counts } = await bring([{ ...stringEntry("l", "v"), frequency: 77 }], idle.url());
    expect(counts.restored).toBe(1);
  },
  TIME_LIMIT_MS,
);

test(
  "takes names with line ends and bytes that are no text, and values larger than a batch",
  async () => {
    await using target = await startServer(oldest);
    const names = [Buffer.from("a\r\nb"), Buffer.of(0xff, 0x00, 0xfe), Buffer.alloc(0)];
    const large = "x".repeat(20 * 1024 * 1024);
    const entries = [
      stringEntry("large", large),
      ...names.map((key) => ({ ...stringEntry("", "v"), key })),
      stringEntry("next", "v"),
    ];
    const { counts, error } = await bring(entries, target.url());
    expect(error).toBeUndefined();
    expect(counts.restored).toBe(5);
    expect(await target.send("STRLEN", "large")).toBe(large.length);
    for (const name of names) expect(await target.send("GET", name)).toBe("v");
  },
  TIME_LIMIT_MS,
);

test(
  "goes on with the others where a value is refused",
  async () => {
    await using target = await startServer(oldest);
    const broken = { ...stringEntry("broken", "v"), opcode: 4, kind: "hash" };
    const { counts, all } = await bring([broken, stringEntry("k", "v")], target.url());
    expect(counts).toMatchObject({ restored: 1, failed: 1 });
    expect(all.map(({ why }) => why)).toEqual([expect.stringContaining("Bad data format")]);
  },
  TIME_LIMIT_MS,
);

test(
  "goes over a socket and over TLS, with a login",
  async () => {
    await using target = await startServer(oldest, {
      password: "s3cret",
      tls: { clients: "no" },
      unixSocket: true,
    });
    const flags = [["tls-ca", certificates.ca]] as const;
    const tls = await bring([stringEntry("a", "v")], target.url("tls"), { flags });
    expect(tls.counts.restored).toBe(1);
    const password = fixedPassword("--into-password-file", "s3cret");
    const unix = await bring([stringEntry("b", "v")], target.url("unix"), { password });
    expect(unix.counts.restored).toBe(1);
    // The certificate counts.
    const unverified = await rejectionOf(() => bring([stringEntry("c", "v")], target.url("tls")));
    expect(unverified).toMatchObject({ code: "TLS_FAILED" });
    const without = await rejectionOf(() => bring([stringEntry("c", "v")], target.url("unix")));
    expect(without).toMatchObject({ code: "AUTH_FAILED" });
    expect(without.message).toContain("--into-password-file");
    const wrong = fixedPassword("--into-password-file", "oth3r");
    const refused = await rejectionOf(() => bring([], target.url("unix"), { password: wrong }));
    expect(refused).toMatchObject({ code: "AUTH_FAILED" });
    expect(refused.message).not.toContain("oth3r");
  },
  TIME_LIMIT_MS,
);
