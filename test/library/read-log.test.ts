import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import {
  follow,
  type LogEntry,
  type LogPosition,
  readLog,
  ReplicaError,
  restore,
  snapshots,
} from "bun-replica";
import { rejectionOf } from "../support/error-of.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { type RealServer, type ServerKind, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

setDefaultTimeout(150_000);

const KIND: ServerKind = "redis-8.0";
const dir = tempDir("log");
const data = dir.file("data");
const archive = `file://${dir.file("archive")}`;
let primary: RealServer;

/** Two generations of one history. */
beforeAll(async () => {
  primary = await startServer(KIND);
  const args = ["--dir", data, "--port", "0", "--archive", archive, "--archive-every", "100ms"];
  await using replica = startReplica(["follow", primary.url(), ...args]);
  await replica.waitForLine(/connected by full resync/);
  for (let n = 0; n < 100; n++) await primary.send("INCR", `counter:${n % 7}`);
  await primary.send("SET", Buffer.from([0xff, 0x0d, 0x0a]), Buffer.from([0x00, 0xfe]));
  replica.signal("SIGUSR1");
  await replica.waitForLine(/generation 2 replaces generation 1/);
  await primary.sendAll([["MULTI"], ["SET", "a", 1], ["HSET", "h", "f", "v"], ["EXEC"]]);
  await primary.send("MSET", "one", 1, "two", 2);
  await primary.acknowledgedBy(1);
  const end = await primary.offset();
  const archivedTo = async () =>
    Math.max(...(await snapshots(archive)).map(({ toOffset }) => toOffset));
  await until(async () => (await archivedTo()) >= end, { what: "the end in the archive" });
  expect((await replica.stop()).exitCode).toBe(0);
});
afterAll(async () => {
  await primary[Symbol.asyncDispose]();
  dir.remove();
});

const text = (bytes: Uint8Array) => {
  const buffer = Buffer.from(bytes);
  return buffer.equals(Buffer.from(buffer.toString()))
    ? buffer.toString()
    : { base64: buffer.toString("base64") };
};

/** As `--json` says it. */
function asJson({ offset, end, atMs, db, command, keys, args, transaction }: LogEntry) {
  return {
    offset,
    end,
    time: atMs === undefined ? null : new Date(atMs).toISOString(),
    db,
    command,
    keys: keys.map(text),
    args: args.map(text),
    ...(transaction && { transaction: { offset: transaction.offset, end: transaction.end } }),
  };
}

describe.each([
  ["a data directory", () => data],
  ["an archive", () => archive],
])("of %s", (_kind, source) => {
  test("gives what the command shows", async () => {
    const entries = await Array.fromAsync(readLog(source()));
    const { stdout } = await runReplica(["log", source(), "--json"]);
    const lines = stdout.trimEnd().split("\n");
    expect(entries.map(asJson)).toEqual(lines.map((line) => JSON.parse(line)));
    expect(entries).toHaveLength(104);
    const [kept] = await snapshots(source());
    expect(new Set(entries.map(({ replid }) => replid))).toEqual(
      new Set([kept!.replicationIds[0]!.replid]),
    );
  });

  test("goes on behind any position that an entry gave", async () => {
    const all = await Array.fromAsync(readLog(source()));
    for (let at = 0; at < all.length; at += 13) {
      const { end: offset, replid } = all[at]!;
      const [next] = await Array.fromAsync(readLog(source(), { from: { offset, replid } }));
      expect(next).toEqual(all[at + 1]!);
      const [same] = await Array.fromAsync(
        readLog(source(), { from: offset, to: all[at + 1]!.end }),
      );
      expect(same).toEqual(all[at + 1]!);
    }
  });

  test("goes on where a restore ended", async () => {
    const all = await Array.fromAsync(readLog(source()));
    const { offset, replid } = all[50]!;
    using own = tempDir("log");
    const restored = await restore(source(), own.file("target"), { offset });
    expect(restored).toMatchObject({ offset, replid });
    const [next] = await Array.fromAsync(readLog(source(), { from: restored }));
    expect(next).toEqual(all[50]!);
  });

  test("chooses by key, command, database and time", async () => {
    const chosen = async (options: Parameters<typeof readLog>[1]) =>
      (await Array.fromAsync(readLog(source(), options))).map(({ command }) => command);
    expect(await chosen({ keys: "counter:3" })).toEqual(Array(14).fill("INCR"));
    expect(await chosen({ keys: ["h", "two"] })).toEqual(["HSET", "MSET"]);
    expect(await chosen({ commands: "hset" })).toEqual(["HSET"]);
    expect(await chosen({ db: 3 })).toEqual([]);
    expect(await chosen({ all: true, commands: ["MULTI", "EXEC"] })).toEqual(["MULTI", "EXEC"]);
    expect((await chosen({ from: new Date(0) })).length).toBeGreaterThan(100);
  });

  test("another history at that offset is a gap", async () => {
    const [, entry] = await Array.fromAsync(readLog(source()));
    const from = { offset: entry!.end, replid: "f".repeat(40) };
    const error = await rejectionOf(async () => await Array.fromAsync(readLog(source(), { from })));
    expect(error).toMatchObject({ code: "LOG_GAP", retry: "never" });
    expect(error.message).toContain("has another one there");
  });
});

