import { resetSync } from "@logtape/logtape";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { beforeEach, describe, expect, test } from "bun:test";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { Output } from "../../../src/cli/terminal/output.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { Random } from "../../support/fill.ts";
import { seedOf, stride } from "../../support/sweep.ts";
import { REPLID } from "../../support/written-archive.ts";
import { openArchive, openBucket, openFolder, SHELVES } from "../reader/rig.ts";
import { AgedArchive, DAY } from "./rig.ts";

const OTHER = "b".repeat(40);
const NOTHING = { generations: [], folders: [], objects: 0, bytes: 0 };

let lines: string[];
beforeEach(() => {
  lines = [];
  const output = new Output({ sink: (text) => lines.push(text), isTty: false });
  configureLogging({ level: "info", format: "text", output });
  return () => resetSync();
});
const cutShort = () => new ReplicaError("ARCHIVE_FAILED", { message: "cut" });
const told = (text: string) => lines.filter((line) => line.includes(text)).length;

describe.each([...SHELVES])("$name", ({ open }) => {
  test("what no young moment needs goes: base.json first, the rest a day later", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    const before = archive.keys();
    const removed = await archive.run();
    // The fourth one is seven and a half days old: from then on it tells all.
    expect(removed).toMatchObject({ generations: names.slice(0, 3), folders: [], objects: 3 });
    const heads = (await openArchive(shelf)).heads.map(({ name }) => name);
    expect(heads).toEqual(names.slice(3));
    const isOld = (key: string) => names.slice(0, 3).some((name) => key.includes(name));
    const stays = before.filter((key) => !isOld(key) || !key.endsWith("base.json"));
    expect(archive.keys().filter((key) => !key.endsWith("removed.json"))).toEqual(stays);
    expect(told("removed generation")).toBe(3);
    expect(told("every moment of the last 7 d 0 h can be restored without it")).toBe(3);
    archive.pass(0.9);
    // Meanwhile the next one has become old.
    expect(await archive.run()).toMatchObject({ generations: [names[3]], folders: [] });
    archive.pass(0.2);
    expect(await archive.run()).toMatchObject({ generations: [], folders: names.slice(0, 3) });
    expect(archive.keys()).toEqual(
      [
        ...before.filter((key) => !isOld(key) && !key.endsWith(`${names[3]}/base.json`)),
        `generations/${names[3]}/removed.json`,
      ].toSorted(),
    );
    expect(told("removed what was left of")).toBe(3);
  });

  test("a clock of this machine that is a day ahead removes nothing that is younger by the store's", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    shelf.clock.aheadMs = shelf.server === undefined ? DAY : 14 * 60_000;
    expect((await archive.run()).generations).toEqual(names.slice(0, 3));
    shelf.clock.aheadMs = 0;
    archive.pass(0.9);
    shelf.clock.aheadMs = shelf.server === undefined ? 30 * DAY : 14 * 60_000;
    expect((await archive.run()).folders).toEqual([]);
  });

  test("a mark on what stays is taken back, but not while somebody may be about to remove it", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 2);
    const mark = `generations/${names[0]}/removed.json`;
    await archive.put(mark, 0);
    await archive.run();
    expect(archive.keys()).toContain(mark);
    archive.age(mark, 0.1);
    await archive.run();
    expect(archive.keys()).not.toContain(mark);
    expect((await openArchive(shelf)).heads).toHaveLength(3);
  });

  test("what a writer's clock dates into the future covers nothing until then", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const old = await archive.write({ from: 30, to: 20, lineage: { name: "a", generation: 1 } });
    const later = { from: 20, to: 10, lineage: { name: "a", generation: 2 } };
    await archive.write({ ...later, startedMs: Date.now() + 20 * DAY });
    expect(await archive.run()).toEqual(NOTHING);
    const third = { from: 10, to: 0, lineage: { name: "a", generation: 3 } };
    await archive.write(third);
    expect((await archive.run()).generations).toContain(old.name);
  });

  test("with nothing said about how long, nothing goes and nothing is asked", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    await archive.daily("a", 3);
    const seen = shelf.server?.seen.length;
    expect(await archive.run({ keepForMs: undefined })).toEqual(NOTHING);
    expect(shelf.server?.seen.length).toBe(seen!);
  });

  test("what somebody else put there stays, and is told once", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const [first] = await archive.daily("a", 10);
    const foreign = [
      `generations/${first}/notes.txt`,
      `generations/${first}/base/000000.rdb.gz`,
      `generations/${first}/log/more/1.txt`,
      "generations/README",
      "generations/mine/base.json",
      "elsewhere/base.json",
    ];
    for (const key of foreign) await archive.put(key, 20);
    const retention = archive.retention();
    for (let run = 0; run < 3; run++) {
      await retention.runOnce(new AbortController().signal);
      archive.pass(1.1);
    }
    expect(archive.keys().filter((key) => key.includes(first!))).toEqual(
      foreign.slice(0, 3).toSorted(),
    );
    for (const key of foreign) expect(archive.keys()).toContain(key);
    expect(told("is no part of an archive")).toBe(3);
  });

  test("what is damaged, and what a newer version wrote, stays, and is told once", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 16);
    const { objects } = shelf;
    const change = (at: number, file: string, bytes: string | undefined) => {
      const key = `generations/${names[at]}/${file}`;
      if (bytes === undefined) objects.delete(key);
      else objects.set(key, Buffer.from(bytes));
      if (bytes !== undefined) archive.age(key, 20);
    };
    change(0, "base.json", "{");
    change(1, "generation.json", '{"format": 2}');
    change(2, "sealed.json", "");
    change(3, "generation.json", undefined);
    change(4, "base.json", undefined);
    for (const piece of archive.keys(`${names[6]}/base/`).slice(0, 1)) objects.delete(piece);
    const stays = archive
      .keys()
      .filter((key) => [0, 1, 2, 3, 4, 6].some((at) => key.includes(names[at]!)));
    const retention = archive.retention();
    for (let run = 0; run < 3; run++) {
      await retention.runOnce(new AbortController().signal);
      archive.pass(1.1);
    }
    const left = archive.keys();
    for (const key of stays) expect(left).toContain(key);
    expect(left.some((key) => key.includes(names[5]!))).toBe(false);
    expect(told("is never removed")).toBe(5);
  });

  test("a half-made folder goes two days after its last object, if its description is there", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    await archive.daily("a", 1);
    const half = await archive.write({ from: 0.5, to: 0.5 });
    for (const key of archive.keys(half.name))
      if (/log|sealed|base\.json/.test(key)) shelf.objects.delete(key);
    const own = archive.keys(half.name);
    const mark = `generations/${half.name}/removed.json`;
    expect(own.length).toBeGreaterThan(2);
    await archive.run();
    expect(archive.keys(half.name)).toEqual(own);
    archive.pass(0.6);
    await archive.run();
    expect(archive.keys(half.name)).toEqual([...own, mark].toSorted());
    archive.pass(0.95);
    await archive.run();
    expect(archive.keys(half.name)).toHaveLength(own.length + 1);
    archive.pass(0.1);
    expect((await archive.run()).folders).toEqual([half.name]);
    expect(archive.keys(half.name)).toEqual([]);
  });

  test("a folder that is still written to is not half made, however slowly that goes", async () => {
    await using shelf = await open();
    const archive = await AgedArchive.on(shelf);
    const slow = await archive.write({ from: 5, to: 5 });
    for (const key of archive.keys(slow.name))
      if (/log|sealed|base\.json/.test(key)) shelf.objects.delete(key);
    await archive.run();
    const [piece] = archive.keys(`${slow.name}/base/`);
    archive.age(piece!, 0);
    archive.pass(1.5);
    await archive.run();
    // Marked before, and written to since: it lives.
    expect(archive.keys(slow.name).some((key) => key.endsWith("removed.json"))).toBe(false);
    await archive.run();
    expect(archive.keys(slow.name).some((key) => key.endsWith("removed.json"))).toBe(true);
  });

  test("a removal that was cut at any object goes on, and nobody finds half a generation", async () => {
    const random = new Random(seedOf("RETENTION_CUT_SEED"));
    for (let cut = 0; ; cut += stride(8, random)) {
      await using shelf = await open();
      const archive = await AgedArchive.on(shelf);
      const names = await archive.daily("a", 8);
      const after = { puts: cut };
      const failing = {
        url: shelf.store.url,
        get: shelf.store.get.bind(shelf.store),
        list: shelf.store.list.bind(shelf.store),
        settle: shelf.store.settle.bind(shelf.store),
        now: shelf.store.now.bind(shelf.store),
        put: async (...args: Parameters<typeof shelf.store.put>) => {
          if (after.puts-- === 0) throw cutShort();
          await shelf.store.put(...args);
        },
        delete: async (...args: Parameters<typeof shelf.store.delete>) => {
          if (after.puts-- === 0) throw cutShort();
          await shelf.store.delete(...args);
        },
      };
      const runs = async (store: typeof shelf.store) => {
        for (let day = 0; day < 2; day++) {
          await archive.retention({ store }).runOnce(new AbortController().signal);
          const whole = (await openArchive(shelf)).found.every(({ kind }) => kind !== "damaged");
          expect(whole).toBe(true);
          archive.pass(day === 0 ? 1.01 : 0);
        }
      };
      let isCut = false;
      await runs(failing).catch((error: unknown) => {
        if (!(error instanceof ReplicaError)) throw error;
        isCut = true;
      });
      const heads = (await openArchive(shelf)).heads.map(({ name }) => name);
      expect(heads).toEqual(expect.arrayContaining(names.slice(2)));
      if (!isCut) break;
      for (let day = 0; day < 3; day++) {
        await archive.run();
        archive.pass(1.01);
      }
      expect(archive.keys().some((key) => key.includes(names[0]!))).toBe(false);
    }
  });
});

