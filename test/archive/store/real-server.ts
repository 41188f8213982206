import { beforeAll, describe, expect, test } from "bun:test";
import {
  sha256Of,
  type ListPage,
  type ObjectStore,
} from "../../../src/archive/store/object-store.ts";
import { openStore } from "../../../src/archive/store/open-store.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { Random } from "../../support/fill.ts";
import type { S3Server } from "../../support/s3-server.ts";
import { StoreClock } from "../../support/store-clock.ts";

const signal = new AbortController().signal;
const MIB = 1024 * 1024;
const AT_ONCE = 16;

/** Keys that are signed, sent or listed wrongly where something is encoded once too often or too seldom. */
const ODD_KEYS = [
  "a b",
  "a+b",
  "a%20b",
  "a%2Fb",
  "a&b=c",
  "a?b#c",
  "a~b-c_d.e",
  "a'b(c)d!e*f",
  "a;b:c@d,e$f",
  'a"b<c>d',
  "[a]{b}|^`c\\d",
  "ünï/çödé",
  "日本",
  "👋",
  "..e/f..",
];

/** What real servers do each in their own way. */
export interface ServerWays {
  /** How many names a page of a list has. */
  readonly pageNames: number;
  /** Of two who store other bytes at the same moment, one meets a conflict. Swift lets the last one win. */
  readonly isAtomic: boolean;
  /** It tells an access key that it does not know from a wrong secret. */
  readonly tellsUnknownKeys: boolean;
}

/** Opens a bucket of a real server. */
export function openReal(
  server: S3Server,
  url: string,
  more: {
    readonly clock?: StoreClock;
    readonly region?: string;
    readonly environment?: Readonly<Record<string, string>>;
  } = {},
): ObjectStore {
  const { clock = new StoreClock(), region, environment } = more;
  return openStore(url, region === undefined ? {} : { region }, {
    clock,
    disk: realFolderDisk,
    environment: { ...server.environment, ...environment },
    credentials: () => Promise.reject(new Error("there are none")),
  });
}

function bytesOf(length: number, seed: number): Buffer {
  const random = new Random(seed);
  return Buffer.alloc(length, random.text(997));
}

