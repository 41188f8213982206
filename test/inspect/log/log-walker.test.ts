import { expect, test } from "bun:test";
import { Glob } from "../../../src/base/glob.ts";
import type { LogEntry } from "../../../src/inspect/log/log-entry.ts";
import { LogChooser, type LogFilter } from "../../../src/inspect/log/log-filter.ts";
import { copyOf, LogWalker } from "../../../src/inspect/log/log-walker.ts";
import { FrameError } from "../../../src/resp/frame-scanner.ts";
import { commandKeys } from "../../../src/store/rewrite/command-keys.ts";
import { Random } from "../../support/fill.ts";
import { encodeCommand } from "../../support/resp.ts";
import { amount, seedOf, swept } from "../../support/sweep.ts";
import {
  isOfLink,
  logOf,
  type MadeLog,
  madeStream,
  named,
  simpleEntries,
  type SimpleEntry,
  simplified,
} from "./made-log.ts";

const KIB = 1024;

/** Walks through a log that comes in blocks which are gone once they were looked at. */
function walked(log: MadeLog, ends: readonly number[], filter: LogFilter = {}, from = -Infinity) {
  const walker = new LogWalker(new LogChooser(filter), log, from);
  const found: LogEntry[] = [];
  let at = 0;
  for (const end of [...ends, log.bytes.length]) {
    const block = Uint8Array.from(log.bytes.subarray(at, end));
    for (const entry of walker.push(block)) {
      found.push({ ...copyOf(entry), transaction: entry.transaction });
    }
    // As what was read from an archive: freed.
    block.buffer.transfer(0);
    at = end;
  }
  return { found, walker };
}

function keysOf({ words }: SimpleEntry): string[] {
  const bytes = words.map((word) => Buffer.from(word, "latin1"));
  const keys = commandKeys(bytes)?.keys ?? bytes.slice(1, 2);
  return keys.map((key) => Buffer.from(key).toString("latin1"));
}

test("finds every command with its offsets, database, keys and transaction, wherever the log is cut", () => {
  const random = new Random(seedOf("LOG_WALKER_SEED"));
  const log = logOf(1_000, 2, madeStream(random, 60));
  const wanted = simpleEntries(log).filter((one) => !isOfLink(one));
  expect(wanted.length).toBeGreaterThan(20);
  const cuts = Array.from({ length: log.bytes.length + 1 }, (_, cut) => cut);
  for (const cut of swept(cuts, 8, random)) {
    const { found, walker } = walked(log, [cut]);
    expect(found.map(simplified)).toEqual(wanted.map(named));
    const keys = found.map((one) => one.keys.map((key) => Buffer.from(key).toString("latin1")));
    expect(keys).toEqual(wanted.map(keysOf));
    expect(walker.safeOffset).toBe(1_000 - log.headerBytes + log.bytes.length);
  }
});

test("filters by key, name and database as a look at every command does", () => {
  const random = new Random(seedOf("LOG_FILTER_SEED"));
  const patterns = [
    "user:1*",
    "*name",
    "user:?:age",
    "*",
    "nobody:*",
    "*\\:2[0-9]:*",
    "user:3:name",
  ];
  const names = ["SET", "del", "RENAME", "mod.set", "PING", "exec"];
  for (let round = 0; round < amount("LOG_FILTERS", { sample: 60, full: 2_000 }); round++) {
    const log = logOf(random.below(5_000), random.below(3), madeStream(random, 80));
    const some = <T>(all: readonly T[]) => all.filter(() => random.below(all.length) < 2);
    const [keys, commands] = [some(patterns), some(names)];
    const filter: LogFilter = {
      ...(keys.length > 0 && { keys }),
      ...(commands.length > 0 && random.below(2) === 0 && { commands }),
      ...(random.below(3) === 0 && { db: random.below(3) }),
      isAll: random.below(3) === 0,
    };
    const globs = keys.map((pattern) => new Glob(pattern));
    const wanted = simpleEntries(log).filter((one) => {
      const name = one.words[0]!.toUpperCase();
      if (filter.db !== undefined && one.db !== filter.db) return false;
      if (filter.commands !== undefined) {
        if (!commands.some((other) => other.toUpperCase() === name)) return false;
      } else if (filter.isAll !== true && isOfLink(one)) return false;
      if (keys.length === 0 || name === "FLUSHDB") return true;
      return keysOf(one).some((key) => globs.some((glob) => glob.matches(key)));
    });
    const ends = Array.from({ length: 4 }, () => random.below(log.bytes.length));
    const { found } = walked(
      log,
      ends.toSorted((a, b) => a - b),
      filter,
    );
    expect({ filter, found: found.map(simplified) }).toEqual({ filter, found: wanted.map(named) });
  }
});

