import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { limits } from "../../src/config/limits.ts";
import { ReplicaError } from "../../src/base/errors.ts";
import { FrameScanner } from "../../src/resp/frame-scanner.ts";
import { type NaiveFrame, naiveFrames, naiveSafeCut } from "../support/naive-frames.ts";
import { encodeCommand } from "../support/resp.ts";
import { wordsOf } from "../../src/resp/frame-words.ts";

const SEED = 20260105;
const MIB = 1024 * 1024;
const newScanner = () => new FrameScanner({ limits: limits.frame });
const bytes = (text: string) => Buffer.from(text, "latin1");
const log = (...commands: string[]) =>
  Buffer.concat(commands.map((command) => encodeCommand(command.split(" "))));

function described(scanner: FrameScanner) {
  const { start, end, args, verb, db, inTransaction, lastSafeCut } = scanner;
  return { start, end, args, verb, db, inTransaction, lastSafeCut };
}

/** Everything that a scan finds, to compare two scans. */
function scan(pieces: readonly Uint8Array[], scanner = newScanner()) {
  const frames: ReturnType<typeof described>[] = [];
  let damage: string | undefined;
  try {
    for (const piece of pieces) {
      scanner.push(piece);
      while (scanner.next()) frames.push(described(scanner));
    }
  } catch (caught) {
    if (!(caught instanceof ReplicaError) || caught.code !== "BAD_FRAME") throw caught;
    damage = caught.message;
    expect(() => scanner.next()).toThrow(caught);
    expect(described(scanner)).toEqual(frames.at(-1) ?? described(newScanner()));
    return { frames, damage, atBoundary: false };
  }
  return { frames, damage, atBoundary: scanner.atBoundary };
}

function cutAt(all: Buffer, cuts: readonly number[]): Buffer[] {
  const edges = [...cuts.map((at) => at % (all.length + 1)), all.length].sort((a, b) => a - b);
  return edges.map((edge, index) => all.subarray(edges[index - 1] ?? 0, edge));
}

const TRANSCRIPT = log(
  "SELECT 0",
  "SET key value",
  "ping",
  "MULTI",
  "select 12",
  "pEXPIREat a 1795567353039",
  "restore-ASKING k 0 v",
  "Exec",
  "PUBLISH a-channel *1",
  "SETEX k 10 *1\r\n$4\r\nPING\r\n",
  "SET  ", // An empty key and an empty value.
);
const WANTED = [
  ["SELECT", 0, false],
  ["SET", 0, false],
  [undefined, 0, false],
  ["MULTI", 0, true],
  ["SELECT", 12, true],
  [undefined, 12, true],
  ["RESTORE-ASKING", 12, true],
  ["EXEC", 12, false],
  [undefined, 12, false],
  ["SETEX", 12, false],
  ["SET", 12, false],
];