/** The tests of a store that every real server has to pass. `serverOf` is called once they run. */
export function testStore(serverOf: () => S3Server, ways: ServerWays): void {
  let clock: StoreClock;
  let store: ObjectStore;
  beforeAll(() => {
    clock = new StoreClock();
    store = openReal(serverOf(), "s3://bucket/store", { clock });
  });

  const get = (key: string, maxBytes = 17 * MIB) => store.get(key, { maxBytes }, signal);
  const listed = async (folder: string) => {
    const pages: ListPage[] = [];
    for await (const page of store.list(folder, signal)) pages.push(page);
    return pages;
  };

  describe("an object", () => {
    test.each([0, 1, 100_000, 16 * MIB])(
      "of %d bytes comes back as it was stored",
      async (length) => {
        const [key, bytes] = [`sizes/${length}`, bytesOf(length, length)];
        await store.put(key, bytes, signal);
        const sha256 = (await sha256Of(bytes)).toString("hex");
        const found = await store.get(key, { maxBytes: length, sha256 }, signal);
        expect(bytes.equals(found!)).toBe(true);
      },
    );

    test("is stored once: equal bytes are a success, others a conflict", async () => {
      await store.put("once", bytesOf(1_000, 1), signal);
      await store.put("once", bytesOf(1_000, 1), signal);
      for (const other of [bytesOf(1_000, 2), bytesOf(999, 1), bytesOf(1_001, 1), bytesOf(0, 1)]) {
        const error = await rejectionOf(() => store.put("once", other, signal));
        expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT", retry: "never" });
      }
      expect(bytesOf(1_000, 1).equals((await get("once"))!)).toBe(true);
    });

    test("is what one of two stored who store it at the same time", async () => {
      const [mine, theirs] = [bytesOf(300_000, 3), bytesOf(300_000, 4)];
      const other = openReal(serverOf(), "s3://bucket/store");
      const outcomes = await Promise.allSettled([
        store.put("race", mine, signal),
        other.put("race", theirs, signal),
      ]);
      const won = outcomes.findIndex(({ status }) => status === "fulfilled");
      expect(won).not.toBe(-1);
      const found = (await get("race"))!;
      if (ways.isAtomic) {
        expect(outcomes[1 - won]).toMatchObject({ reason: { code: "ARCHIVE_CONFLICT" } });
        expect([mine, theirs][won]!.equals(found)).toBe(true);
      } else expect([mine, theirs].filter((bytes) => bytes.equals(found))).toHaveLength(1);
      // A server may answer 409 to both, and the one who tries again waits for that.
      clock.pauses.length = 0;
    });

    test("is read in parts", async () => {
      await store.put("parts", Buffer.from("0123456789"), signal);
      const part = async (from: number, to: number) => {
        const bytes = await store.get("parts", { range: { from, to }, maxBytes: 10 }, signal);
        return Buffer.from(bytes!).toString();
      };
      expect(await part(2, 5)).toBe("234");
      expect(await part(0, 10)).toBe("0123456789");
      expect(await part(8, 20)).toBe("89");
      expect(await part(10, 20)).toBe("");
      expect(await store.get("none", { range: { from: 0, to: 1 }, maxBytes: 1 }, signal)).toBe(
        undefined,
      );
    });

    test("is checked against the SHA-256 that is known of it, and its size", async () => {
      await store.put("checked", bytesOf(100_000, 5), signal);
      const wrong = { maxBytes: 100_000, sha256: "0".repeat(64) };
      const error = await rejectionOf(() => store.get("checked", wrong, signal));
      expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED", retry: "never" });
      expect(error.message).toContain("has another SHA-256");
      clock.pauses.length = 0;
      const large = await rejectionOf(() => get("checked", 70_000));
      expect(large).toMatchObject({ code: "ARCHIVE_DAMAGED" });
      expect(large.message).toContain("has 100000 bytes, more than the 70000");
    });

    test("is gone once it was deleted; a missing one is deleted too", async () => {
      await store.put("gone", bytesOf(10, 6), signal);
      await store.delete("gone", signal);
      await store.delete("gone", signal);
      expect(await get("gone")).toBeUndefined();
      await store.put("gone", bytesOf(10, 7), signal);
      expect(bytesOf(10, 7).equals((await get("gone"))!)).toBe(true);
    });
  });

  describe("a list", () => {
    test("shows names, sizes, folders and the store's time", async () => {
      const startedMs = Date.now();
      for (const name of ["a", "b/c", "b/d", "e/f/g"])
        await store.put(`listed/${name}`, bytesOf(name.length, 1), signal);
      const [page, ...more] = await listed("listed");
      expect(more).toEqual([]);
      expect(page).toMatchObject({ objects: [{ name: "a", bytes: 1 }], folders: ["b", "e"] });
      for (const ms of [page!.dateMs!, page!.objects[0]!.modifiedMs])
        expect(Math.abs(ms - startedMs)).toBeLessThan(60_000);
      expect(await listed("listed/none")).toMatchObject([{ objects: [], folders: [] }]);
    });

    test("shows more than a page of names, also while they are deleted", async () => {
      const name = (n: number) => String(n).padStart(6, "0");
      const numbers = Array.from({ length: ways.pageNames + 3 }, (_, n) => n);
      const left = [...numbers];
      const storing = Array.from({ length: AT_ONCE }, async () => {
        for (let n = left.pop(); n !== undefined; n = left.pop())
          await store.put(`many/${name(n)}`, Buffer.from(name(n)), signal);
      });
      await Promise.all(storing);
      const pages = await listed("many");
      expect(pages.length).toBeGreaterThan(1);
      const found = pages.flatMap(({ objects }) => objects.map((object) => object.name));
      expect(found).toEqual(numbers.map(name));
      let count = 0;
      for await (const { objects } of store.list("many", signal)) {
        count += objects.length;
        for (const object of objects.slice(0, 5)) await store.delete(`many/${object.name}`, signal);
      }
      expect(count).toBe(numbers.length);
    });

    test("and each request keeps odd characters of a key", async () => {
      for (const [n, key] of ODD_KEYS.entries())
        await store.put(`odd/${key}`, bytesOf(n + 1, n), signal);
      for (const [n, key] of ODD_KEYS.entries())
        expect([key, bytesOf(n + 1, n).equals((await get(`odd/${key}`))!)]).toEqual([key, true]);
      const found = (await listed("odd")).flatMap(({ objects, folders }) => [
        ...objects.map(({ name }) => name),
        ...folders,
      ]);
      expect(new Set(found)).toEqual(new Set(ODD_KEYS.map((key) => key.split("/")[0]!)));
      for (const key of ODD_KEYS) await store.delete(`odd/${key}`, signal);
      expect(await listed("odd")).toMatchObject([{ objects: [], folders: [] }]);
    });
  });

  describe("is told at once, at each request:", () => {
    const acts: [string, (one: ObjectStore) => Promise<unknown>][] = [
      ["put", (one) => one.put("refused", bytesOf(100, 1), signal)],
      ["get", (one) => one.get("refused", { maxBytes: 100 }, signal)],
      ["list", (one) => one.list("", signal).next()],
      ["delete", (one) => one.delete("refused", signal)],
    ];

    test.each(acts)("a wrong secret, %s", async (_name, act) => {
      const environment = { AWS_SECRET_ACCESS_KEY: "another-secret-that-nobody-knows" };
      const wrong = openReal(serverOf(), "s3://bucket/store", { environment, clock });
      const error = await rejectionOf(() => act(wrong));
      expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN", retry: "never" });
      expect(error.message).toContain("check AWS_SECRET_ACCESS_KEY");
      expect(Bun.inspect(error)).not.toContain("another-secret");
    });

    test.each(acts)("a key that the server does not know, %s", async (_name, act) => {
      const environment = { AWS_ACCESS_KEY_ID: "NOBODY" };
      const wrong = openReal(serverOf(), "s3://bucket/store", { environment, clock });
      const error = await rejectionOf(() => act(wrong));
      expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN", retry: "never" });
      const said = ways.tellsUnknownKeys
        ? "does not know this access key"
        : "and AWS_ACCESS_KEY_ID";
      expect(error.message).toContain(said);
    });

    test.each(acts)("a bucket that is missing, %s", async (_name, act) => {
      const missing = openReal(serverOf(), "s3://missing/store", { clock });
      const error = await rejectionOf(() => act(missing));
      expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "never" });
      expect(error.message).toContain('the bucket "missing" does not exist');
    });

    test.each(acts)("a clock that is 20 minutes off, %s", async (_name, act) => {
      for (const [aheadMs, said] of [
        [-20 * 60_000, /clock, which is (?:19|20) min behind the store's: set the clock/],
        [20 * 60_000, /clock, which is (?:20|21) min ahead of the store's: set the clock/],
      ] as const) {
        const off = new StoreClock();
        off.aheadMs = aheadMs;
        const error = await rejectionOf(() =>
          act(openReal(serverOf(), "s3://bucket/store", { clock: off })),
        );
        expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN", retry: "never" });
        expect(error.message).toMatch(said);
        expect(off.pauses).toEqual([]);
      }
    });
  });

  test("another region than the bucket's does no harm", async () => {
    const elsewhere = openReal(serverOf(), "s3://bucket/store", { region: "eu-north-1", clock });
    await elsewhere.put("region", bytesOf(100, 8), signal);
    expect(bytesOf(100, 8).equals((await get("region"))!)).toBe(true);
  });

  test("a bucket's root is an archive's too", async () => {
    const root = openReal(serverOf(), "s3://root", { clock });
    await root.put("archive.json", bytesOf(10, 9), signal);
    const pages: ListPage[] = [];
    for await (const page of root.list("", signal)) pages.push(page);
    expect(pages).toMatchObject([{ objects: [{ name: "archive.json", bytes: 10 }], folders: [] }]);
  });

  test("nothing of all that took a second try", () => {
    expect(clock.pauses).toEqual([]);
  });
}