test("follows while a program writes, through restarts of both, each command once", async () => {
  using own = tempDir("log");
  const target = own.file("data");
  const settings = { url: primary.url(), dir: target, fsync: "always", retryMax: "50ms" } as const;
  let following = follow(settings);
  await until(() => following.status()?.generation, { what: "a first generation" });
  const seen: string[] = [];
  let position: LogPosition | undefined;
  for (let round = 0; round < 5; round++) {
    const stopping = new AbortController();
    const read = async () => {
      const more = { from: position, follow: true, keys: "f:*", signal: stopping.signal };
      for await (const { args, end: offset, replid } of readLog(target, more)) {
        seen.push(Buffer.from(args[0]!).toString());
        position = { offset, replid };
      }
    };
    const reading = read().catch((error: unknown) => error);
    for (let n = 0; n < 20; n++) await primary.send("SET", `f:${round}:${n}`, n);
    if (round === 2) {
      await following.stop();
      following = follow(settings);
    }
    await until(() => seen.length >= 20 * (round + 1), { what: "all to be read" });
    const reason = new Error("enough");
    stopping.abort(reason);
    expect(await reading).toBe(reason);
  }
  await following.stop();
  const wanted = Array.from({ length: 100 }, (_, at) => `f:${Math.floor(at / 20)}:${at % 20}`);
  expect(seen).toEqual(wanted);
});

test("a full resync to another history is a gap: an error, or a sentence", async () => {
  using own = tempDir("log");
  const target = own.file("data");
  const options = { dir: target, adopt: true, retryMax: "50ms" };
  const write = async (server: RealServer, key: string) => {
    await using following = follow({ ...options, url: server.url() });
    await until(() => following.status()?.state === "connected", { what: "a link" });
    await server.send("SET", key, 1);
    const end = await server.offset();
    await until(() => following.status()!.cursors.received >= end, { what: "all of it" });
  };
  await write(primary, "before");
  const [entry] = await Array.fromAsync(readLog(target, { keys: "before" }));
  await using other = await startServer(KIND);
  await write(other, "after");
  const seen: string[] = [];
  const error = await rejectionOf(async () => {
    for await (const { command } of readLog(target)) seen.push(command);
  });
  expect(error).toMatchObject({ code: "LOG_GAP" });
  expect(error.message).toContain("another history");
  expect(seen).toEqual(["SET"]);
  const gaps: string[] = [];
  const all = await Array.fromAsync(readLog(target, { onGap: (gap) => gaps.push(gap) }));
  expect(all.map(({ keys }) => Buffer.from(keys[0]!).toString())).toEqual(["before", "after"]);
  expect(gaps).toHaveLength(1);
  expect(new Set(all.map(({ replid }) => replid)).size).toBe(2);
  const { end: offset, replid } = entry!;
  const from = { offset, replid };
  const later = await rejectionOf(async () => await Array.fromAsync(readLog(target, { from })));
  expect(later).toMatchObject({ code: "LOG_GAP" });
});

test("leaving early closes what is open", async () => {
  for (const source of [data, archive]) {
    for await (const _ of readLog(source, { follow: true })) break;
  }
  const open = () =>
    readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
  await until(() => open().every((path) => !path.startsWith(dir.path)), { what: "all closed" });
});

describe("refuses", () => {
  const cases: [string, () => AsyncIterable<LogEntry>, RegExp][] = [
    ["no source", () => readLog(undefined as never), /source is undefined/],
    ["a file", () => readLog(import.meta.path), /is a file/],
    ["a folder of something else", () => readLog(dir.path), /isn't a replica data directory/],
    ["an offset that isn't kept", () => readLog(data, { from: 2 ** 50 }), /is not kept/],
    ["an offset that is none", () => readLog(data, { from: -1 }), /whole number/],
    ["a bound that is none", () => readLog(data, { from: "now" as never }), /takes an offset/],
    ["an end before the beginning", () => readLog(data, { to: new Date(0) }), /before all/],
    ["an end of what is followed", () => readLog(data, { to: 1, follow: true }), /not both/],
    ["an empty pattern", () => readLog(data, { keys: [""] }), /keys is ""/],
  ];
  test.each(cases)("%s", async (_what, read, said) => {
    const error = await rejectionOf(async () => await Array.fromAsync(read()));
    expect(error).toBeInstanceOf(ReplicaError);
    expect(error).toMatchObject({ code: "USAGE", retry: "never" });
    expect(error.message).toMatch(said);
  });
});
