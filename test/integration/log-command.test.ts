import { afterAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { filesOf } from "../../src/store/generation/layout.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const dir = tempDir("log-command");
afterAll(() => dir.remove());
let places = 0;

/** A line of `replica log --json`. */
interface Line {
  readonly offset: number;
  readonly end: number;
  readonly time: string | null;
  readonly db: number;
  readonly command: string;
  readonly keys: readonly (string | { readonly base64: string })[];
  readonly args: readonly (string | { readonly base64: string })[];
  readonly transaction?: { readonly offset: number; readonly end: number };
}

function linesIn(stdout: string): Line[] {
  // The last one may still be coming.
  return stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

async function linesOf(source: string, ...options: string[]): Promise<Line[]> {
  const { exitCode, stdout, stderr } = await runReplica(["log", source, "--json", ...options]);
  if (exitCode !== 0) throw new Error(stderr);
  return linesIn(stdout);
}

function follow(primary: RealServer, data: string, ...more: string[]): ReplicaProcess {
  return startReplica([primary.url(), "--dir", data, "--port", "0", ...more]);
}

/** Waits until all that the primary has streamed is durable in a data directory. */
async function durable(primary: RealServer, data: string): Promise<void> {
  const end = await primary.offset();
  await until(
    () => {
      using catalogue = new Catalogue(data);
      return (catalogue.generations.at(-1)?.durableOffset ?? -1) >= end;
    },
    { what: `offset ${end} to be durable` },
  );
}

const BINARY = Buffer.from([0, 1, 255, 10, 13]);
/** What a primary streams as it was sent. */
const COMMANDS: readonly (readonly (string | Buffer)[])[] = [
  ["SET", "user:42:name", "Ann"],
  ["SET", BINARY, Buffer.from([0xff, 0xfe])],
  ["SET", "new\nline", 'quotes " and \\'],
  ["MSET", "a", "1", "b", "2"],
  ["HSET", "user:42:h", "f", "v"],
  ["RPUSH", "list", "1", "2", "3"],
  ["SADD", "set1", "x"],
  ["SADD", "set2", "y"],
  ["ZADD", "z", "1", "m"],
  ["XADD", "stream", "1-1", "f", "v"],
  ["SUNIONSTORE", "both", "set1", "set2"],
  ["RENAME", "a", "user:42:renamed"],
  ["BITOP", "AND", "bits", "b", "b"],
  ["LMOVE", "list", "list2", "LEFT", "RIGHT"],
  ["SET", "big", "v".repeat(700_000)],
  ["DEL", "b", "list"],
  ["XGROUP", "CREATE", "stream", "group", "0"],
  ["PUBLISH", "channel", "message"],
];

const wordOf = (word: string | { readonly base64: string }) =>
  typeof word === "string" ? word : Buffer.from(word.base64, "base64").toString("latin1");
const textOf = (word: string | Buffer) =>
  typeof word === "string" ? word : word.toString("latin1");

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("the log shows exactly what was written, in order, from a directory and an archive", async () => {
    const [data, archive] = [dir.file(`data-${places}`), dir.file(`archive-${places++}`)];
    const key = await generateX25519Identity();
    const identity = dir.file(`identity-${places}`);
    fs.writeFileSync(identity, `${key}\n`);
    await using primary = await startServer(kind);
    const recipient = await identityToRecipient(key);
    const archiving = ["--archive", `file://${archive}`, "--archive-every", "1s"];
    await using replica = follow(primary, data, ...archiving, "--archive-recipient", recipient);
    await replica.waitForLine(/connected by full resync/);
    for (const [name, ...args] of COMMANDS) await primary.send(String(name), ...args);
    await using client = await primary.connect();
    await client.send("SELECT", 5);
    await client.send("SET", "other:db", 1);
    await client.exchange([["MULTI"], ["SET", "t1", 1], ["DEL", "t1"], ["EXEC"]]);
    await durable(primary, data);
    const inArchive = ["--archive-identity", identity];
    await until(
      async () => {
        const { stdout } = await runReplica(["log", `file://${archive}`, "--json", ...inArchive]);
        return stdout.includes('"DEL","keys":["t1"]');
      },
      { what: "the last command to be archived" },
    );
    const from = ["--from", "now", "--follow", "--json"];
    await using reader = startReplica(["log", `file://${archive}`, ...inArchive, ...from]);
    await reader.waitForLine(/--from now is/);
    await client.send("SET", "followed", 1);
    await until(() => reader.stdout.includes("followed"), { what: "the archive to be followed" });
    expect(linesIn(reader.stdout)).toMatchObject([{ db: 5, args: ["followed", "1"] }]);
    expect((await reader.stop()).exitCode).toBe(0);
    expect((await replica.stop()).exitCode).toBe(0);

    const lines = await linesOf(data);
    const found = lines.map(({ command, args }) => [command, ...args.map(wordOf)]);
    expect(found).toEqual([
      ...COMMANDS.map((words) => words.map(textOf)),
      ["SET", "other:db", "1"],
      ["SET", "t1", "1"],
      ["DEL", "t1"],
      ["SET", "followed", "1"],
    ]);
    expect(lines.map(({ db }) => db)).toEqual([...COMMANDS.map(() => 0), 5, 5, 5, 5]);
    lines.forEach(({ offset, end, time }, index) => {
      expect(end).toBeGreaterThan(offset);
      expect(offset).toBeGreaterThanOrEqual(lines[index - 1]?.end ?? 0);
      expect(Date.parse(time!)).toBeGreaterThanOrEqual(Date.parse(lines[index - 1]?.time ?? time!));
    });
    const [set, del] = lines.slice(-3);
    expect(set!.transaction).toEqual(del!.transaction!);
    expect(set!.transaction!.offset).toBeLessThan(set!.offset);
    expect(set!.transaction!.end).toBeGreaterThan(del!.end);
    const keysOf = (name: string) => lines.find(({ command }) => command === name)!.keys;
    expect(keysOf("SUNIONSTORE")).toEqual(["both", "set1", "set2"]);
    expect(keysOf("BITOP")).toEqual(["bits", "b", "b"]);
    expect(keysOf("XGROUP")).toEqual(["stream"]);
    expect(keysOf("PUBLISH")).toEqual([]);
    expect(lines[1]!.keys).toEqual([{ base64: BINARY.toString("base64") }]);

    expect(await linesOf(`file://${archive}`, ...inArchive)).toEqual(lines);
    const ofUser = ["--key", "user:42:*", "--key", "nothing:*"];
    const named = (some: readonly Line[]) => some.map(({ command }) => command);
    expect(named(await linesOf(data, ...ofUser))).toEqual(["SET", "HSET", "RENAME"]);
    expect(named(await linesOf(data, ...ofUser, "--command", "rename"))).toEqual(["RENAME"]);
    expect(await linesOf(data, "--db", "5")).toEqual(lines.slice(-4));
    expect(await linesOf(data, "--limit", "2")).toEqual(lines.slice(0, 2));
    expect(await linesOf(data, "--from", `offset:${lines[4]!.end}`)).toEqual(lines.slice(5));
    expect(await linesOf(data, "--from", String(lines[4]!.end))).toEqual(lines.slice(5));
    expect(named(await linesOf(data, "--all", "--db", "5"))).toContain("MULTI");
  }, 150_000);

  test("the offset that it shows brings back what was just deleted", async () => {
    const data = dir.file(`data-${places++}`);
    await using primary = await startServer(kind);
    await using replica = follow(primary, data);
    await replica.waitForLine(/connected by full resync/);
    await primary.send("SET", "user:42:cart", "full");
    await primary.send("SET", "other", "1");
    await primary.send("DEL", "user:42:cart");
    await primary.send("SET", "other", "2");
    await durable(primary, data);
    const [del] = await linesOf(data, "--key", "user:42:*", "--command", "del");
    const valuesAt = async (offset: number) => {
      const target = dir.file(`target-${places++}`);
      const done = await runReplica(["restore", data, target, "--offset", String(offset)]);
      expect(done.exitCode).toBe(0);
      await using server = await bootCopy(kind, `${target}/${APPEND_DIR}`);
      return await server.send("MGET", "user:42:cart", "other");
    };
    expect(await valuesAt(del!.offset)).toEqual(["full", "1"]);
    expect(await valuesAt(del!.end)).toEqual([null, "1"]);
  }, 150_000);

  test("is followed through new generations, restarts and a full resync; each command once, in order", async () => {
    const data = dir.file(`data-${places++}`);
    await using primary = await startServer(kind);
    let replica = follow(primary, data);
    await replica.waitForLine(/connected by full resync/);
    await using log = startReplica(["log", data, "--follow", "--json", "--key", "n:*"]);
    let next = 0;
    const write = async (count: number) => {
      const some = Array.from({ length: count }, () => ["SET", `n:${next}`, next++]);
      await primary.sendAll(some);
    };
    const shown = () => linesIn(log.stdout).map(({ keys }) => keys[0]);
    const seen = async () => {
      await until(() => shown().length >= next, { what: `${next} commands to be shown` });
    };
    await write(500);
    await seen();
    // A new generation.
    process.kill(replica.pid, "SIGUSR1");
    await write(300);
    await replica.waitForLine(/generation 2 replaces generation 1/);
    await write(300);
    await seen();
    // A restart, and what comes meanwhile.
    await replica.kill9();
    await write(200);
    await using second = follow(primary, data);
    replica = second;
    await replica.waitForLine(/connected/);
    await write(200);
    await seen();
    // A log reader that begins where another one was.
    const [from] = linesIn(log.stdout).slice(-150);
    const rest = await linesOf(data, "--from", `offset:${from!.end}`, "--key", "n:*");
    expect(rest.map(({ keys }) => keys[0])).toEqual(shown().slice(-149));
    // Another history: a primary that was restarted without its data.
    await primary.restart({});
    await replica.waitForLine(/at offset \d+ generation=3/);
    await write(100);
    await seen();
    expect(shown()).toEqual(Array.from({ length: next }, (_, n) => `n:${n}`));
    expect(log.stderr).toContain("generation 3 begins another history");
    expect(await log.stop()).toMatchObject({ exitCode: 0 });
    expect((await linesOf(data, "--key", "n:*")).map(({ keys }) => keys[0])).toEqual(shown());
  }, 150_000);
});

