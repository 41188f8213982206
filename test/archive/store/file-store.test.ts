import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { realClock } from "../../../src/base/clock.ts";
import { FileStore, isLeftover } from "../../../src/archive/store/file-store.ts";
import {
  type ListPage,
  LostPlace,
  type ObjectStore,
} from "../../../src/archive/store/object-store.ts";
import { openStore } from "../../../src/archive/store/open-store.ts";
import { Random } from "../../../src/demo/random.ts";
import { type FolderDisk, realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { errorOf, rejectionOf, thrownBy, usageErrorOf } from "../../support/error-of.ts";
import { type DiskOperation, FaultyDisk } from "../../support/faulty-disk.ts";
import { PowerCutDisk } from "../../support/power-cut-disk.ts";
import { seedOf } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

const signal = new AbortController().signal;
const KEY = "generations/a/log/1-2-3.aof";
const BYTES = Buffer.from("what is kept\n".repeat(100));
const SEED = seedOf("FILE_STORE_SEED", 1);

const storeIn = (root: string, disk: FolderDisk = realFolderDisk) =>
  new FileStore(root, disk, realClock);

async function listed(store: ObjectStore, folder: string): Promise<ListPage[]> {
  const pages: ListPage[] = [];
  for await (const page of store.list(folder, signal)) pages.push(page);
  return pages;
}

async function namesIn(store: ObjectStore, folder: string): Promise<string[]> {
  return (await listed(store, folder)).flatMap(({ objects }) => objects.map(({ name }) => name));
}

const modeOf = (path: string) => (fs.statSync(path).mode & 0o777).toString(8);

describe("an archive in a folder", () => {
  test("tells the time of its file system, whatever this machine's clock says, and leaves nothing", async () => {
    using dir = tempDir("archive");
    const root = dir.file("archive");
    const ahead = { ...realClock, now: () => Date.now() + 86_400_000 };
    const store = new FileStore(root, realFolderDisk, ahead);
    expect(await store.now(signal)).toBeUndefined();
    await store.put(KEY, BYTES, signal);
    expect(Math.abs((await store.now(signal))! - Date.now())).toBeLessThan(600_000);
    expect(fs.readdirSync(root)).toEqual(["generations"]);
    const disk = new FaultyDisk();
    disk.fail({ operation: "createPrivate", code: "EACCES" });
    const error = await rejectionOf(() => new FileStore(root, disk, ahead).now(signal));
    expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
  });

  test("keeps objects, gives them back whole and in parts, lists and deletes them", async () => {
    using dir = tempDir("archive");
    const url = pathToFileURL(dir.file("an archive")).href;
    const seams = { clock: realClock, disk: realFolderDisk, environment: {}, credentials: none };
    const store = openStore(url, {}, seams);
    expect(await store.get(KEY, { maxBytes: 10 }, signal)).toBeUndefined();
    expect(await listed(store, "generations")).toMatchObject([{ objects: [], folders: [] }]);
    await store.put(KEY, BYTES, signal);
    await store.put("archive.json", new Uint8Array(0), signal);
    const whole = await store.get(KEY, { maxBytes: BYTES.length }, signal);
    expect(BYTES.equals(whole!)).toBe(true);
    const part = async (from: number, to: number) =>
      Buffer.from((await store.get(KEY, { range: { from, to }, maxBytes: 9 }, signal))!).toString();
    expect(await part(5, 12)).toBe("is kept");
    expect(await part(BYTES.length - 2, BYTES.length + 9)).toBe("t\n");
    expect(await part(BYTES.length + 5, BYTES.length + 9)).toBe("");
    const [page] = await listed(store, "");
    expect(page).toMatchObject({
      objects: [{ name: "archive.json", bytes: 0 }],
      folders: ["generations"],
    });
    expect(page!.dateMs! - page!.objects[0]!.modifiedMs).toBeLessThan(600_000);
    await store.delete(KEY, signal);
    await store.delete(KEY, signal);
    expect(await store.get(KEY, { maxBytes: 10 }, signal)).toBeUndefined();
    expect(fs.readdirSync(dir.file("an archive"))).toEqual(["archive.json"]);
    await store.put(KEY, BYTES, signal);
  });

  test("is its owner's alone", async () => {
    using dir = tempDir("archive");
    await storeIn(dir.file("x")).put(KEY, BYTES, signal);
    expect(modeOf(dir.file("x", KEY))).toBe("600");
    for (const folder of ["x", "x/generations", "x/generations/a", "x/generations/a/log"])
      expect(modeOf(dir.file(folder))).toBe("700");
  });

  test("takes equal bytes again, and no others", async () => {
    using dir = tempDir("archive");
    const store = storeIn(dir.file("x"));
    await store.put(KEY, BYTES, signal);
    await store.put(KEY, BYTES, signal);
    for (const other of [Buffer.alloc(BYTES.length), BYTES.subarray(1), Buffer.alloc(0)]) {
      const error = await rejectionOf(() => store.put(KEY, other, signal));
      expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT", retry: "never" });
    }
    expect(fs.readFileSync(dir.file("x", KEY)).equals(BYTES)).toBe(true);
    expect(fs.readdirSync(dirname(dir.file("x", KEY)))).toEqual(["1-2-3.aof"]);
  });

  test("of two writers at once, one bytes win and none is harmed", async () => {
    using dir = tempDir("archive");
    const bodies = [Buffer.from("one"), Buffer.from("two"), Buffer.from("one")];
    const put = (body: Buffer) =>
      storeIn(dir.file("x"))
        .put(KEY, body, signal)
        .then(
          () => "stored",
          (error: { code: string }) => error.code,
        );
    const said = await Promise.all(bodies.map(put));
    const kept = fs.readFileSync(dir.file("x", KEY)).toString();
    expect(said).toEqual(
      bodies.map((body) => (body.toString() === kept ? "stored" : "ARCHIVE_CONFLICT")),
    );
  });

  test("lists in pages, in the order of the names", async () => {
    using dir = tempDir("archive");
    fs.mkdirSync(dir.file("x"));
    const names = Array.from({ length: 2001 }, (_, at) => String(at).padStart(5, "0"));
    for (const name of names.toReversed()) fs.writeFileSync(dir.file("x", name), "");
    const pages = await listed(storeIn(dir.path), "x");
    expect(pages.map(({ objects }) => objects.length)).toEqual([1000, 1000, 1]);
    expect(pages.flatMap(({ objects }) => objects.map(({ name }) => name))).toEqual(names);
  });

  test("follows no link, reads no pipe and no folder, and lists neither", async () => {
    using dir = tempDir("archive");
    fs.writeFileSync(dir.file("secret"), "secret");
    fs.mkdirSync(dir.file("x/folder"), { recursive: true });
    fs.symlinkSync(dir.file("secret"), dir.file("x/link"));
    expect(Bun.spawnSync(["mkfifo", dir.file("x/pipe")]).exitCode).toBe(0);
    const store = storeIn(dir.file("x"));
    for (const name of ["link", "pipe", "folder"]) {
      const error = await rejectionOf(() => store.get(name, { maxBytes: 100 }, signal));
      expect(error.code).toMatch(/^ARCHIVE_/);
      expect(await rejectionOf(() => store.put(name, BYTES, signal))).toBeDefined();
    }
    expect(fs.readFileSync(dir.file("secret"), "utf8")).toBe("secret");
    expect(await namesIn(store, "")).toEqual([]);
  });

  test("refuses a large object, a changed one, and a folder that isn't there to hold it", async () => {
    using dir = tempDir("archive");
    const store = storeIn(dir.file("x"));
    await store.put(KEY, BYTES, signal);
    const read = (options: { maxBytes: number; sha256?: string }) =>
      rejectionOf(() => store.get(KEY, options, signal));
    expect(await read({ maxBytes: 10 })).toMatchObject({ code: "ARCHIVE_DAMAGED" });
    const sha256 = new Bun.CryptoHasher("sha256").update(BYTES).digest("hex");
    expect(await store.get(KEY, { maxBytes: 5000, sha256 }, signal)).toBeDefined();
    fs.writeFileSync(dir.file("x", KEY), BYTES.toString().replace("kept", "lost"));
    expect(await read({ maxBytes: 5000, sha256 })).toMatchObject({ code: "ARCHIVE_DAMAGED" });
    const unmounted = storeIn(dir.file("mnt/disk/x"));
    const error = await rejectionOf(() => unmounted.put(KEY, BYTES, signal));
    expect(error).toMatchObject({ code: "ARCHIVE_FAILED" });
    expect(error.message).toContain("mount what belongs there");
    expect(fs.existsSync(dir.file("mnt"))).toBe(false);
  });

  test.each(["http://host/x", "file://host/x", "/path", "s3:/x", ""])("is not at %p", (url) => {
    const seams = { clock: realClock, disk: realFolderDisk, environment: {}, credentials: none };
    usageErrorOf(() => openStore(url, {}, seams));
  });

  test.each(["", "a//b", "../a", "a/..", "./a", "/a", "a/", "a\0b", "x".repeat(1025)])(
    "takes no key %p",
    async (key) => {
      using dir = tempDir("archive");
      expect(await thrownBy(storeIn(dir.file("x")).put(key, BYTES, signal))).toThrow(
        "invariant broken",
      );
    },
  );
});

describe("on a failing disk", () => {
  const hangs: [DiskOperation, (store: ObjectStore, signal: AbortSignal) => Promise<unknown>][] = [
    ["syncData", (store, signal) => store.put(KEY, BYTES, signal)],
    ["openRegular", (store, signal) => store.get("there", { maxBytes: 5000 }, signal)],
    ["listDir", (store, signal) => store.list("", signal).next()],
    ["lookAt", (store, signal) => store.list("", signal).next()],
    ["unlink", (store, signal) => store.delete("there", signal)],
  ];

  /** What is done at every fault: two objects, then reading, listing and deleting. */
  const acts: [string, (store: ObjectStore) => Promise<unknown>][] = [
    ["put", (store) => store.put(KEY, BYTES, signal)],
    ["put again", (store) => store.put("there", BYTES, signal)],
    ["get", (store) => store.get("there", { maxBytes: 5000 }, signal)],
    ["list", (store) => listed(store, "")],
    ["delete", (store) => store.delete("there", signal)],
  ];

  test.each(acts)(
    "%s fails clearly at each call, and works once it is healed",
    async (_name, act) => {
      for (const code of ["EIO", "ENOSPC", "EACCES"]) {
        let failed = 0;
        for (let call = 1; ; call++) {
          using dir = tempDir("archive");
          await storeIn(dir.file("x")).put("there", BYTES, signal);
          const disk = new FaultyDisk({ call, code, half: true });
          const store = storeIn(dir.file("x"), disk);
          const error = await act(store).then(
            () => undefined,
            (error: unknown) =>
              errorOf(() => {
                throw error;
              }),
          );
          if (disk.struck.length === 0) break;
          const { operation } = disk.struck[0]!;
          expect([operation, disk.openFds.size]).toEqual([operation, 0]);
          if (error === undefined) {
            // What is missed then is a name to clean up, or nothing.
            const isHarmless = /^(?:close|unlink|removeEmptyDir|syncDir)$/.test(operation);
            expect([operation, isHarmless]).toEqual([operation, true]);
          } else {
            failed++;
            expect(error.code).toBe(code === "EACCES" ? "ARCHIVE_FORBIDDEN" : "ARCHIVE_FAILED");
            expect(error.message).toContain(dir.file("x"));
          }
          const path = dir.file("x", KEY);
          if (fs.existsSync(path)) expect(fs.readFileSync(path).equals(BYTES)).toBe(true);
          for (const name of fs.readdirSync(dir.file("x"), { recursive: true }) as string[]) {
            if (fs.statSync(dir.file("x", name)).isDirectory()) continue;
            const isKnown = name === KEY || name === "there" || isLeftover(name.split("/").at(-1)!);
            expect([name, isKnown]).toEqual([name, true]);
          }
          disk.heal();
          await act(store);
        }
        expect(failed).toBeGreaterThan(0);
      }
    },
  );

  test("an object whose name could not be made durable is not there", async () => {
    using dir = tempDir("archive");
    const folder = dirname(dir.file("x", KEY));
    const disk = new FaultyDisk({ operation: "syncDir", path: folder, code: "EIO" });
    const store = storeIn(dir.file("x"), disk);
    await rejectionOf(() => store.put(KEY, BYTES, signal));
    expect(fs.readdirSync(folder)).toEqual([]);
    disk.heal();
    await store.put(KEY, BYTES, signal);
    expect(fs.readdirSync(folder)).toHaveLength(1);
  });

  test("that hangs, every call ends with its signal", async () => {
    for (const [name, act] of hangs) {
      using dir = tempDir("archive");
      await storeIn(dir.file("x")).put("there", BYTES, signal);
      const disk = new FaultyDisk();
      const stop = new AbortController();
      const held = disk.hold(name);
      const acting = act(storeIn(dir.file("x"), disk), stop.signal);
      await until(() => disk.count(name) > 0, { what: `${name} to hang` });
      const reason = new Error("stopped");
      stop.abort(reason);
      expect(await acting.catch((error: unknown) => error)).toBe(reason);
      held.release();
      await until(() => disk.openFds.size === 0, { what: "the rest to end" });
    }
  });

  test("without second names, it renames and still replaces nothing", async () => {
    using dir = tempDir("archive");
    const disk = new FaultyDisk({ operation: "hardLink", code: "EPERM" });
    const store = storeIn(dir.file("x"), disk);
    await store.put(KEY, BYTES, signal);
    await store.put(KEY, BYTES, signal);
    const error = await rejectionOf(() => store.put(KEY, Buffer.from("x"), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT" });
    expect(fs.readdirSync(dirname(dir.file("x", KEY)))).toEqual(["1-2-3.aof"]);
    expect(fs.readFileSync(dir.file("x", KEY)).equals(BYTES)).toBe(true);
  });

  test("a folder that was removed meanwhile is told, and made again only then", async () => {
    using dir = tempDir("archive");
    const [one, other] = [storeIn(dir.file("x")), storeIn(dir.file("x"))];
    await one.put(KEY, BYTES, signal);
    await other.delete(KEY, signal);
    expect(fs.existsSync(dir.file("x/generations"))).toBe(false);
    expect(await rejectionOf(() => one.put(KEY, BYTES, signal))).toBeInstanceOf(LostPlace);
    await one.put(KEY, BYTES, signal);
    expect(fs.readFileSync(dir.file("x", KEY)).equals(BYTES)).toBe(true);
  });

  test("another folder in the archive's place is told before anything is written to it", async () => {
    using dir = tempDir("archive");
    const store = storeIn(dir.file("x"));
    await store.put(KEY, BYTES, signal);
    fs.renameSync(dir.file("x"), dir.file("unmounted"));
    for (const what of ["is gone", "is another folder than before"]) {
      const error = await rejectionOf(() => store.put(KEY, BYTES, signal));
      expect(error).toBeInstanceOf(LostPlace);
      expect(error).toMatchObject({ message: expect.stringContaining(what) });
      await store.put(KEY, BYTES, signal);
      fs.renameSync(dir.file("x"), dir.file("aside"));
      fs.cpSync(dir.file("unmounted"), dir.file("x"), { recursive: true });
      fs.rmSync(dir.file("aside"), { recursive: true });
    }
  });
});

test("after a power cut at any moment, what was stored is whole, and no half of an object has its name", async () => {
  using dir = tempDir("archive");
  const root = dir.file("disk");
  fs.mkdirSync(root);
  const disk = new PowerCutDisk(root, root, SEED);
  const store = storeIn(join(root, "x"), disk);
  const random = new Random(SEED);
  const stored: string[] = [];
  const deleted = new Set<string>();
  let cuts = 0;
  disk.onMoment((label) => {
    const cut = disk.cut(label);
    for (const bytes of ["none", "torn", "all"] as const) {
      for (const names of ["none", "some", "all"] as const) {
        const place = dir.file(`cut-${cuts++}`);
        cut.restore(place, { bytes, names }, random);
        for (const key of stored) {
          const path = join(place, "x", key);
          if (!deleted.has(key))
            expect([label, key, fs.existsSync(path)]).toEqual([label, key, true]);
        }
        if (fs.existsSync(join(place, "x"))) {
          for (const name of fs.readdirSync(join(place, "x"), { recursive: true }) as string[]) {
            const path = join(place, "x", name);
            if (fs.statSync(path).isDirectory() || isLeftover(name.split("/").at(-1)!)) continue;
            expect([label, name, fs.readFileSync(path).equals(BYTES)]).toEqual([label, name, true]);
          }
        }
        fs.rmSync(place, { recursive: true });
      }
    }
  });
  for (const key of ["a/1", "a/2", "b/1"]) {
    await store.put(key, BYTES, signal);
    stored.push(key);
  }
  await store.put("a/1", BYTES, signal);
  deleted.add("b/1");
  await store.delete("b/1", signal);
  stored.splice(stored.indexOf("b/1"), 1);
  const gone = dir.file("gone");
  disk.cut("the end").restore(gone, { bytes: "none", names: "none" }, random);
  expect(fs.existsSync(join(gone, "x/b/1"))).toBe(false);
  expect(cuts).toBeGreaterThan(200);
});

function none(): Promise<never> {
  return Promise.reject(new Error("there are none"));
}
