import { describe, expect, test } from "bun:test";
import { rejectionOf } from "../../support/error-of.ts";
import { dumpedEntries } from "../../support/dumped-entries.ts";
import { FakeTarget, infoReply } from "../../support/fake-target.ts";
import { freePort } from "../../support/ports.ts";
import { installed, startServer } from "../../support/servers.ts";
import { IS_FULL } from "../../support/sweep.ts";
import { until } from "../../support/wait.ts";
import { isFollowed } from "../../../src/cli/delivery/followed-primary.ts";
import { bring, openTarget, stringEntries, stringEntry } from "./rig.ts";

const TIME_LIMIT_MS = 150_000;

/** A server that says this of itself, and takes everything. */
function fake(fields: Readonly<Record<string, string>>, restore = "+OK\r\n"): FakeTarget {
  return new FakeTarget(([name]) => {
    if (name === "INFO") return infoReply(fields);
    if (name === "EXISTS") return ":0\r\n";
    return name === "RESTORE" ? restore : "+OK\r\n";
  });
}

const isWrite = (words: readonly string[]) => !["INFO", "SELECT", "EXISTS"].includes(words[0]!);

test("refuses a replica that is read-only, and names its primary", async () => {
  await using primary = await startServer("redis-7.0");
  await using replica = await startServer("redis-7.0");
  await replica.send("REPLICAOF", "127.0.0.1", primary.port);
  await replica.suppliedFrom(primary.port);
  const error = await rejectionOf(() => bring([stringEntry("k", "v")], replica.url()));
  expect(error).toMatchObject({ code: "USAGE" });
  expect(error.message).toContain(`a replica (of 127.0.0.1:${primary.port}), and read-only`);
});

describe("by what it says of itself", () => {
  test.each([
    ["its own", { master_replid: "a1" }, true],
    ["that of before a failover", { master_replid: "b2", master_replid2: "a1" }, true],
    ["another one", { master_replid: "b2", master_replid2: "0".repeat(40) }, false],
  ] as const)("knows the primary of a history by an id: %s", async (_, fields, isIt) => {
    using server = fake(fields);
    using target = await openTarget(server.url);
    const replicationIds = new Set(["a1", "0".repeat(40)]);
    expect(isFollowed(target, { source: "DIR", replicationIds, urls: [] })).toBe(isIt);
  });

  test.each([
    [
      "that is loading",
      { loading: "1", loading_loaded_perc: "12.34" },
      "still loading",
      "TARGET_REFUSED",
    ],
    [
      "that is a replica of this kind",
      { state: "connected", ready: "1" },
      "takes no writes",
      "USAGE",
    ],
    ["without a version", { redis_version: "" }, "which version it is", "TARGET_REFUSED"],
  ] as const)("refuses a server %s", async (_, fields, message, code) => {
    using target = fake(fields);
    const error = await rejectionOf(() => bring([stringEntry("k", "v")], target.url));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(target.commands.filter(isWrite)).toEqual([]);
  });

  test("counts an expiry from now before Redis 5.0, by its own clock", async () => {
    // It is an hour behind.
    const timeMs = Date.now() - 3_600_000;
    using target = fake({ redis_version: "4.0.14", server_time_usec: String(timeMs * 1000) });
    const entry = { ...stringEntry("k", "v"), expiresAtMs: timeMs + 60_000, idleSeconds: 7 };
    const { counts } = await bring([{ ...entry, rdbVersion: 8 }], target.url, { replace: true });
    expect(counts.restored).toBe(1);
    const [[name, key, ttl, , ...more] = []] = target.commands.filter(isWrite);
    expect([name, key, more]).toEqual(["RESTORE", "k", ["REPLACE"]]);
    expect(Number(ttl)).toBeGreaterThan(0);
    expect(Number(ttl)).toBeLessThanOrEqual(60_000);
  });

  test("warns where its memory would fill up, and says what it does then", async () => {
    const memory = { maxmemory: "1000", used_memory: "900" };
    using refuses = fake({ ...memory, maxmemory_policy: "noeviction" });
    const entries = stringEntries(20);
    expect((await bring(entries, refuses.url)).warnings).toEqual([expect.stringContaining("OOM")]);
    using evicts = fake({ ...memory, maxmemory_policy: "allkeys-lru" });
    const { warnings } = await bring(entries, evicts.url);
    expect(warnings).toEqual([expect.stringContaining("evict other keys (allkeys-lru)")]);
    using roomy = fake({ ...memory, maxmemory: "1000000" });
    expect((await bring(entries, roomy.url)).warnings).toEqual([]);
  });

  test.each([
    ["# Modules\r\n", true],
    ["# Modules\r\nmodule:name=lua,ver=1\r\n", true],
    ["# Modules\r\nmodule:name=other,ver=1\r\n", false],
    ["", false],
  ])(
    "refuses a module's value where none that is loaded can have it: %j",
    async (modules, isRefused) => {
      using target = new FakeTarget(([name]) => {
        if (name === "INFO") return infoReply({}, modules);
        return name === "EXISTS" ? ":0\r\n" : "+OK\r\n";
      });
      // "some-type", version 1, as a 64-bit length.
      const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
      let id = 0n;
      for (const one of "some-type") id = (id << 6n) | BigInt(characters.indexOf(one));
      const value = Buffer.alloc(9);
      value[0] = 0x81;
      value.writeBigUInt64BE((id << 10n) | 1n, 1);
      const entry = { ...stringEntry("v", ""), kind: "module", opcode: 7, value };
      if (!isRefused) {
        expect((await bring([entry], target.url)).counts.restored).toBe(1);
        return;
      }
      const error = await rejectionOf(() => bring([entry], target.url));
      expect(error).toMatchObject({ code: "USAGE" });
      expect(error.message).toContain('"some-type"');
      expect(target.commands.filter(isWrite)).toEqual([]);
    },
  );
});

