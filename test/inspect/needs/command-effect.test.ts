import { expect, test } from "bun:test";
import {
  type Effect,
  EffectReader,
  withKeys,
  writtenOf,
} from "../../../src/inspect/needs/command-effect.ts";
import { commandKeys } from "../../../src/store/rewrite/command-keys.ts";
import { MORE } from "../../../src/store/rewrite/log-commands.ts";
import { encodeCommand } from "../../support/resp.ts";

const text = (keys: readonly Uint8Array[]) => keys.map((key) => Buffer.from(key).toString());

const effects = new EffectReader();

function read(bytes: Uint8Array, isWhole: boolean): string {
  // It may lie anywhere.
  const all = Buffer.concat([Buffer.from("*1\r\n"), bytes, Buffer.from("*9\r\n$1\r\n")]);
  const seen = { bytes: all, from: 4, to: 4 + bytes.length, verb: undefined, isWhole };
  return shown(effects.read(seen), all);
}

function shown(effect: Effect | typeof MORE, bytes: Uint8Array): string {
  if (effect === MORE) return "more";
  switch (effect.on) {
    case "key":
      return `key ${text([bytes.subarray(effect.from, effect.to)]).join()}`;
    case "each":
      return `each of ${text(effect.keys.views()).join()}`;
    case "group":
      return `${text(writtenOf(effect)).join()} from ${text(effect.keys.views()).join()}${effect.obstacle === undefined ? "" : "!"}`;
    default:
      return effect.on;
  }
}

test.each([
  ["SET a 1", "key a"],
  ["set a 1", "key a"],
  ["PFCOUNT a", "key a"],
  ["XGROUP CREATE a group 0", "key a"],
  ["MOVE a 3", "key a"],
  ["DEL a", "key a"],
  ["DEL a b", "each of a,b"],
  ["MSET a 1 b 2", "each of a,b"],
  ["MSETEX 2 a 1 b 2 PX 5", "each of a,b"],
  ["RENAME a b", "a,b from a,b"],
  ["LMOVE a b LEFT RIGHT", "a,b from a,b"],
  ["COPY a b REPLACE", "b from a,b"],
  ["SUNIONSTORE a b c", "a from a,b,c"],
  ["ZUNIONSTORE a 2 b c WEIGHTS 1 2", "a from a,b,c"],
  ["BITOP AND a b c", "a from a,b,c"],
  ["PFMERGE a b", "a from a,b"],
  ["SORT a STORE b", "b from a,b"],
  ["SORT a BY w* STORE b", "b from a,b!"],
  ["GEORADIUS a 1 1 5 km STORE b", "b from a,b"],
  ["FLUSHALL", "database"],
  ["SWAPDB 0 1", "database"],
  ["TRIMSLOTS RANGES 1 0 1", "database"],
  ["PING", "nothing"],
  ["PUBLISH a b", "nothing"],
  ["SPUBLISH a b", "nothing"],
  ["FUNCTION LOAD code", "nothing"],
  ["SCRIPT LOAD code", "nothing"],
  ["REPLCONF GETACK *", "nothing"],
  ["EVAL code 1 a", "anything"],
  ["FCALL name 0", "anything"],
  ["JSON.SET a $ 1", "anything"],
  // Without the first, the second makes nothing.
  ["HIMPORT PREPARE fields f g", "anything"],
  ["HIMPORT SET a fields 1 2", "anything"],
])("%s changes %s", (command, wanted) => {
  const bytes = encodeCommand(command.split(" "));
  expect(read(bytes, true)).toBe(wanted);
});

test("knows the one key of a long command from its beginning", () => {
  const bytes = encodeCommand(["SET", "a", "x".repeat(1000)]);
  expect(read(bytes.subarray(0, 100), false)).toBe("key a");
  for (const head of [5, 12, 17]) {
    expect(read(bytes.subarray(0, head), false)).toBe("more");
  }
  const list = encodeCommand(["RENAME", "a", "x".repeat(1000)]);
  expect(read(list.subarray(0, 100), false)).toBe("more");
});

test.each([
  ["DEL a b c", "DEL b"],
  ["UNLINK b", "UNLINK b"],
  ["DEL a c", undefined],
  ["MSET a 1 b 2 c 3", "MSET b 2"],
  ["MSETNX a 1 b 2", "MSETNX b 2"],
  ["MSETEX 3 a 1 b 2 c 3 NX PX 5", "MSETEX 1 b 2 NX PX 5"],
  ["DEL b b", "DEL b b"],
])("of %s leaves %s where only b is wanted", (command, wanted) => {
  const words = command.split(" ").map((word) => Buffer.from(word));
  const kept = withKeys(commandKeys(words)!, words, (key) => Buffer.from(key).toString() === "b");
  expect(kept && text(kept).join(" ")).toBe(wanted);
});
