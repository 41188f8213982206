import { describe, expect, test } from "bun:test";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import { logFolder } from "../../../src/archive/format/names.ts";
import { ArchivedLogs } from "../../../src/inspect/log/archived-logs.ts";
import type { LogEntry } from "../../../src/inspect/log/log-entry.ts";
import { type LogReadingOptions, readLog } from "../../../src/inspect/log/log-reading.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { encodeCommand } from "../../support/resp.ts";
import { Random } from "../../support/fill.ts";
import {
  randomCuts,
  STARTED_MS,
  writeArchive,
  writeGeneration,
} from "../../support/written-archive.ts";
import { never, openArchive, SHELVES, type Shelf } from "../../archive/reader/rig.ts";
import { rdbOf } from "../../store/rdb.ts";
import { isOfLink, logOf, madeStream, named, simpleEntries, simplified } from "./made-log.ts";

const RDB = rdbOf(1_000);
const BASE = 5_000;
const random = new Random(7);
/** Values of more than one block, so that segments have several. */
const large = (name: string) =>
  encodeCommand(["SET", `user:1:${name}`, random.bytes(400_000), random.text(300_000)]);
const stream = Buffer.concat([
  madeStream(random, 100),
  large("a"),
  large("b"),
  madeStream(random, 100),
  large("c"),
  madeStream(random, 100),
]);
const wanted = simpleEntries(logOf(BASE, 0, stream)).filter((one) => !isOfLink(one));
const PLAN = { rdb: RDB, stream, cuts: randomCuts(3, stream.length, 12), baseOffset: BASE };

async function read(
  shelf: Shelf,
  options: Partial<LogReadingOptions> = {},
  decryption?: Decryption,
): Promise<LogEntry[]> {
  using source = await ArchivedLogs.open(await openArchive(shelf, decryption), never);
  const found: LogEntry[] = [];
  for await (const entry of readLog(source, { signal: never, ...options })) found.push(entry);
  return found;
}

/** The end of a command outside a transaction, about so far into the stream. */
function cutAt(share: number): number {
  const wholes = simpleEntries(logOf(BASE, 0, stream)).filter(
    ({ transaction, words }) => transaction === undefined && words[0] !== "SELECT",
  );
  // In database 0, so that a log that begins there is the same.
  return wholes.find(({ end, db }) => db === 0 && end - BASE > share * stream.length)!.end - BASE;
}

describe.each(SHELVES)("the log in an archive at $name", ({ open }) => {
  test("is read from its segments, wherever they were cut, with the times of its marks", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    const { marks } = await writeGeneration(shelf.store, PLAN);
    const found = await read(shelf);
    expect(found.map(simplified)).toEqual(wanted.map(named));
    for (const { atMs, end, transaction } of found) {
      const effect = transaction?.end ?? end;
      expect(atMs).toBe(marks.find(({ offset }) => offset >= effect)!.timeMs);
    }
  });

  test("is read from a time and up to one, an offset and up to one", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    await writeGeneration(shelf.store, PLAN);
    const all = await read(shelf);
    const [from, to] = [STARTED_MS + 1_000, STARTED_MS + 14_000];
    const timed = await read(shelf, { from: { atMs: from }, to: { atMs: to } });
    expect(timed).toEqual(all.filter(({ atMs }) => atMs! >= from && atMs! <= to));
    expect(timed.length).toBeGreaterThan(5);
    const offset = all.at(-30)!.end;
    const rest = await read(shelf, { from: { offset } });
    expect(rest).toEqual(all.filter(({ end, transaction }) => (transaction?.end ?? end) > offset));
    const first = await read(shelf, { to: { offset } });
    expect(first).toEqual(
      all.filter(({ end, transaction }) => (transaction?.end ?? end) <= offset),
    );
  });

  test("of two generations that overlap is one log; a damaged segment is told after what is before it", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    const [begin, end] = [cutAt(0.4), cutAt(0.6)];
    const first = stream.subarray(0, end);
    await writeGeneration(shelf.store, {
      ...PLAN,
      stream: first,
      cuts: randomCuts(5, end, 6),
      isSealed: true,
    });
    const second = stream.subarray(begin);
    const written = await writeGeneration(shelf.store, {
      ...PLAN,
      stream: second,
      baseOffset: BASE + begin,
      cuts: randomCuts(6, second.length, 6),
      startedMs: STARTED_MS + 3_600_000,
      seed: 2,
    });
    const gaps: string[] = [];
    const found = await read(shelf, { onGap: (message) => gaps.push(message) });
    expect(found.map(simplified)).toEqual(wanted.map(named));
    expect(gaps).toEqual([]);
    const last = written.segments.at(-1)!;
    const bytes = Buffer.from(shelf.objects.get(last));
    bytes[bytes.length - 5]! ^= 1;
    shelf.objects.set(last, bytes);
    let shown = 0;
    const reading = async () => {
      using source = await ArchivedLogs.open(await openArchive(shelf), never);
      for await (const _ of readLog(source, { signal: never })) shown++;
    };
    const error = await rejectionOf(reading);
    expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED" });
    expect(error.message).toContain(last.slice(logFolder("").length));
    expect(shown).toBeGreaterThan(wanted.length / 3);
  });

  test("that two replicas wrote is shown once, up to where the farther one came", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    const end = cutAt(0.5);
    const short = { ...PLAN, stream: stream.subarray(0, end), cuts: randomCuts(8, end, 5) };
    await writeGeneration(shelf.store, { ...short, seed: 3 });
    await writeGeneration(shelf.store, { ...PLAN, startedMs: STARTED_MS + 1_000, seed: 4 });
    const gaps: string[] = [];
    const found = await read(shelf, { onGap: (message) => gaps.push(message) });
    expect(found.map(simplified)).toEqual(wanted.map(named));
    expect(gaps).toEqual([]);
  });

  test("encrypted is read with its identity alone", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    const key = await generateX25519Identity();
    const encryption = new Encryption([await identityToRecipient(key)]);
    await writeGeneration(shelf.store, { ...PLAN, encryption });
    const decryption = await Decryption.fromFile("keys.txt", key);
    expect((await read(shelf, {}, decryption)).map(simplified)).toEqual(wanted.map(named));
    expect(await rejectionOf(() => read(shelf))).toMatchObject({ code: "USAGE" });
  });

  test("is followed as segments come", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    const { segments } = await writeGeneration(shelf.store, PLAN);
    const later = segments.slice(4).map((key) => [key, shelf.objects.get(key)] as const);
    for (const [key] of later) shelf.objects.delete(key);
    using source = await ArchivedLogs.open(await openArchive(shelf), never);
    const quick = new Proxy(source, {
      get: (target, name) => {
        if (name === "lookEveryMs") return 1;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const found: LogEntry[] = [];
    for await (const entry of readLog(quick, { signal: never, isFollowing: true })) {
      found.push(entry);
      if (found.length === wanted.length) break;
      // Each time something was seen, the next one comes.
      const next = later.shift();
      if (next !== undefined) shelf.objects.set(...next);
    }
    expect(found.map(simplified)).toEqual(wanted.map(named));
  }, 150_000);
});
