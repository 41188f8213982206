import { describe, expect, test } from "bun:test";
import {
  dependsOnFieldExpiries,
  FieldExpiries,
  mayDependOnFieldExpiry,
} from "../../src/resp/field-expiry.ts";
import type { Verb } from "../../src/resp/verbs.ts";
import { limits } from "../../src/config/limits.ts";
import { FrameScanner } from "../../src/resp/frame-scanner.ts";
import { encodeCommand } from "../support/resp.ts";

const FAR = "32503680000000";
const words = (command: string) => command.split(" ").map((word) => Buffer.from(word, "latin1"));

const signs = (verbs: readonly Verb[], versions: { redis?: string; valkey?: string } = {}) => ({
  verbs: new Set(verbs),
  redisVersion: versions.redis,
  valkeyVersion: versions.valkey,
});
const REVIVING = signs(["HPERSIST", "HPEXPIREAT", "HINCRBY", "HSETEX", "SORT"], { redis: "8.0.2" });

function rewritten(command: string, fields = new FieldExpiries(REVIVING)): string[] | undefined {
  return fields
    .clockless(words(command))
    ?.map((one) => one.map((word) => Buffer.from(word).toString("latin1")).join(" "));
}

describe("plain commands take the place of", () => {
  test.each([
    ["HPERSIST k FIELDS 1 f", [`HPEXPIREAT k ${FAR} XX FIELDS 1 f`, "HPERSIST k FIELDS 1 f"]],
    ["hpersist k fields 2 f g", [`HPEXPIREAT k ${FAR} XX fields 2 f g`, "hpersist k fields 2 f g"]],
    ["HSETEX k FXX FIELDS 1 f v", ["HSETEX k FIELDS 1 f v"]],
    ["HSETEX k fxx PXAT 17 FIELDS 1 f v", ["HSETEX k PXAT 17 FIELDS 1 f v"]],
    ["hsetex k KEEPTTL Fxx FIELDS 1 f v", ["hsetex k KEEPTTL FIELDS 1 f v"]],
    // A key, a field and a value with the names of options.
    ["HSETEX FXX FXX FIELDS 1 FXX FXX", ["HSETEX FXX FIELDS 1 FXX FXX"]],
    ["HSETEX FIELDS FXX FIELDS 1 FXX FXX", ["HSETEX FIELDS FIELDS 1 FXX FXX"]],
  ])("%s", (command, expected) => {
    expect(rewritten(command)).toEqual(expected);
  });
});

test.each([
  "HSETEX k FNX PXAT 17 FIELDS 1 f v",
  "HSETEX k PXAT 17 FIELDS 1 FXX FXX",
  "HSETEX FXX PXAT 17 FIELDS 1 f v",
  "HSETEX k KEEPTTL 1 f FXX v",
  "HPEXPIREAT k 17 FIELDS 1 f",
  "SORT l BY w*->f GET #",
  "SORT l BY w* GET v* STORE d",
  "SORT l BY w->f GET w*-> STORE d",
  "SORT l ALPHA STORE BY*->f",
])("leaves alone what doesn't depend on a field: %s", (command) => {
  expect(rewritten(command)).toBeUndefined();
});

const sha1 = (text: string) => new Bun.CryptoHasher("sha1").update(text).digest("hex");
const textOf = (load: string) => /^SCRIPT LOAD ([^]+)$/.exec(load)![1]!;

test("scripts around HINCRBY lift a field that is due; they are loaded before their first use", () => {
  const fields = new FieldExpiries(REVIVING);
  const [first, second, ...commands] = rewritten("HINCRBY k f 5", fields)!;
  const [before, after] = [sha1(textOf(first!)), sha1(textOf(second!))];
  expect(before).not.toBe(after);
  const around = (command: string) => [
    `EVALSHA ${before} 1 k f`,
    command,
    `EVALSHA ${after} 1 k f`,
  ];
  expect(commands).toEqual(around("HINCRBY k f 5"));
  expect(rewritten("hincrby k f -5", fields)).toEqual(around("hincrby k f -5"));
});

test("scripts around SORT lift the fields that it reads", () => {
  const command = "SORT l BY w*->f LIMIT 0 10 GET a*b->f->g GET v* GET # STORE d";
  const [first, second, copy, before, sort, after, remove, ...none] = rewritten(command)!;
  const name = /^COPY l (replica-sorted-\w+) REPLACE$/.exec(copy!)![1]!;
  const args = `1 ${name} w  f a b f->g`;
  expect(before).toBe(`EVALSHA ${sha1(textOf(first!))} ${args}`);
  expect(sort).toBe(command);
  expect(after).toBe(`EVALSHA ${sha1(textOf(second!))} ${args}`);
  expect(remove).toBe(`DEL ${name}`);
  expect(none).toEqual([]);
});

describe("a log depends on the expiries of fields", () => {
  test.each<[readonly Verb[], string | undefined, boolean]>([
    [[], "8.0.2", false],
    [["SET", "HINCRBY"], "8.0.2", false],
    // Whatever was counted on a field that is due is gone with it.
    [["HINCRBY", "HSETEX"], "8.0.2", true],
    [["HINCRBY", "HPEXPIREAT"], "8.0.2", true],
    [["HPEXPIREAT"], "8.0.2", false],
    [["HPERSIST"], "8.0.2", true],
    // The primary may have been upgraded since.
    [["HPERSIST"], "7.2.5", true],
    [["HPERSIST"], undefined, true],
    [["SORT"], "7.2.5", false],
    [["SORT"], "7.4.0", true],
    [["SORT"], "10.0.0", true],
    [["SORT"], undefined, false],
    [["SORT", "HPEXPIREAT"], "7.2.5", true],
  ])("with %p after a snapshot of Redis %p: %p", (verbs, redis, expected) => {
    expect(dependsOnFieldExpiries(signs(verbs, redis === undefined ? {} : { redis }))).toBe(
      expected,
    );
  });

  test("but not one of Valkey", () => {
    const all: Verb[] = ["HPERSIST", "HINCRBY", "HPEXPIREAT", "HSETEX", "SORT"];
    expect(dependsOnFieldExpiries(signs(all, { valkey: "9.1.2" }))).toBe(false);
  });
});

test("HINCRBY stays as it is where no field can live on, and SORT where none can expire", () => {
  const without = new FieldExpiries(signs(["HSETEX", "HINCRBY"], { redis: "8.0.2" }));
  expect(rewritten("HINCRBY k f 5", without)).toBeUndefined();
  const before = new FieldExpiries(signs(["SORT"], { redis: "7.2.5" }));
  expect(rewritten("SORT l BY w*->f STORE d", before)).toBeUndefined();
});

test("the words of a command are read wherever it may be rewritten", () => {
  const commands = ["HPERSIST k FIELDS 1 f", "HSETEX k FXX FIELDS 1 f v", "HINCRBY k f 5"];
  commands.push("SORT l BY w*->f STORE d");
  for (const command of commands) {
    const scanner = new FrameScanner({ limits: limits.frame });
    scanner.push(encodeCommand(words(command)));
    expect(scanner.next()).toBe(true);
    expect([command, mayDependOnFieldExpiry(scanner.verb, scanner.args)]).toEqual([command, true]);
  }
  expect(mayDependOnFieldExpiry("HPEXPIREAT", 6)).toBe(false);
});