test("shows what changes a database from another one, wherever the log is cut", () => {
  const ranges = Array.from({ length: 12 }, (_, at) => String(at));
  const stream = [
    ["SELECT", "0"],
    ["SET", "k", "1"],
    ["MOVE", "k", "1"],
    ["MOVE", "k", "2"],
    ["COPY", "k", "j", "DB", "1"],
    ["COPY", "k", "k"],
    ["SWAPDB", "0", "1"],
    ["SWAPDB", "0", "2"],
    ["FLUSHDB"],
    ["flushall"],
    ["CONFIG", "SET", "a", "b"],
    ["SELECT", "1"],
    ["TRIMSLOTS", "RANGES", "6", ...ranges],
  ];
  const log = logOf(1_000, 0, Buffer.concat(stream.map((words) => encodeCommand(words))));
  const shown = (filter: LogFilter, cut: number) =>
    walked(log, [cut], filter).found.map(({ command, args }) => [
      command,
      ...args.slice(0, 2).map((arg) => Buffer.from(arg).toString()),
    ]);
  for (let cut = 0; cut <= log.bytes.length; cut++) {
    expect(shown({ db: 1, keys: ["k"] }, cut)).toEqual([
      ["MOVE", "k", "1"],
      ["COPY", "k", "j"],
      ["SWAPDB", "0", "1"],
      ["FLUSHALL"],
      ["TRIMSLOTS", "RANGES", "6"],
    ]);
    expect(shown({ db: 2 }, cut)).toEqual([["MOVE", "k", "2"], ["SWAPDB", "0", "2"], ["FLUSHALL"]]);
  }
});

test("begins behind an offset; a transaction that ends behind it comes whole", () => {
  const stream = Buffer.concat(
    [["SET", "a", 1], ["MULTI"], ["SET", "b", 1], ["SET", "c", 1], ["EXEC"], ["SET", "d", 1]].map(
      (words) => encodeCommand(words),
    ),
  );
  const log = logOf(0, 0, stream);
  const all = simpleEntries(log);
  const from = (offset: number) =>
    walked(log, [], {}, offset).found.map(({ args }) => Buffer.from(args[0]!).toString());
  const [a, , b, c, exec, d] = all.map(({ end }) => end);
  expect(from(0)).toEqual(["a", "b", "c", "d"]);
  expect(from(a! - 1)).toEqual(["a", "b", "c", "d"]);
  expect(from(a!)).toEqual(["b", "c", "d"]);
  expect(from(b!)).toEqual(["b", "c", "d"]);
  expect(from(c!)).toEqual(["b", "c", "d"]);
  expect(from(exec!)).toEqual(["d"]);
  expect(from(d!)).toEqual([]);
});

test("a transaction that isn't whole is not passed on, and the safe offset is before it", () => {
  const head = encodeCommand(["SET", "a", 1]);
  const open = [["MULTI"], ["SET", "b", 1]].map((words) => encodeCommand(words));
  const { found, walker } = walked(logOf(100, 0, Buffer.concat([head, ...open])), []);
  expect(found).toHaveLength(1);
  expect(walker.safeOffset).toBe(100 + head.length);
});

test("a transaction too large to be held is passed on as it comes", () => {
  const value = Buffer.alloc(1024 * KIB, "v");
  const commands = [["MULTI"], ...Array.from({ length: 20 }, (_, n) => ["SET", `k${n}`, value])];
  const stream = Buffer.concat([...commands, ["EXEC"]].map((words) => encodeCommand(words)));
  const log = logOf(0, 0, stream);
  const ends = Array.from({ length: 40 }, (_, n) => n * 512 * KIB);
  const { found, walker } = walked(log, ends);
  expect(found.map(({ args }) => Buffer.from(args[0]!).toString())).toEqual(
    Array.from({ length: 20 }, (_, n) => `k${n}`),
  );
  expect(found.every(({ args }) => Buffer.compare(args[1]!, value) === 0)).toBe(true);
  const offset = 0;
  expect(found.map(({ transaction }) => transaction)).toEqual(
    found.map(() => ({ offset, end: undefined })),
  );
  expect(walker.safeOffset).toBe(stream.length);
});

test("a large value of a key that isn't wanted is not held", () => {
  const [bytes, blocks] = [64 * KIB * KIB, 256];
  const head = Buffer.from(`*3\r\n$3\r\nSET\r\n$5\r\nother\r\n$${bytes * blocks}\r\n`);
  const { bytes: header, headerBytes } = logOf(0, 0, new Uint8Array(0));
  const walker = new LogWalker(
    new LogChooser({ keys: ["mine:*"] }),
    { baseOffset: 0, headerBytes },
    0,
  );
  // 16 GiB, eight times as much as a command may have that is held.
  const block = new Uint8Array(bytes);
  const found = [...walker.push(Buffer.concat([header, head]))];
  for (let n = 0; n < blocks; n++) found.push(...walker.push(block));
  const mine = encodeCommand(["SET", "mine:1", "v"]);
  found.push(...walker.push(Buffer.concat([Buffer.from("\r\n"), mine])));
  expect(found.map(({ args }) => Buffer.from(args[0]!).toString())).toEqual(["mine:1"]);
}, 150_000);

test("damage comes after everything before it, and names its byte", () => {
  const good = Buffer.concat([encodeCommand(["SET", "a", 1]), encodeCommand(["SET", "b", 1])]);
  const log = logOf(500, 0, Buffer.concat([good, Buffer.from("*1\r\nGET"), good]));
  const walker = new LogWalker(new LogChooser({}), log, 0);
  const found: string[] = [];
  let error: unknown;
  try {
    for (const { args } of walker.push(log.bytes)) found.push(Buffer.from(args[0]!).toString());
  } catch (thrown) {
    error = thrown;
  }
  expect(found).toEqual(["a", "b"]);
  expect(error).toBeInstanceOf(FrameError);
  expect((error as FrameError).byte).toBe(log.headerBytes + good.length + 4);
});

test("a log that doesn't begin with its SELECT is damaged", () => {
  const bytes = encodeCommand(["SET", "a", 1]);
  const walker = new LogWalker(new LogChooser({}), { baseOffset: 9, headerBytes: bytes.length }, 0);
  expect(() => [...walker.push(bytes)]).toThrow("does not begin with the SELECT");
});
