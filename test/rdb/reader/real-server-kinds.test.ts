import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Crc64 } from "../../../src/rdb/crc64.ts";
import { listpack, raw, str } from "../../support/rdb-bytes.ts";
import { availableServers, type RealServer, startServer } from "../../support/servers.ts";
import { outermost } from "../../support/sweep.ts";
import { until } from "../../support/wait.ts";
import { read } from "./read.ts";

const TIMEOUT_MS = 150_000;

async function saved(server: RealServer): Promise<ReturnType<typeof read>> {
  await server.send("SAVE");
  const rdb = readFileSync(join(server.dir, "dump.rdb"));
  return read(rdb, [100_000]);
}

describe.each([...outermost(availableServers())])("%s", (kind) => {
  test(
    "tells how long keys were idle, and how often they are used",
    async () => {
      await using server = await startServer(kind, {
        args: ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"],
      });
      await server.send("SET", "plain", "x");
      await server.send("COPY", "plain", "other");
      const byLru = await saved(server);
      expect(byLru.told.map(({ idleSeconds }) => typeof idleSeconds)).toEqual(
        byLru.told.map(() => "number"),
      );
      for (const { key, idleSeconds, frequency } of byLru.told) {
        const idle = Number(await server.send("OBJECT", "IDLETIME", key));
        expect(frequency).toBeUndefined();
        // The clock of evictions ticks in seconds.
        expect(idle - idleSeconds!).toBeWithin(0, 60);
      }
      await server.send("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu");
      for (let n = 0; n < 200; n++) await server.send("SET", "often", n);
      const byLfu = await saved(server);
      for (const { key, idleSeconds, frequency } of byLfu.told) {
        expect(idleSeconds).toBeUndefined();
        expect(frequency).toBe(Number(await server.send("OBJECT", "FREQ", key)));
      }
      const often = byLfu.told.find(({ key }) => key === "often");
      expect(often?.frequency).toBeGreaterThan(5);
    },
    TIMEOUT_MS,
  );

  test(
    "counts what has more entries than a listpack's head can say",
    async () => {
      await using server = await startServer(kind, {
        args: ["--hash-max-listpack-entries", "100000", "--sanitize-dump-payload", "no"],
      });
      const entries = Array.from({ length: 66_000 }, (_, n) => (n % 2 === 0 ? `field ${n}` : n));
      const version = kind === "redis-7.0" ? 10 : 11;
      const body = raw(16, str(listpack(entries)), version, 0);
      const crc = new Crc64();
      crc.update(body);
      const sum = Buffer.alloc(8);
      sum.writeBigUInt64LE(crc.value);
      await server.send("RESTORE", "many", 0, Buffer.concat([body, sum]));
      expect(await server.send("OBJECT", "ENCODING", "many")).toBe("listpack");
      expect(await server.send("HLEN", "many")).toBe(33_000);
      for (const compression of ["no", "yes"]) {
        await server.send("CONFIG", "SET", "rdbcompression", compression);
        const { told } = await saved(server);
        expect(told).toMatchObject([{ key: "many", encoding: "listpack", elements: 33_000 }]);
      }
    },
    TIMEOUT_MS,
  );

  test(
    "reads what a node of a cluster writes",
    async () => {
      await using server = await startServer(kind, { args: ["--cluster-enabled", "yes"] });
      await server.send("CLUSTER", "ADDSLOTSRANGE", 0, 16_383);
      await until(
        async () => String(await server.send("CLUSTER", "INFO")).includes("cluster_state:ok"),
        { timeoutMs: TIMEOUT_MS, what: "the cluster to be whole" },
      );
      const names = Array.from({ length: 50 }, (_, n) => `key:${n}`);
      for (const name of names) await server.send("SET", name, name);
      const { told, summary } = await saved(server);
      expect(told.map(({ key }) => key).toSorted()).toEqual(names.toSorted());
      expect(summary.checked).toBe(true);
    },
    TIMEOUT_MS,
  );
});