describe("two replicas with one prefix", () => {
  test("of one primary: each keeps all that its own moments need", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const a = await archive.daily("a", 10);
    const b = await archive.daily("b", 9, { startedMs: Date.now() - 20 * DAY });
    expect((await archive.run()).generations.toSorted()).toEqual(
      [...a.slice(0, 3), ...b.slice(0, 2)].toSorted(),
    );
  });

  test("of two primaries: what one has is no reason for the other's, and its newest stays for ever", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const dead = await archive.write({
      from: 40,
      to: 30,
      replid: OTHER,
      baseOffset: 10,
      isSealed: false,
    });
    const names = await archive.daily("a", 10);
    expect((await archive.run()).generations).toEqual(names.slice(0, 3));
    archive.pass(400);
    await archive.run();
    const heads = (await openArchive(shelf)).heads.map(({ name }) => name);
    expect(heads).toEqual([dead.name, names.at(-1)!]);
  });

  test("a container that was replaced by another one: its generation goes, without its identity only if all can be read", async () => {
    const identity = await generateX25519Identity();
    const encryption = new Encryption([await identityToRecipient(identity)]);
    const decryption = await Decryption.fromFile("keys.txt", identity);
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const dead = await archive.write({
      from: 30,
      to: 20,
      baseOffset: 10,
      isSealed: false,
      encryption,
    });
    await archive.write({ from: 18, to: 0, baseOffset: 500, isSealed: false, encryption });
    expect(await archive.run()).toEqual(NOTHING);
    expect((await archive.run({ decryption })).generations).toEqual([dead.name]);
  });

  test("one that went on under another history than the other one's stays", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const histories = [{ replid: OTHER, fromOffset: 15 }];
    await archive.write({ from: 30, to: 20, baseOffset: 10, histories });
    await archive.write({ from: 18, to: 0, baseOffset: 500 });
    expect(await archive.run()).toEqual(NOTHING);
    const next = await archive.write({ from: 10, to: 0, baseOffset: 60, replid: OTHER });
    expect((await archive.run()).generations).toHaveLength(1);
    expect((await openArchive(shelf)).heads.map(({ name }) => name)).toContain(next.name);
  });

  test("headers are read once, and none of what is young", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    await archive.write({ from: 30, to: 20, baseOffset: 10, replid: OTHER });
    await archive.daily("a", 10);
    const retention = archive.retention();
    const reads = () =>
      shelf.server!.seen.filter(
        ({ operation, key }) => operation === "GET" && key.includes("/log/"),
      ).length;
    await retention.runOnce(new AbortController().signal);
    const first = reads();
    expect(first).toBeGreaterThan(0);
    // Those of the old one, and of those that might have its end.
    await retention.runOnce(new AbortController().signal);
    expect(reads()).toBe(first);
    expect(REPLID).not.toBe(OTHER);
  });
});

