import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { limits } from "../../src/config/limits.ts";
import { Crc64 } from "../../src/rdb/crc64.ts";
import { absoluteExpiry, mayExpireRelatively } from "../../src/resp/absolute-expiry.ts";
import { FrameScanner } from "../../src/resp/frame-scanner.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { fillAllTypes } from "../support/fill.ts";
import { follow } from "../support/following.ts";
import { type NaiveFrame, naiveFrames, naiveSafeCut } from "../support/naive-frames.ts";
import { encodeCommand } from "../support/resp.ts";
import {
  type RealServer,
  type ServerKind,
  availableServers,
  bootCopy,
  startServer,
  tool,
} from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { runProgram } from "../support/run-program.ts";
import { until } from "../support/wait.ts";
import { wordsOf } from "../../src/resp/frame-words.ts";

const CHUNK_BYTES = 4099;

/** Scans a log in small chunks; calls `onFrame` at each command. */
function scanLog(log: Buffer, onFrame: (scanner: FrameScanner) => void = () => undefined) {
  const scanner = new FrameScanner({ limits: limits.frame });
  for (let at = 0; at < log.length; at += CHUNK_BYTES) {
    scanner.push(log.subarray(at, at + CHUNK_BYTES));
    while (scanner.next()) onFrame(scanner);
  }
  return scanner;
}

/** Runs commands with expiries of every form, transactions, scripts, functions and several databases. */
async function runCommands(server: RealServer): Promise<void> {
  await using client = await server.connect();
  const run = async (...words: (string | number)[]) =>
    await client.send(String(words[0]), ...words.slice(1));
  await run("SET", "a", 1, "EX", 100);
  await run("SETEX", "b", 100, "v");
  await run("EXPIRE", "a", 200);
  await run("GETEX", "a", "PX", 300_000);
  await run("EXPIRE", "a", -1);
  await run("SET", "short", 1, "PX", 5);
  await until(async () => (await run("EXISTS", "short")) === 0, { what: "the key to expire" });
  for (const words of [["MULTI"], ["SET", "m", 1], ["SELECT", 3], ["SET", "m", 2]]) {
    await run(...words);
  }
  await run("EXPIRE", "m", 50);
  await run("PUBLISH", "channel", "*1\r\n$4\r\nEXEC\r\n");
  await run("EXEC");
  await run("SELECT", 0);
  await run("EVAL", "for i=1,3 do redis.call('set',KEYS[i],i,'EX',100) end", 3, "x", "y", "z");
  await run("EVAL", "redis.call('select',7) redis.call('set','s',1) redis.call('set','t',1)", 0);
  const code = "function(keys) redis.call('set',keys[1],1) redis.call('expire',keys[1],100) end";
  await run("FUNCTION", "LOAD", `#!lua name=lib\nredis.register_function('f', ${code})`);
  await run("FCALL", "f", 1, "by-function");
  await run("EVAL", "redis.call('restore','copy',5000,redis.call('dump','x'))", 0);
  await run("SADD", "set", 1, 2, 3);
  await run("SPOP", "set", 2);
  await run("SET", "large", "\r\n*1\r\n".repeat(50_000));
  await run("SWAPDB", 0, 1);
  await run("FLUSHDB");
  expect(await run("WAIT", 1, 30_000)).toBe(1);
}

/** Returns the log of a replica that followed a real primary through all of that, up to a PING. */
async function captureLog(kind: ServerKind): Promise<Buffer> {
  using dir = tempDir("frames");
  await using server = await startServer(kind, { args: ["--repl-ping-replica-period", "1"] });
  await using replica = follow(server.url(), realDisk, dir);
  await replica.connected();
  await fillAllTypes(server, { keys: 2_000 });
  await runCommands(server);
  const path = join(replica.path, "current", "appendonly.aof.1.incr.aof");
  await until(() => /^ping$/i.test(naiveFrames(readFileSync(path)).at(-1)?.words[0] ?? ""), {
    what: "a PING at the log's end",
  });
  expect(await replica.stop()).toBeUndefined();
  return readFileSync(path);
}

/** The expected results of the scanner, computed from the naive parser's. */
function expectedFrames(frames: readonly NaiveFrame[]) {
  let db = 0;
  return frames.map(({ start, end, words }, index) => {
    if (/^select$/i.test(words[0] ?? "")) db = Number(words[1]);
    const lastSafeCut = naiveSafeCut(frames.slice(0, index + 1));
    return { start, end, args: words.length, db, lastSafeCut };
  });
}

describe.each(availableServers())("the log of a %s primary", (kind) => {
  test("is scanned to its last byte, and has no relative expiry", async () => {
    const log = await captureLog(kind);
    const naive = naiveFrames(log);
    const verbs = new Set(naive.map(({ words }) => words[0]?.toUpperCase()));
    for (const verb of ["MULTI", "EXEC", "SELECT", "PUBLISH", "REPLCONF", "FUNCTION", "PING"]) {
      expect(verbs).toContain(verb);
    }
    const found: object[] = [];
    let expiring = 0;
    const scanner = scanLog(log, ({ start, end, args, verb, db, lastSafeCut }) => {
      found.push({ start, end, args, db, lastSafeCut });
      if (!mayExpireRelatively(verb, args)) return;
      expiring++;
      expect(absoluteExpiry(wordsOf(log.subarray(start, end)), Date.now())).toBeUndefined();
    });
    expect(found).toEqual(expectedFrames(naive));
    expect([scanner.end, scanner.lastSafeCut]).toEqual([log.length, log.length]);
    expect(scanner.atBoundary).toBe(true);
    expect(expiring).toBeGreaterThan(5);
  });
});