test.if(installed("redis-8.0") && installed("valkey-9"))(
  "brings a vector set to a server that has them, and to no other",
  async () => {
    await using source = await startServer("redis-8.0");
    await source.send("VADD", "v", "VALUES", 2, 1, 2, "a");
    const found = await dumpedEntries(source, [0]);
    const entries = found.map((entry) => ({ ...entry, kind: "module" }));
    for (const kind of ["redis-7.0", "valkey-9"] as const) {
      await using other = await startServer(kind);
      const error = await rejectionOf(() => bring(entries, other.url()));
      expect(error).toMatchObject({ code: "USAGE" });
      expect(error.message).toContain("vectorset");
    }
    await using target = await startServer("redis-8.0");
    expect((await bring(entries, target.url())).counts.restored).toBe(1);
    expect(await target.send("VEMB", "v", "a")).toEqual(await source.send("VEMB", "v", "a"));
  },
  TIME_LIMIT_MS,
);

test("says that nothing listens, and gives up on a server that stays away", async () => {
  const port = freePort();
  const error = await rejectionOf(() => bring([], `redis://127.0.0.1:${port}`));
  expect(error).toMatchObject({ code: "CONNECT_FAILED" });
  expect(error.message).toContain(String(port));
});

test(
  "counts what is done and lists what is left where a server goes away for good",
  async () => {
    await using target = await startServer("redis-7.0");
    const entries = stringEntries(9_000);
    const delivery = await bring(entries, target.url(), {
      timeoutMs: 700,
      // The first batch is through.
      onSettled: (count) => count === 2_048 && process.kill(target.pid, "SIGKILL"),
    });
    expect(delivery.error?.code).toBe("TIMED_OUT");
    expect(delivery.counts.restored).toBe(2_048);
    expect(delivery.counts.left).toBe(9_000 - 2_048);
    expect(delivery.told.left).toHaveLength(9_000 - 2_048);
    expect(delivery.troubles.length).toBe(1);
  },
  TIME_LIMIT_MS,
);

test.if(installed("redis-8.0"))(
  "refuses what an older server can't load, before anything is written",
  async () => {
    await using newer = await startServer("redis-8.0");
    await using older = await startServer("redis-7.0");
    await newer.send("SET", "text", "v");
    await newer.send("HSET", "hash", "f", "v");
    await newer.send("HPEXPIREAT", "hash", Date.now() + 3_600_000, "FIELDS", 1, "f");
    const entries = await dumpedEntries(newer, [0]);
    const error = await rejectionOf(() => bring(entries, older.url()));
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain(
      "Redis 7.0 and can't load 1 key (hashes with fields that expire",
    );
    expect(error.message).toContain('"hash"');
    expect(error.message).toContain("Redis 7.4 and later can");
    expect(await older.send("DBSIZE")).toBe(0);
    // A type that it knows goes there, whatever made it.
    const { counts } = await bring(await dumpedEntries(newer, [0], "text"), older.url());
    expect(counts.restored).toBe(1);
    expect(await older.send("GET", "text")).toBe("v");
  },
  TIME_LIMIT_MS,
);

test.if(installed("valkey-9"))(
  "keeps Valkey's own form of a hash from every other server",
  async () => {
    await using valkey = await startServer("valkey-9");
    await valkey.send("HSET", "hash", "f", "v");
    await valkey.send("HPEXPIREAT", "hash", Date.now() + 3_600_000, "FIELDS", 1, "f");
    await valkey.send("SADD", "set", "a", "b");
    const entries = await dumpedEntries(valkey, [0]);
    for (const kind of ["redis-7.0", "redis-8.0", "valkey-8.1"] as const) {
      if (!installed(kind)) continue;
      await using other = await startServer(kind);
      const error = await rejectionOf(() => bring(entries, other.url()));
      expect(error.message).toContain("Valkey 9.0 and later can");
      expect(await other.send("DBSIZE")).toBe(0);
      // A type that it knows goes there. Redis 7.0 has no such set.
      if (kind === "redis-7.0") continue;
      const sets = entries.filter((entry) => entry.kind === "set");
      expect((await bring(sets, other.url())).counts.restored).toBe(1);
    }
  },
  TIME_LIMIT_MS,
);

