import { expect, test } from "bun:test";
import { join } from "node:path";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { follow } from "../../support/following.ts";
import {
  availableServers,
  bootCopy,
  bootCopyOfDir,
  type RealServer,
  startServer,
} from "../../support/servers.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

type Command = readonly (string | number)[];

const FIELD = ["FIELDS", 1, "f"] as const;
/** Its field is due when the transaction is over, and alive in all of it: in there, time stands still. */
const soon = (key: string): Command[] => [
  ["HSET", key, "f", 10, "other", 1],
  ["HPEXPIRE", key, 1, ...FIELD],
];
const FAR: Command = ["PXAT", 4_102_444_800_000];

/** What Redis forgets where it is loaded late: by the key that shows it. */
const LOST: Record<string, readonly Command[]> = {
  persisted: [...soon("persisted"), ["HPERSIST", "persisted", ...FIELD]],
  gotten: [...soon("gotten"), ["HGETEX", "gotten", "PERSIST", ...FIELD]],
  copied: [...soon("source"), ["COPY", "source", "copied"], ["HPERSIST", "copied", ...FIELD]],
  renamed: [...soon("name"), ["RENAME", "name", "renamed"], ["HPERSIST", "renamed", ...FIELD]],
  scripted: [
    ...soon("scripted"),
    ["EVAL", "return redis.call('HPERSIST', KEYS[1], 'FIELDS', 1, 'f')", 1, "scripted"],
  ],
  counted: [
    ...soon("counted"),
    ["HINCRBY", "counted", "f", 5],
    ["HPEXPIRE", "counted", 1_000_000, ...FIELD],
  ],
  replaced: [...soon("replaced"), ["HSETEX", "replaced", "FXX", ...FAR, "FIELDS", 1, "f", "new"]],
  sorted: [
    ["RPUSH", "list", 1, 2],
    ["HSET", "weight1", "f", 2],
    ["HSET", "weight2", "f", 1],
    ["HPEXPIRE", "weight1", 1, ...FIELD],
    ["HPEXPIRE", "weight2", 1, ...FIELD],
    ["SORT", "list", "BY", "weight*->f", "GET", "weight*->f", "STORE", "sorted"],
  ],
};

/** A default user who may not run one command of the scripts. Transactions need the other ones. */
const RESTRICTED = "default on nopass ~* &* +@all -hpexpiretime".split(" ");

/** What survives anyway. */
const KEPT: Record<string, readonly Command[]> = {
  extended: [...soon("extended"), ["HPEXPIRE", "extended", 1_000_000, "GT", ...FIELD]],
  rewritten: [...soon("rewritten"), ["HSET", "rewritten", "f", "new"]],
  prolonged: [...soon("prolonged"), ["HGETEX", "prolonged", "PX", 1_000_000, ...FIELD]],
  key: [
    ["SET", "key", 1, "PX", 1],
    ["INCR", "key"],
    ["PERSIST", "key"],
  ],
};

/** The commands of an HPERSIST, which a downstream loses where it comes late. */
const LOST_DOWNSTREAM = ["persisted", "gotten", "copied", "renamed", "scripted"];

async function shown(server: RealServer, key: string): Promise<string> {
  switch (await server.send("TYPE", key)) {
    case "hash":
      return String(await server.send("HGET", key, "f"));
    case "list":
      return JSON.stringify(await server.send("LRANGE", key, 0, -1));
    default:
      return String(await server.send("GET", key));
  }
}

async function allShown(server: RealServer): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const key of [...Object.keys(LOST), ...Object.keys(KEPT)])
    all[key] = await shown(server, key);
  return all;
}

const kinds = availableServers().filter((kind) => kind === "redis-8.0" || kind === "valkey-9");

test.concurrent.each(kinds)(
  "a restore replays what looks at the clock as it was: the fields of %s",
  async (kind) => {
    using dir = tempDir("fields");
    await using primary = await startServer(kind);
    await using replica = follow(primary.url(), realDisk, dir, { fsync: "always" });
    await replica.connected();
    const loads = [...Object.values(LOST), ...Object.values(KEPT)];
    for (const commands of loads) {
      await primary.sendAll([["MULTI"], ...commands, ["EXEC"]]);
    }
    const dueMs = Date.now() + 50;
    await until(() => Date.now() > dueMs, { what: "the fields to be due" });
    await primary.acknowledgedBy(1);
    const there = await allShown(primary);
    expect(Object.values(there)).not.toContain("null");
    expect(there["sorted"]).toBe('["1","2"]');

    await using downstream = await startServer(kind);
    await downstream.send("REPLICAOF", "127.0.0.1", replica.port);
    const end = await primary.offset();
    await until(async () => (await downstream.offset()) >= end, { what: "the downstream" });
    const isRedis = kind === "redis-8.0";
    const late = isRedis ? Object.fromEntries(LOST_DOWNSTREAM.map((key) => [key, "null"])) : {};
    expect(await allShown(downstream)).toEqual({ ...there, ...late });
    // Hidden, it is still there, until the downstream expires fields itself.
    expect(await downstream.send("HLEN", "persisted")).toBe(2);
    await downstream.send("REPLICAOF", "NO", "ONE");
    await until(async () => (await downstream.send("HLEN", "persisted")) === (isRedis ? 1 : 2), {
      what: "the promoted downstream to expire what is due",
    });
    expect(await replica.stop()).toBeUndefined();

    for (const layout of ["multipart", "single"] as const) {
      using catalogue = new Catalogue(replica.path);
      const wanted = { generation: undefined, atMs: undefined, offset: undefined };
      const point = restorePoint(catalogue, wanted);
      const restored = await restore(catalogue, point, dir.file(layout), {
        disk: realDisk,
        layout,
        signal: new AbortController().signal,
        onProgress: () => undefined,
      });
      expect(restored.rewrittenCommands).toBe(isRedis ? Object.keys(LOST).length : 0);
      await using server = await bootCopyOfDir(kind, restored.dir, {
        args: ["--appendonly", "yes"],
      });
      expect(await allShown(server)).toEqual(there);
    }

    if (isRedis) {
      // Its scripts change nothing then, so it counts as Redis does; but it starts.
      await using server = await bootCopyOfDir(kind, dir.file("multipart"), {
        args: ["--appendonly", "yes", "--user", ...RESTRICTED],
      });
      expect(await allShown(server)).toEqual({ ...there, counted: "5", sorted: '["",""]' });
    }

    // The files as they are, as a stock server loads them.
    await using stock = await bootCopy(kind, join(replica.path, "current"));
    const lost = Object.fromEntries(Object.keys(LOST).map((key) => [key, "null"]));
    const wrong = { ...lost, counted: "5", sorted: '["",""]' };
    expect(await allShown(stock)).toEqual(isRedis ? { ...there, ...wrong } : there);
  },
);