describe("a folder", () => {
  test("where this machine's clock is behind, less goes, and that is told once", async () => {
    await using shelf = await openFolder();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    shelf.clock.aheadMs = -2 * DAY + 60_000;
    const retention = archive.retention();
    const { signal } = new AbortController();
    expect((await retention.runOnce(signal)).generations).toEqual(names.slice(0, 1));
    await retention.runOnce(signal);
    expect(told("this machine's clock is 1 d 23 h behind that of file://")).toBe(1);
  });

  test("what a writer in a folder left amid its first object goes after two days", async () => {
    await using shelf = await openFolder();
    const archive = await AgedArchive.on(shelf);
    await archive.daily("a", 1);
    const key = "generations/20260101T000000Z-abcdefghij/.writing-1-abc";
    await archive.put(key, 1.9);
    await archive.run();
    expect(archive.keys()).toContain(key);
    archive.pass(0.2);
    expect((await archive.run()).folders).toEqual(["20260101T000000Z-abcdefghij"]);
    expect(archive.keys("20260101")).toEqual([]);
  });
});

describe("a bucket", () => {
  test("that forbids to delete is told of once, and nothing else suffers", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    const denied = { kind: "error", status: 403, code: "AccessDenied" } as const;
    shelf.server!.fail({ operation: "DELETE", times: 1_000, effect: denied });
    const retention = archive.retention();
    for (let run = 0; run < 3; run++)
      expect(await retention.runOnce(new AbortController().signal)).toEqual(NOTHING);
    expect(told("what is old stays in s3://bucket/archive")).toBe(1);
    expect(lines.join("")).toContain("s3:DeleteObject");
    expect((await openArchive(shelf)).heads.map(({ name }) => name)).toEqual(names);
    expect(retention.counts).toMatchObject({ generations: 0, failures: 3 });
    shelf.server!.heal();
    expect((await retention.runOnce(new AbortController().signal)).generations).toEqual(
      names.slice(0, 3),
    );
  });

  test("that tells no date is judged by its newest object", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    shelf.server!.clock = () => undefined;
    expect((await archive.run()).generations).toEqual(names.slice(0, 3));
  });

  test("whose own date is ahead is judged by this machine's", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    const { store } = shelf;
    const ahead = Object.assign(Object.create(store) as typeof store, {
      now: async () => Date.now() + 100 * DAY,
    });
    const bound = {
      url: store.url,
      get: store.get.bind(store),
      list: store.list.bind(store),
      settle: store.settle.bind(store),
      put: store.put.bind(store),
      delete: store.delete.bind(store),
      now: ahead.now,
    };
    expect((await archive.run({ store: bound })).generations).toEqual(names.slice(0, 3));
  });

  test("whose list is in pages, and stale, is read to its end", async () => {
    await using shelf = await openBucket();
    shelf.server!.pageKeys = 2;
    const archive = await AgedArchive.on(shelf);
    const names = await archive.daily("a", 10);
    const hidden = archive.keys(names[4]).find((key) => key.endsWith("base.json"))!;
    shelf.server!.unlisted.add(`archive/${hidden}`);
    expect((await archive.run()).generations).toEqual(names.slice(0, 3));
    archive.pass(1.1);
    await archive.run();
    expect(archive.keys(names[0])).toEqual([]);
  });

  test("that holds no archive, or one of a newer format, loses nothing", async () => {
    await using shelf = await openBucket();
    const archive = await AgedArchive.on(shelf);
    await archive.daily("a", 10);
    shelf.objects.set("archive.json", Buffer.from('{"format": 2, "kind": "replica-archive"}'));
    expect(await rejectionOf(() => archive.run())).toMatchObject({ code: "ARCHIVE_TOO_NEW" });
    shelf.objects.delete("archive.json");
    expect(await archive.run()).toEqual(NOTHING);
  });
});