test(
  "names a database that the target lacks",
  async () => {
    await using target = await startServer("redis-7.0", { args: ["--databases", "4"] });
    const entries = [stringEntry("a", "v"), { ...stringEntry("b", "v"), db: 7 }];
    const error = await rejectionOf(() => bring(entries, target.url()));
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain("no database 7");
    expect(await target.send("DBSIZE")).toBe(0);
  },
  TIME_LIMIT_MS,
);

test(
  "stops where the target is full, and says what is left",
  async () => {
    await using target = await startServer("redis-7.0");
    const used = Number((await target.info("memory"))["used_memory"]);
    await target.send("CONFIG", "SET", "maxmemory", used + 10 * 1024 * 1024);
    const entries = stringEntries(400, 100_000);
    const { counts, error, told, warnings } = await bring(entries, target.url());
    expect(warnings).toEqual([expect.stringContaining("will refuse what no longer fits")]);
    expect(error).toMatchObject({ code: "TARGET_REFUSED" });
    expect(error?.message).toContain("is full (OOM");
    expect(counts.restored).toBeGreaterThan(10);
    expect(counts.restored).toBe(Number(await target.send("DBSIZE")));
    expect(counts.restored + counts.left).toBe(400);
    expect(told.left).toHaveLength(counts.left);
  },
  TIME_LIMIT_MS,
);

test(
  "says which right a user lacks, and needs no more than these",
  async () => {
    await using target = await startServer("redis-7.0");
    const url = `redis://bringer:pw@127.0.0.1:${target.port}`;
    const entries = [stringEntry("k", "v"), { ...stringEntry("l", "v"), db: 2 }];
    const rights = ["+info", "+select", "+exists", "+restore"];
    await target.send("ACL", "SETUSER", "bringer", "on", ">pw", "~*", "-@all");
    for (const right of rights) {
      const refused = await bring(entries, url).then(
        ({ error }) => error,
        (error: unknown) => error,
      );
      expect(refused).toMatchObject({ code: "AUTH_FAILED" });
      expect(String(refused)).toContain(`ACL SETUSER bringer ${right}`);
      expect(String(refused)).not.toContain("pw@");
      expect(await target.send("DBSIZE")).toBe(0);
      await target.send("ACL", "SETUSER", "bringer", right);
    }
    expect((await bring(entries, url)).counts.restored).toBe(2);
    await target.send("ACL", "SETUSER", "bringer", "resetkeys", "~mine:*");
    const { error, counts } = await bring([stringEntry("theirs", "v")], url);
    expect(error?.message).toContain("ACL SETUSER bringer ~*");
    expect(counts.left).toBe(1);
  },
  TIME_LIMIT_MS,
);

test(
  "waits out a server that says that it can't now, and a failover",
  async () => {
    let replies = ["-LOADING later\r\n", "-READONLY it isn't the primary any more\r\n", undefined];
    using target = new FakeTarget(([name]) => {
      if (name === "INFO") return infoReply({});
      if (name === "EXISTS") return ":0\r\n";
      if (name !== "RESTORE" || replies.length === 0) return "+OK\r\n";
      const [reply] = replies;
      replies = replies.slice(1);
      return reply;
    });
    const { counts, troubles, error } = await bring([stringEntry("k", "v")], target.url);
    expect(error).toBeUndefined();
    expect(counts.restored).toBe(1);
    expect(troubles).toEqual([expect.stringContaining("LOADING later")]);
    await until(() => target.commands.filter(isWrite).length === 4, { what: "four attempts" });
  },
  TIME_LIMIT_MS,
);

// A gigabyte of memory, here and at the server.
test.if(IS_FULL)(
  "refuses a value that is larger than the target takes, and brings it once that takes more",
  async () => {
    await using target = await startServer("redis-7.0");
    const entry = { ...stringEntry("large", "v".repeat(512 * 1024 * 1024)), key: Buffer.from("k") };
    const error = await rejectionOf(() => bring([entry], target.url()));
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain("takes values of up to 512.0 MiB");
    const command = /CONFIG SET (\S+) (\d+)/.exec(error.message)!;
    await target.send("CONFIG", "SET", command[1]!, command[2]!);
    expect((await bring([entry], target.url())).counts.restored).toBe(1);
    expect(await target.send("STRLEN", "k")).toBe(512 * 1024 * 1024);
  },
  TIME_LIMIT_MS,
);