/** The position up to which redis-check-aof accepts a file. */
async function checkAof(path: string): Promise<number> {
  const argv = [...tool("redis-7.0", "redis-check-aof"), path];
  const { stdout: said } = await runProgram(argv);
  const goodEnd = /ok_up_to=(\d+)/.exec(said)?.[1];
  if (goodEnd === undefined) throw new Error(`redis-check-aof said: ${said}`);
  return Number(goodEnd);
}

test("finds the same safe cut as redis-check-aof in a log cut at any byte", async () => {
  using dir = tempDir("cut-log");
  const path = dir.file("cut.aof");
  const commands = ["SELECT 2", "SET k v", "MULTI", "SELECT 11", "DEL k", "exec", "PING"];
  const log = Buffer.concat(commands.map((command) => encodeCommand(command.split(" "))));
  const ends = new Set<number>();
  for (let end = 1; end <= log.length; end++) {
    const cut = log.subarray(0, end);
    writeFileSync(path, cut);
    const { lastSafeCut } = scanLog(cut);
    expect([end, lastSafeCut]).toEqual([end, await checkAof(path)]);
    ends.add(lastSafeCut);
  }
  // 0, and the end of each command outside the transaction.
  expect(ends.size).toBe(5);
});

/** A string in the format of DUMP, RDB version of Redis 5 ("Redis, cluster.c": createDumpPayload). */
function dumpOf(text: string): Buffer {
  const body = Buffer.from([0, text.length, ...Buffer.from(text), 9, 0]);
  const crc = new Crc64();
  crc.update(body);
  const tail = Buffer.alloc(8);
  tail.writeBigUInt64LE(BigInt.asUintN(64, crc.value));
  return Buffer.concat([body, tail]);
}

/** Boots a server on an append-only folder with this log and no base. */
async function bootLog(kind: ServerKind, log: Uint8Array): Promise<RealServer> {
  using dir = tempDir("log");
  writeFileSync(
    dir.file("appendonly.aof.manifest"),
    "file appendonly.aof.1.incr.aof seq 1 type i\n",
  );
  writeFileSync(dir.file("appendonly.aof.1.incr.aof"), log);
  return await bootCopy(kind, dir.path);
}

/** Commands in the form in which a primary before 7.0 streams them. */
const OLD_STREAM: (readonly (string | Uint8Array)[])[] = [
  ["SELECT", "4"],
  ["SET", "expire", "1"],
  ["EXPIRE", "expire", "100"],
  ["set", "pexpire", "2"],
  ["pexpire", "pexpire", "100"],
  ["SETEX", "setex", "100", "3"],
  ["MULTI"],
  ["PSETEX", "psetex", "100", "4"],
  ["SET", "px", "5", "PX", "100"],
  ["EXEC"],
  ["set", "ex-nx", "6", "nx", "ex", "100"],
  ["SET", "px-xx", "0", "PX", "77"],
  ["SET", "px-xx", "7", "PX", "100", "XX"],
  ["SET", "getex", "8"],
  ["GETEX", "getex", "EX", "100"],
  ["RESTORE", "restore", "100", dumpOf("9")],
  ["SET", "replaced", "0"],
  ["RESTORE", "replaced", "100", dumpOf("10"), "REPLACE"],
  ["SET", "stays", "11", "EX", "5"],
  ["SET", "stays", "11", "KEEPTTL"],
  ["SET", "none", "12", "EX", "5"],
  ["SET", "none", "12"],
];

test.each(availableServers())(
  "%s loads the rewritten stream of a primary before 7.0 with the original expiries",
  async (kind) => {
    // Another day, so that an expiry relative to the load would be noticed.
    const ranMs = Date.now() + 24 * 60 * 60 * 1000;
    const log = Buffer.concat(OLD_STREAM.map((words) => encodeCommand(words)));
    const pieces: Uint8Array[] = [];
    scanLog(log, ({ start, end, verb, args }) => {
      const command = log.subarray(start, end);
      const commands = mayExpireRelatively(verb, args)
        ? absoluteExpiry(wordsOf(command), ranMs)
        : undefined;
      pieces.push(...(commands?.map((words) => encodeCommand(words)) ?? [command]));
    });
    await using server = await bootLog(kind, Buffer.concat(pieces));
    await server.send("SELECT", 4);
    const seen: Record<string, [unknown, number]> = {};
    for (const key of (await server.send("KEYS", "*")) as string[]) {
      const expiresMs = Number(await server.send("PEXPIRETIME", key));
      seen[key] = [await server.send("GET", key), expiresMs > 0 ? expiresMs - ranMs : expiresMs];
    }
    expect(seen).toEqual({
      expire: ["1", 100_000],
      pexpire: ["2", 100],
      setex: ["3", 100_000],
      psetex: ["4", 100],
      px: ["5", 100],
      "ex-nx": ["6", 100_000],
      "px-xx": ["7", 100],
      getex: ["8", 100_000],
      restore: ["9", 100],
      replaced: ["10", 100],
      stays: ["11", 5_000],
      none: ["12", -1],
    });
    expect(server.log()).not.toContain("CRITICAL");
  },
);

test("without the rewrite an expiry is relative to the load", async () => {
  await using server = await bootLog("redis-7.0", encodeCommand(["SET", "k", "v", "EX", "100"]));
  const expiresMs = Number(await server.send("PEXPIRETIME", "k"));
  expect(expiresMs).toBeWithin(Date.now(), Date.now() + 100_001);
});
