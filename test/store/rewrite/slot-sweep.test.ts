import { expect, test } from "bun:test";
import { encodeCommands } from "../../../src/resp/encode.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import { sweepCommand } from "../../../src/store/rewrite/slot-sweep.ts";
import { keySlot } from "../../support/key-slot.ts";
import { encodeCommand } from "../../support/resp.ts";
import { availableServers, type RealServer } from "../../support/servers.ts";
import { complaints, loadLog } from "./loaded.ts";

const RANGES: readonly SlotRange[] = [
  [0, 4_000],
  [8_000, 8_000],
  [12_000, 16_383],
];
const isSwept = (key: string) =>
  RANGES.some(([first, last]) => first <= keySlot(key) && keySlot(key) <= last);
const sweep = () => encodeCommands([sweepCommand(RANGES)]);
const log = (...parts: (string[] | Uint8Array)[]) =>
  Buffer.concat(parts.map((part) => (part instanceof Uint8Array ? part : encodeCommand(part))));

/** A hash tag whose slot is swept. */
const TAG = Array.from({ length: 100 }, (_, n) => `{user${n}}`).find(isSwept)!;
/** Hash tags of all forms, an empty key, and more keys in one slot than are removed at once. */
const KEYS = [
  ...Array.from({ length: 300 }, (_, n) => `key:${n}`),
  ...Array.from({ length: 2_500 }, (_, n) => `${TAG}:${n}`),
  ..."{ } {} {}a a{b a}b{c} {{a}b} a{b}{c} é {é} a{b}c}".split(" "),
  "",
  "\n",
];
const sets = (keys: readonly string[]) => log(...keys.map((key) => ["SET", key, "1"]));
const sorted = async (server: RealServer) =>
  ((await server.send("KEYS", "*")) as string[]).toSorted();

const cases = availableServers().flatMap((kind) =>
  [false, true].map(
    (isCluster) => [kind, isCluster ? "in a cluster" : "alone", isCluster] as const,
  ),
);

test("the keys of the test are in both kinds of slots", () => {
  expect(new Set(KEYS.map(isSwept)).size).toBe(2);
});

test.each(cases)(
  "%s %s removes the keys of some slots while it loads",
  async (kind, _, isCluster) => {
    const text = log(["SELECT", "0"], sets(KEYS), sweep(), ["SET", `${TAG}after`, "1"]);
    await using server = await loadLog(kind, text, { isCluster });
    const left = [...KEYS.filter((key) => !isSwept(key)), `${TAG}after`];
    expect(await sorted(server)).toEqual(left.toSorted());
    expect(complaints(server)).toEqual([]);
    expect(server.log()).toContain("DB loaded from append only file");
  },
);

test.each(cases)("%s %s does so in a transaction too", async (kind, _, isCluster) => {
  const text = log(
    ["SELECT", "0"],
    sets(KEYS),
    ["MULTI"],
    ["SET", "key:0", "2"],
    sweep(),
    ["SET", `${TAG}:1`, "2"],
    ["EXEC"],
  );
  await using server = await loadLog(kind, text, { isCluster });
  const left = [...KEYS.filter((key) => !isSwept(key)), `${TAG}:1`];
  expect(await sorted(server)).toEqual(left.toSorted());
  expect(complaints(server)).toEqual([]);
});

test.each(availableServers())("%s goes on in the database that was selected", async (kind) => {
  const text = log(["SELECT", "3"], sets(KEYS), ["SELECT", "5"], sets(KEYS), sweep(), [
    "SET",
    `${TAG}:after`,
    "1",
  ]);
  await using server = await loadLog(kind, text, { isCluster: false });
  const left = KEYS.filter((key) => !isSwept(key)).length;
  expect(await server.keysPerDatabase()).toEqual({ 3: left, 5: left + 1 });
});

test.each(cases)("%s %s loads it however long it takes", async (kind, _, isCluster) => {
  const text = log(["SELECT", "0"], sets(KEYS), sweep());
  const args = ["--busy-reply-threshold", "1", "--lazyfree-lazy-user-del", "yes"];
  await using server = await loadLog(kind, text, { isCluster, args });
  expect(await sorted(server)).toEqual(KEYS.filter((key) => !isSwept(key)).toSorted());
});

test.each(cases)(
  "%s %s says why it removes nothing where its default user may not",
  async (kind, _, isCluster) => {
    const text = log(["SELECT", "0"], sets(KEYS), sweep(), ["SET", "last", "1"]);
    const args = ["--user", ..."default on nopass ~* &* +@all -unlink".split(" ")];
    await using server = await loadLog(kind, text, { isCluster, args });
    // Valkey 9 asks nobody.
    const left = KEYS.filter((key) => kind !== "valkey-9" || !isSwept(key));
    expect(await server.send("DBSIZE")).toBe(left.length + 1);
    const why = "the default user must be allowed to run UNLINK";
    expect(server.log().includes(why)).toBe(kind !== "valkey-9");
  },
);
