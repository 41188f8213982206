import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  absoluteExpiry,
  mayExpireRelatively,
  streamsRelativeExpiries,
} from "../../src/resp/absolute-expiry.ts";
import { limits } from "../../src/config/limits.ts";
import { FrameScanner } from "../../src/resp/frame-scanner.ts";
import { encodeCommand } from "../support/resp.ts";

const SEED = 20260106;
const NOW_MS = 1_700_000_000_000;
const words = (command: string) => command.split(" ").map((word) => Buffer.from(word, "latin1"));

function rewritten(command: string): string[] | undefined {
  return absoluteExpiry(words(command), NOW_MS)?.map((commandWords) =>
    commandWords.map((word) => Buffer.from(word).toString("latin1")).join(" "),
  );
}

describe("absoluteExpiry", () => {
  test.each([
    ["EXPIRE k 10", ["PEXPIREAT k 1700000010000"]],
    ["expire k 1", ["PEXPIREAT k 1700000001000"]],
    ["Pexpire k 10", ["PEXPIREAT k 1700000000010"]],
    ["EXPIRE k 10 GT", ["PEXPIREAT k 1700000010000 GT"]],
    ["EXPIRE k 9223370336854775", ["PEXPIREAT k 9223372036854775000"]],
    ["PEXPIRE k 9223370336854775807", ["PEXPIREAT k 9223372036854775807"]],
    ["SETEX k 10 v", ["SET k v", "PEXPIREAT k 1700000010000"]],
    ["PSETEX k 10 v", ["SET k v", "PEXPIREAT k 1700000000010"]],
    ["SET k v EX 10", ["SET k v", "PEXPIREAT k 1700000010000"]],
    ["set k v px 10", ["set k v", "PEXPIREAT k 1700000000010"]],
    ["SET k v NX EX 10", ["SET k v NX", "PEXPIREAT k 1700000010000"]],
    ["SET k v Px 10 XX", ["SET k v XX", "PEXPIREAT k 1700000000010"]],
    ["SET k v xx EX 10 GET", ["SET k v xx GET", "PEXPIREAT k 1700000010000"]],
    // A key and a value with the names of options.
    ["SET EX PX EX 10", ["SET EX PX", "PEXPIREAT EX 1700000010000"]],
    ["GETEX k EX 10", ["PEXPIREAT k 1700000010000"]],
    ["getex k px 10", ["PEXPIREAT k 1700000000010"]],
    ["RESTORE k 10 dump", ["RESTORE k 0 dump", "PEXPIREAT k 1700000000010"]],
    [
      "restore k 10 dump REPLACE FREQ 7",
      ["restore k 0 dump REPLACE FREQ 7", "PEXPIREAT k 1700000000010"],
    ],
    ["RESTORE-ASKING k 10 dump", ["RESTORE-ASKING k 0 dump", "PEXPIREAT k 1700000000010"]],
    ["RESTORE k 10 ABSTTL", ["RESTORE k 0 ABSTTL", "PEXPIREAT k 1700000000010"]],
  ])("%s", (command, expected) => {
    expect(rewritten(command)).toEqual(expected);
  });

  test.each([
    // Absolute already, or no expiry.
    "PEXPIREAT k 1700000010000",
    "EXPIREAT k 1700000010",
    "SET k v",
    "SET k v KEEPTTL",
    "SET k v PXAT 1700000010000",
    "SET k EX 10",
    "GETEX k",
    "GETEX k PERSIST",
    "GETEX k EXAT 1700000010",
    "RESTORE k 0 dump",
    "RESTORE k 1700000010000 dump REPLACE absttl",
    "HPEXPIREAT k 1700000010000 FIELDS 1 f",
    "HEXPIRE k 10 FIELDS 1 f",
    "PERSIST k",
    "EVAL redis.call('EXPIRE',KEYS[1],10) 1 k",
    // Over at once.
    "EXPIRE k 0",
    "EXPIRE k -1",
    "PEXPIRE k -1",
    "SET k v EX 0",
    "SETEX k -1 v",
    // Not a number that a server accepts.
    "EXPIRE k 1.5",
    "EXPIRE k +1",
    "EXPIRE k 010",
    "EXPIRE k 9223370336854776",
    "PEXPIRE k 9223370336854775808",
    "PEXPIRE k 99999999999999999999",
    "SETEX k x v",
    "SETEX k  v",
    // Too few words, or too many.
    "EXPIRE",
    "EXPIRE k",
    "SETEX k 10",
    "SETEX k 10 v w",
    "SET k v EX",
    "GETEX k EX 10 PERSIST",
    "RESTORE k 10",
    "",
  ])("leaves %j", (command) => {
    expect(rewritten(command)).toBeUndefined();
  });

  test("leaves an empty command alone", () => {
    expect(absoluteExpiry([], NOW_MS)).toBeUndefined();
  });

  test("keeps the given words wherever they stay the same, whatever their bytes", () => {
    const [verb, key, value] = ["SET", "\r\nEX\xff", "\x00\xff"].map((word) =>
      Buffer.from(word, "latin1"),
    );
    const [set, expireAt] = absoluteExpiry([verb!, key!, value!, ...words("EX 10")], NOW_MS) ?? [];
    expect(set?.[1]).toBe(key!);
    expect(set?.[2]).toBe(value!);
    expect(expireAt?.[1]).toBe(key!);
  });

  test("never throws, changes its own output no further, and is never missed by mayExpireRelatively", () => {
    const verb = fc.constantFrom(
      ..."EXPIRE PEXPIRE SETEX PSETEX SET GETEX RESTORE RESTORE-ASKING PEXPIREAT HEXPIRE".split(
        " ",
      ),
    );
    const cased = fc
      .tuple(verb, fc.boolean())
      .map(([name, small]) => (small ? name.toLowerCase() : name));
    const word = fc.oneof(
      fc.constantFrom("EX", "PX", "ex", "px"),
      fc.constantFrom("NX", "XX", "GET", "KEEPTTL", "EXAT", "PXAT", "ABSTTL", "REPLACE"),
      fc.integer({ min: -2, max: 20 }).map(String),
      fc.string({ unit: "binary-ascii", maxLength: 4 }),
    );
    let changed = 0;
    fc.assert(
      fc.property(
        cased,
        fc.array(word, { minLength: 2, maxLength: 7 }),
        fc.nat(2 ** 31),
        (name, args, nowMs) => {
          const command = [name, ...args].map((text) => Buffer.from(text, "latin1"));
          const commands = absoluteExpiry(command, nowMs);
          if (commands === undefined) return;
          changed++;
          for (const one of commands) expect(absoluteExpiry(one, nowMs)).toBeUndefined();
          expect(commands.at(-1)?.[0]?.toString()).toBe("PEXPIREAT");
          const scanner = new FrameScanner({ limits: limits.frame });
          scanner.push(encodeCommand(command));
          expect(scanner.next()).toBe(true);
          expect(mayExpireRelatively(scanner.verb, scanner.args)).toBe(true);
        },
      ),
      { seed: SEED, numRuns: 5_000 },
    );
    expect(changed).toBeGreaterThan(300);
  });
});

test("mayExpireRelatively rules most commands out by verb and length", () => {
  expect(mayExpireRelatively("SET", 3)).toBe(false);
  expect(mayExpireRelatively("MULTI", 1)).toBe(false);
  expect(mayExpireRelatively(undefined, 5)).toBe(false);
});

test.each([
  ["2.8.24", true],
  ["4.0.14", true],
  ["6.2.14", true],
  ["6.3.4", true],
  ["7.0.0", false],
  ["7.2.4", false],
  ["8.1.3", false],
  ["10.0.0", false],
  ["255.255.255", false],
  ["unstable", true],
  ["", true],
  [undefined, true],
] as const)("a primary of version %p streams relative expiries: %p", (version, relative) => {
  expect(streamsRelativeExpiries(version)).toBe(relative);
});