describe("FrameScanner", () => {
  test("finds where each command begins, its verb, database and transaction, and where a cut is safe", () => {
    const { frames, damage, atBoundary } = scan([TRANSCRIPT]);
    expect({ damage, atBoundary }).toEqual({ damage: undefined, atBoundary: true });
    const told = frames.map(({ verb, db, inTransaction }) => [verb, db, inTransaction]);
    expect<unknown>(told).toEqual(WANTED);
    const naive = naiveFrames(TRANSCRIPT);
    expect(frames.map(({ start, end, args }) => ({ start, end, args }))).toEqual(
      naive.map(({ start, end, words }) => ({ start, end, args: words.length })),
    );
    const beforeMulti = naive[2]?.end;
    expect(frames.map(({ lastSafeCut }) => lastSafeCut)).toEqual(
      naive.map(({ end }, index) => (index >= 3 && index <= 6 ? beforeMulti! : end)),
    );
  });

  test("cut at every byte and every pair", () => {
    const whole = scan([TRANSCRIPT]);
    for (let a = 0; a <= TRANSCRIPT.length; a++) {
      for (let b = a; b <= TRANSCRIPT.length; b++) {
        const pieces = [
          TRANSCRIPT.subarray(0, a),
          TRANSCRIPT.subarray(a, b),
          TRANSCRIPT.subarray(b),
        ];
        expect(scan(pieces)).toEqual(whole);
      }
    }
  });

  test("one byte at a time", () => {
    expect(scan([...TRANSCRIPT].map((byte) => Uint8Array.of(byte)))).toEqual(scan([TRANSCRIPT]));
  });

  test("waits at the end of a truncated log, and knows the last whole command", () => {
    for (let end = 0; end < TRANSCRIPT.length; end++) {
      const scanner = newScanner();
      const { damage, atBoundary } = scan([TRANSCRIPT.subarray(0, end)], scanner);
      const naive = naiveFrames(TRANSCRIPT.subarray(0, end));
      const lastEnd = naive.at(-1)?.end ?? 0;
      expect({ damage, atBoundary }).toEqual({ damage: undefined, atBoundary: end === lastEnd });
      expect(scanner.end).toBe(lastEnd);
      expect(scanner.lastSafeCut).toBe(naiveSafeCut(naive));
    }
  });

  test("counts bytes from where the scan begins, past 2^32", () => {
    const fromByte = 100;
    const scanner = new FrameScanner({ limits: limits.frame, fromByte });
    expect(described(scanner)).toMatchObject({ start: 100, end: 100, lastSafeCut: 100 });
    const head = bytes(`*2\r\n$4\r\nECHO\r\n$${5000 * MIB}\r\n`);
    scanner.push(head);
    expect(scanner.next()).toBe(false);
    const chunk = Buffer.alloc(MIB, "x");
    for (let sent = 0; sent < 5000; sent++) {
      scanner.push(chunk);
      if (scanner.next()) throw new Error("too early");
    }
    expect(scanner.atBoundary).toBe(false);
    scanner.push(bytes("\r\n*1\r\n$4\r\nPING\r\n"));
    expect(scanner.next()).toBe(true);
    const end = fromByte + head.length + 5000 * MIB + 2;
    expect(described(scanner)).toMatchObject({ start: 100, end, args: 2, lastSafeCut: end });
    expect(scanner.next()).toBe(true);
    expect(described(scanner)).toMatchObject({ start: end, end: end + 14 });
  });

  test("begins inside a transaction where it is told so", () => {
    const scanner = new FrameScanner({ limits: limits.frame, fromByte: 7, inTransaction: true });
    const set = log("SET key value");
    const exec = log("EXEC");
    const { frames, damage } = scan([set, exec], scanner);
    const end = 7 + set.length + exec.length;
    expect(damage).toBeUndefined();
    expect(frames).toMatchObject([
      { inTransaction: true, lastSafeCut: 7 },
      { inTransaction: false, lastSafeCut: end },
    ]);
  });

  test("refuses a chunk while the one before is unread", () => {
    const scanner = newScanner();
    scanner.push(log("PING", "PING"));
    scanner.next();
    expect(() => scanner.push(log("PING"))).toThrow("a chunk is read before the next one comes");
  });

  const ping = "*1\r\n$4\r\nPING\r\n";
  const number = "a digit or a carriage return";
  test.each([
    ["\n", 0, "'*' and the number of words"],
    ["PING\r\n", 0, "'*' and the number of words"],
    ["*\r\n", 1, "a digit"],
    ["*-1\r\n", 1, "a digit"],
    ["*0\r\n", 0, "at least one word in a command"],
    ["*01\r\n", 2, "a number up to 2147483647"],
    ["*2147483648\r\n", 10, "a number up to 2147483647"],
    ["*1 \r\n", 2, number],
    ["*1\n", 2, number],
    ["*1\rx", 3, "a line feed"],
    ["*1\r\n+OK\r\n", 4, "'$' and the length of a word"],
    ["*1\r\n$-1\r\n", 5, "a digit"],
    ["*1\r\n$4x", 6, number],
    ["*1\r\n$1099511627777\r\n", 17, "a number up to 1099511627776"],
    ["*1\r\n$4\r\nPINGS\r\n", 12, "the end of a word"],
    ["*1\r\n$4\r\nPING\r\r", 13, "the end of a word"],
    ["*1\r\n$0\r\nPING\r\n", 8, "the end of a word"],
    ["*1\r\n$4\r\nexec\r\n", 0, "no EXEC without a MULTI"],
    ["*1\r\n$6\r\nSELECT\r\n", 0, "SELECT with a database number"],
    ["*2\r\n$6\r\nSELECT\r\n$2\r\n-1\r\n", 0, "SELECT with a database number"],
    ["*2\r\n$6\r\nSELECT\r\n$0\r\n\r\n", 0, "SELECT with a database number"],
    ["*2\r\n$6\r\nselect\r\n$20\r\n11111111111111111111\r\n", 0, "SELECT with a database number"],
    ["*3\r\n$6\r\nselect\r\n$1\r\n1\r\n$1\r\n1\r\n", 0, "SELECT with a database number"],
  ])("refuses %j", (input, at, expected) => {
    const all = bytes(ping + input);
    const message = `expected ${expected} at byte ${ping.length + at}`;
    for (let cut = 0; cut <= all.length; cut++) {
      const { frames, damage } = scan([all.subarray(0, cut), all.subarray(cut)]);
      expect(damage).toBe(message);
      expect(frames).toHaveLength(1);
    }
  });

  test("names the byte of a MULTI inside a transaction", () => {
    expect(scan([log("PING", "MULTI", "SET a b", "MULTI")]).damage).toBe(
      "expected no MULTI inside a transaction at byte 56",
    );
  });

  test("finds any commands, cut anywhere, as a simple parser does", () => {
    const word = fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.constantFrom("", "\r\n", "*1\r\n", "7"),
    );
    const command = fc.oneof(
      fc.array(word, { minLength: 1, maxLength: 8 }),
      fc.tuple(fc.constantFrom("set", "SETEX", "expire"), word, word),
      fc.tuple(fc.constantFrom("SELECT", "select"), fc.nat(20)),
    );
    const group = fc.oneof(
      command.map((words) => [words]),
      fc.array(command).map((commands) => [["MULTI"], ...commands, ["exec"]]),
    );
    fc.assert(
      fc.property(fc.array(group), fc.array(fc.nat(3000)), (groups, cuts) => {
        const all = Buffer.concat(groups.flat().map((words) => encodeCommand(words)));
        const { frames, damage, atBoundary } = scan(cutAt(all, cuts));
        expect({ damage, atBoundary }).toEqual({ damage: undefined, atBoundary: true });
        const naive = naiveFrames(all);
        const found = frames.map((frame) => wordsAt(all, frame));
        expect<unknown>(found).toEqual(naive.map(({ words }) => words));
        expect(frames.map(({ db }) => db)).toEqual(naiveDbs(naive));
        frames.forEach(({ lastSafeCut }, index) => {
          expect(lastSafeCut).toBe(naiveSafeCut(naive.slice(0, index + 1)));
        });
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });

  test("throws nothing but BAD_FRAME on any bytes, the same wherever they are cut", () => {
    const part = fc.oneof(
      fc.constantFrom(
        "*",
        "$",
        "\r\n",
        "\n",
        "*1\r\n",
        "*2\r\n$4\r\n",
        "PING",
        "0",
        "-",
        " ",
        ping,
      ),
      fc.constantFrom("MULTI", "EXEC", "SELECT 3", "SET a b").map((text) => log(text).toString()),
      fc.nat(30).map((length) => `$${length}\r\n`),
      fc.nat(30).map((length) => `$${length}\r\n${"v".repeat(length)}\r\n`),
      fc.string({ unit: "binary-ascii", maxLength: 30 }),
    );
    fc.assert(
      fc.property(fc.array(part), fc.array(fc.nat(300)), (parts, cuts) => {
        const all = bytes(parts.join(""));
        const whole = scan([all]);
        expect(scan(cutAt(all, cuts))).toEqual(whole);
        // A simple parser finds the same commands.
        const end = whole.frames.at(-1)?.end ?? 0;
        expect(naiveFrames(all.subarray(0, end)).map((frame) => frame.end)).toEqual(
          whole.frames.map((frame) => frame.end),
        );
      }),
      { seed: SEED, numRuns: 5_000 },
    );
  });

  test("finds any changed byte outside of a word, as damage or as a truncated end", () => {
    const all = log("SET abc def", "SELECT 1", "PING");
    const inWords = new Set<number>();
    for (const { start, end } of naiveFrames(all)) {
      for (const word of wordsOf(all.subarray(start, end))) {
        const from = word.byteOffset - all.byteOffset;
        for (let at = from; at < from + word.length; at++) inWords.add(at);
      }
    }
    for (let at = 0; at < all.length; at++) {
      for (let byte = 0; byte < 256 && !inWords.has(at); byte++) {
        if (byte === all[at]) continue;
        const changed = Buffer.from(all);
        changed[at] = byte;
        const { damage, atBoundary } = scan([changed]);
        if (damage === undefined && atBoundary) throw new Error(`byte ${at} as ${byte} passed`);
      }
    }
  });
});

function wordsAt(all: Buffer, { start, end }: { start: number; end: number }): string[] {
  return wordsOf(all.subarray(start, end)).map((word) => Buffer.from(word).toString("latin1"));
}

function naiveDbs(frames: readonly NaiveFrame[]): number[] {
  let db = 0;
  return frames.map(({ words }) => {
    if (words[0]?.toLowerCase() === "select") db = Number(words[1]);
    return db;
  });
}

test("wordsOf returns views, and refuses anything but one whole command", () => {
  const command = log("SET key value");
  const words = wordsOf(command);
  expect(words).toEqual([bytes("SET"), bytes("key"), bytes("value")]);
  expect(words.every((word) => word.buffer === command.buffer)).toBe(true);
  for (let cut = 0; cut < command.length; cut++) {
    expect(() => wordsOf(command.subarray(0, cut))).toThrow("the log changed while it was read");
  }
  expect(() => wordsOf(bytes("*1\r\n$x\r\nPING\r\n"))).toThrow(ReplicaError);
});

test("tells of an unfinished command once its verb has come", () => {
  const all = log("PING", "SET a 12345", "PING");
  const begin = log("PING").length;
  const verbEnd = begin + "*3\r\n$3\r\nSET\r\n".length;
  const end = log("PING", "SET a 12345").length;
  for (let size = 1; size <= all.length; size++) {
    const scanner = newScanner();
    for (let at = 0; at < all.length; at += size) {
      scanner.push(all.subarray(at, at + size));
      while (scanner.next());
      const read = Math.min(all.length, at + size);
      const isIn = read >= verbEnd && read < end;
      // Of a PING nothing comes behind its verb.
      expect([size, read, scanner.unfinished]).toEqual([
        size,
        read,
        isIn ? { verb: "SET", args: 3 } : undefined,
      ]);
    }
  }
});