describe("bad input", () => {
  const data = dir.file("bad-input");
  const filled = (async () => {
    const [kind] = availableServers();
    await using primary = await startServer(kind!);
    await using replica = follow(primary, data);
    await replica.waitForLine(/connected by full resync/);
    await primary.sendAll(Array.from({ length: 30_000 }, (_, n) => ["SET", `key:${n}`, n]));
    await durable(primary, data);
    await replica.stop();
  })();

  test("says what is wrong, and what is kept", async () => {
    await filled;
    const refusal = async (...args: string[]) => {
      const { exitCode, stderr } = await runReplica(["log", ...args]);
      return [exitCode, stderr];
    };
    const cluster = dir.file("cluster");
    fs.mkdirSync(cluster);
    fs.writeFileSync(`${cluster}/cluster.db`, "");
    const cases: [string[], RegExp][] = [
      [[dir.file("nothing")], /isn't a replica data directory/],
      [
        [data, "--from", "99999999999"],
        /neither an offset nor a time.*the kept offsets are from 0/,
      ],
      [[data, "--from", "offset:x"], /it takes a whole number/],
      [[data, "--from", "offset:99999999"], /offset 99999999 is not kept in/],
      [[data, "--to", "2001-01-01"], /is before all that .* the kept times are from/],
      [[data, "--from", "yesterday"], /ISO 8601.*or offset:N; the kept offsets/],
      [[data, "--to", "now", "--follow"], /give --to or --follow, not both/],
      [[data, "--limit", "some"], /--limit is "some": it takes a whole number/],
      [[data, "--key", "k".repeat(70_000)], /a pattern of --key has up to 65536 bytes/],
      [[`file://${dir.file("no-archive")}`], /archive/],
      [[cluster], /holds a whole cluster.*: replica log .*\/cluster\/shards\/0001/],
    ];
    for (const [args, message] of cases) {
      const [exitCode, stderr] = await refusal(...args);
      expect(stderr).toMatch(message);
      expect(exitCode).toBe(2);
    }
  }, 150_000);

  test("a pipe that closes ends it quietly", async () => {
    await filled;
    const { stdout, stderr, exitCode } = await runReplica([data, "x"], {
      under: ["sh", "-c", '"$0" log "$1" | head -n 2'],
    });
    expect([stdout.split("\n").length, stderr, exitCode]).toEqual([3, "", 0]);
  }, 150_000);

  test("damage is told after what comes before it, with exit code 3", async () => {
    await filled;
    const damaged = dir.file("damaged");
    fs.cpSync(data, damaged, { recursive: true, verbatimSymlinks: true });
    using catalogue = new Catalogue(damaged);
    const { log } = filesOf(catalogue.generations[0]!);
    const bytes = fs.readFileSync(log);
    const at = bytes.indexOf("key:20000\r");
    bytes[at - 4] = 0x21;
    fs.writeFileSync(log, bytes);
    const { exitCode, stdout, stderr } = await runReplica(["log", damaged, "--json"]);
    expect(linesIn(stdout)).toHaveLength(20_000);
    expect(stderr).toMatch(/incr\.aof, byte \d+: expected/);
    expect(exitCode).toBe(3);
    // Its database lost: offsets from the files, no times.
    for (const name of fs.readdirSync(damaged)) {
      if (name.startsWith("replica.db")) fs.rmSync(`${damaged}/${name}`);
    }
    const lost = await runReplica(["log", damaged, "--json", "--limit", "1"]);
    expect(linesIn(lost.stdout)).toMatchObject([{ time: null, command: "SET", keys: ["key:0"] }]);
    expect(lost.stderr).toContain("it is missing or empty");
    const timed = await runReplica(["log", damaged, "--from", "now-1h"]);
    expect(timed.stderr).toContain("are unknown: give an offset, as offset:N");
    expect(timed.exitCode).toBe(2);
  }, 150_000);
});
