import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../../support/error-of.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { notWider, withinReach } from "../../../src/store/disk/access.ts";
import { type Disk, realDisk } from "../../../src/store/disk/disk.ts";
import { generationPath, MANIFEST } from "../../../src/store/generation/layout.ts";
import { type Layout, restore, RESTORED } from "../../../src/store/restore/restore.ts";
import {
  beginTarget,
  findWholeTarget,
  publishTarget,
} from "../../../src/store/restore/restore-target.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { smallRdb } from "../../integration/bad-input-rig.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { generationFiles } from "../../support/generation-files.ts";
import { mayMount, smallDisk } from "../../support/small-disk.ts";
import { encodeCommand } from "../../support/resp.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";

const LOG_BYTES = Buffer.concat([
  encodeCommand(["SELECT", "0"]),
  encodeCommand(["SET", "key", "value"]),
]);

/** Makes a data directory with one generation and no database. */
function dataIn(dir: TempDir, name = "data"): string {
  const data = dir.file(name);
  const generation = join(data, generationPath(1));
  fs.mkdirSync(generation, { recursive: true });
  const { base, log, manifest, manifestText } = generationFiles(data, 1);
  fs.writeFileSync(base, smallRdb("value"));
  fs.writeFileSync(log, LOG_BYTES);
  fs.writeFileSync(manifest, manifestText);
  return data;
}

async function restoreTo(
  target: string,
  data: string,
  {
    layout = "multipart",
    disk = realDisk,
    mode,
  }: { layout?: Layout; disk?: Disk; mode?: number } = {},
) {
  using catalogue = new Catalogue(data);
  const point = restorePoint(catalogue, {
    generation: undefined,
    atMs: undefined,
    offset: undefined,
  });
  const { signal } = new AbortController();
  return await restore(catalogue, point, target, {
    disk,
    layout,
    mode,
    signal,
    onProgress: () => undefined,
  });
}

/** The modes of everything below a folder. */
function modesIn(dir: string): Record<string, string> {
  const names = fs.readdirSync(dir, { recursive: true }) as string[];
  const modes = names
    .toSorted()
    .map((name) => [name, (fs.lstatSync(join(dir, name)).mode & 0o7777).toString(8)]);
  return Object.fromEntries(modes);
}

const multipart = (folder: string, file: string) => ({
  appendonlydir: folder,
  [`appendonlydir/${RESTORED.base}`]: file,
  [`appendonlydir/${RESTORED.log}`]: file,
  [`appendonlydir/${MANIFEST}`]: file,
});

describe("an existing folder keeps its inode, owner and mode", () => {
  const modes: [number, Layout, Record<string, string>][] = [
    [0o755, "multipart", multipart("755", "644")],
    [0o750, "multipart", multipart("750", "640")],
    [0o700, "multipart", multipart("700", "600")],
    [0o700, "single", { "appendonly.aof": "600" }],
  ];
  test.each(modes)("of mode %o, %s", async (mode, layout, wanted) => {
    using dir = tempDir("target");
    const target = dir.file("target");
    fs.mkdirSync(target);
    fs.chmodSync(target, mode);
    const before = fs.statSync(target);
    await restoreTo(target, dataIn(dir), { layout });
    const after = fs.statSync(target);
    const { ino, mode: kept, uid, gid } = before;
    expect(after).toMatchObject({ ino, mode: kept, uid, gid });
    expect(modesIn(target)).toEqual(wanted);
    expect(fs.readdirSync(dir.path).toSorted()).toEqual(["data", "target"]);
  });

  test("behind a link", async () => {
    using dir = tempDir("target");
    fs.mkdirSync(dir.file("real"));
    fs.symlinkSync("real", dir.file("link"));
    const { dir: told } = await restoreTo(dir.file("link"), dataIn(dir));
    expect(told).toBe(dir.file("link"));
    expect(fs.readlinkSync(dir.file("link"))).toBe("real");
    expect(fs.readdirSync(dir.file("real"))).toEqual(["appendonlydir"]);
  });

  test("with only the lost+found of a new file system", async () => {
    using dir = tempDir("target");
    fs.mkdirSync(dir.file("target/lost+found"), { recursive: true });
    await restoreTo(dir.file("target"), dataIn(dir));
    expect(fs.readdirSync(dir.file("target")).toSorted()).toEqual(["appendonlydir", "lost+found"]);
  });
});

test("a new folder gets the mode that it would get from mkdir", async () => {
  using dir = tempDir("target");
  const data = dataIn(dir);
  const umask = process.umask(0o027);
  try {
    await restoreTo(dir.file("target"), data);
  } finally {
    process.umask(umask);
  }
  expect(fs.statSync(dir.file("target")).mode & 0o777).toBe(0o750);
  expect(modesIn(dir.file("target"))).toEqual(multipart("750", "640"));
});

describe("nobody may read the result who couldn't read what it comes from", () => {
  const cases: [string, (data: string) => void, Record<string, string>, string][] = [
    ["the data directory", (data) => fs.chmodSync(data, 0o700), multipart("700", "600"), "700"],
    ["a group's", (data) => fs.chmodSync(data, 0o750), multipart("750", "640"), "750"],
    [
      "the generation's folder",
      (data) => fs.chmodSync(join(data, generationPath(1)), 0o700),
      multipart("700", "600"),
      "700",
    ],
    [
      "the snapshot",
      (data) => fs.chmodSync(generationFiles(data, 1).base, 0o600),
      multipart("755", "600"),
      "755",
    ],
  ];
  test.each(cases)("%s", async (_, narrow, wanted, folder) => {
    using dir = tempDir("target");
    const data = dataIn(dir);
    narrow(data);
    const umask = process.umask(0o022);
    try {
      await restoreTo(dir.file("target"), data);
      fs.mkdirSync(dir.file("there"), { mode: 0o755 });
      await restoreTo(dir.file("there"), data);
    } finally {
      process.umask(umask);
    }
    expect((fs.statSync(dir.file("target")).mode & 0o777).toString(8)).toBe(folder);
    expect(modesIn(dir.file("target"))).toEqual(wanted);
    // A folder that was there stays as it is; what is written into it doesn't take its mode.
    expect(fs.statSync(dir.file("there")).mode & 0o777).toBe(0o755);
    expect(modesIn(dir.file("there"))).toEqual(wanted);
  });

  test("in another group, that may do no more than others could", () => {
    expect(notWider([0o750], 1, 1)).toBe(0o050);
    expect(notWider([0o750], 1, 2)).toBe(0);
    expect(notWider([0o755, 0o644], 1, 2)).toBe(0o044);
    expect(notWider([0o755, 0o751], 1, 2)).toBe(0o011);
    // Who is in the one group may be among the others of the other one.
    expect(notWider([0o705], 1, 2)).toBe(0);
  });

  const above: [number, string, Record<string, string>][] = [
    [0o700, "700", multipart("700", "600")],
    [0o710, "750", multipart("750", "640")],
    [0o711, "755", multipart("755", "644")],
  ];
  test.each(above)(
    "a folder above the data directory, of mode %o",
    async (mode, folder, wanted) => {
      using dir = tempDir("target");
      const data = dataIn(dir, "above/data");
      fs.chmodSync(dir.file("above"), mode);
      fs.symlinkSync(data, dir.file("link"));
      const umask = process.umask(0o022);
      try {
        await restoreTo(dir.file("target"), data);
        await restoreTo(dir.file("by a link"), dir.file("link"));
        // Here the same folder keeps them out.
        await restoreTo(dir.file("above/target"), data);
      } finally {
        process.umask(umask);
      }
      for (const target of ["target", "by a link"]) {
        expect((fs.statSync(dir.file(target)).mode & 0o777).toString(8)).toBe(folder);
        expect(modesIn(dir.file(target))).toEqual(wanted);
      }
      expect(modesIn(dir.file("above/target"))).toEqual(multipart("755", "644"));
    },
  );

  test("in another group, a folder above must let pass both", () => {
    const folder = (mode: number) => ({ mode, gid: 1 });
    expect(withinReach(folder(0o710), 1)).toBe(0o070);
    expect(withinReach(folder(0o710), 2)).toBe(0);
    expect(withinReach(folder(0o701), 2)).toBe(0);
    expect(withinReach(folder(0o711), 2)).toBe(0o077);
  });

  test("unless a mode is asked for", async () => {
    using dir = tempDir("target");
    const data = dataIn(dir);
    fs.chmodSync(data, 0o700);
    await restoreTo(dir.file("target"), data, { mode: 0o640 });
    expect(fs.statSync(dir.file("target")).mode & 0o777).toBe(0o750);
    expect(modesIn(dir.file("target"))).toEqual(multipart("750", "640"));
  });

  test("nor while it is written", async () => {
    using dir = tempDir("target");
    let seen = 0;
    const disk = {
      ...realDisk,
      copy: async (from: string, to: string) => {
        seen = fs.statSync(join(to, "../..")).mode & 0o777;
        await realDisk.copy(from, to);
      },
    };
    await restoreTo(dir.file("target"), dataIn(dir), { disk });
    expect(seen).toBe(0o700);
  });
});

const refusals: [string, (dir: TempDir) => string, RegExp][] = [
  ["an empty name", () => "", /the target's name is empty/],
  ["the data directory", (dir) => dir.file("data"), /lies in the data directory/],
  ["a new folder in it", (dir) => dir.file("data/new"), /lies in the data directory/],
  [
    "a folder in it, behind a link",
    (dir) => {
      fs.mkdirSync(dir.file("data/empty"));
      fs.symlinkSync("data/empty", dir.file("link"));
      return dir.file("link");
    },
    /lies in the data directory/,
  ],
  [
    "a link to nothing",
    (dir) => {
      fs.symlinkSync("nothing", dir.file("link"));
      return dir.file("link");
    },
    /is a link to a folder that doesn't exist/,
  ],
  [
    "a file",
    (dir) => {
      fs.writeFileSync(dir.file("file"), "x");
      return dir.file("file");
    },
    /is not a folder/,
  ],
  [
    "a folder with a file",
    (dir) => {
      fs.mkdirSync(dir.file("full"));
      fs.writeFileSync(dir.file("full/dump.rdb"), "x");
      return dir.file("full");
    },
    /is not empty, it contains dump\.rdb/,
  ],
  ["a folder in none", (dir) => dir.file("none/target"), /none does not exist/],
];

test.each(refusals)("refuses %s, and writes nothing", async (_, prepare, why) => {
  using dir = tempDir("target");
  const data = dataIn(dir);
  const target = prepare(dir);
  const before = fs.readdirSync(dir.path, { recursive: true });
  const refused = await reasonOf(restoreTo(target, data));
  expect(refused).toMatchObject({ code: "USAGE", message: expect.stringMatching(why) });
  expect(fs.readdirSync(dir.path, { recursive: true })).toEqual(before);
});

describe("the leftovers of killed restores", () => {
  /** The id of a process that has ended. */
  const gone = Bun.spawnSync(["true"]).pid;
  const leave = (dir: string, name: string) =>
    fs.mkdirSync(join(dir, name, "appendonlydir"), { recursive: true });

  test("beside a new target are removed, but no one else's", async () => {
    using dir = tempDir("target");
    const data = dataIn(dir);
    for (const pid of [gone, process.pid, process.ppid]) {
      leave(dir.path, `.target.restoring-${pid}`);
      leave(dir.path, `.other.restoring-${pid}`);
    }
    leave(dir.path, ".target.restoring-mine");
    await restoreTo(dir.file("target"), data);
    const others = [gone, process.pid, process.ppid].map((pid) => `.other.restoring-${pid}`);
    const kept = [`.target.restoring-${process.ppid}`, ".target.restoring-mine"];
    const wanted = [...others, ...kept, "data", "target"].toSorted();
    expect(fs.readdirSync(dir.path).toSorted()).toEqual(wanted);
  });

  test("don't count as content of an empty folder", async () => {
    using dir = tempDir("target");
    const target = dir.file("target");
    for (const pid of [gone, process.pid]) leave(target, `.restoring-${pid}`);
    leave(dir.path, `.target.restoring-${gone}`);
    await restoreTo(target, dataIn(dir));
    expect(fs.readdirSync(target)).toEqual(["appendonlydir"]);
    expect(fs.readdirSync(dir.path).toSorted()).toEqual(["data", "target"]);
  });

  test("don't include a restore that still runs: that fills the folder", async () => {
    using dir = tempDir("target");
    const name = `.restoring-${process.ppid}`;
    leave(dir.file("target"), name);
    const refused = await reasonOf(restoreTo(dir.file("target"), dataIn(dir)));
    expect(refused).toMatchObject({
      code: "USAGE",
      message: expect.stringContaining(`contains ${name}`),
    });
    expect(fs.readdirSync(dir.file("target"))).toEqual([name]);
  });
});

describe("free space", () => {
  const [baseBytes, logBytes] = [smallRdb("value").length, LOG_BYTES.length];

  test("is required for the log alone: the snapshot may be a reflink", async () => {
    using dir = tempDir("target");
    const disk = { ...realDisk, freeBytes: () => logBytes };
    const restored = await restoreTo(dir.file("target"), dataIn(dir), { disk });
    expect(restored).toMatchObject({ rdbBytes: baseBytes, logBytes });
  });

  test("that is too small is reported before anything is written", async () => {
    using dir = tempDir("target");
    const disk = Object.assign(new FaultyDisk(), { freeBytes: () => logBytes - 1 });
    const refused = await reasonOf(restoreTo(dir.file("target"), dataIn(dir), { disk }));
    expect(refused).toMatchObject({
      code: "DISK_FULL",
      message: expect.stringMatching(/make room/),
    });
    expect(disk.calls).toEqual([]);
  });

  test("that runs out during the snapshot's copy is reported, and nothing is left", async () => {
    using dir = tempDir("target");
    const disk = new FaultyDisk({ operation: "copy", code: "ENOSPC" });
    const refused = await reasonOf(restoreTo(dir.file("target"), dataIn(dir), { disk }));
    expect(refused).toMatchObject({
      code: "DISK_FULL",
      message: expect.stringMatching(/make room/),
    });
    expect(fs.readdirSync(dir.path)).toEqual(["data"]);
  });
});

/** The disk calls that change something. */
const CHANGES = ["makeDir", "create", "copy", "write", "syncData", "rename", "syncDir"] as const;

test.each([true, false])(
  "whichever disk call fails, leaves nothing; with an existing folder: %p",
  async (isThere) => {
    using dir = tempDir("target");
    const data = dataIn(dir);
    const target = dir.file("target");
    if (isThere) fs.mkdirSync(target);
    const before = fs.readdirSync(dir.path, { recursive: true });
    for (const operation of CHANGES) {
      // A successful restore shows how many calls there are.
      const whole = new FaultyDisk();
      await restoreTo(target, data, { disk: whole });
      fs.rmSync(isThere ? join(target, "appendonlydir") : target, { recursive: true });
      expect(whole.count(operation)).toBeGreaterThan(0);
      for (let call = 1; call <= whole.count(operation); call++) {
        const disk = new FaultyDisk({ operation, call, code: "EIO" });
        const label = `${operation} ${call}`;
        const reason = await reasonOf(restoreTo(target, data, { disk }));
        expect(reason, label).toMatchObject({ code: "DISK_FAILED" });
        expect([...disk.openFds], label).toEqual([]);
        expect(fs.readdirSync(dir.path, { recursive: true }), label).toEqual(before);
      }
    }
  },
);

describe("a result of several folders, put in place as one", () => {
  async function restoreWhole(target: string, mode?: number): Promise<void> {
    const place = findWholeTarget(target, undefined);
    beginTarget(place);
    fs.mkdirSync(join(place.temporary, "0001"));
    fs.writeFileSync(join(place.temporary, "0001/file"), "");
    const readers = mode === undefined ? { source: { folders: [], files: [] } } : { mode };
    await publishTarget(realDisk, place, "", readers);
  }

  test.each([0o755, 0o750, 0o700, 0o2770, 0o500])(
    "an empty folder of mode %o keeps mode and owner, and what is in it is no wider",
    async (mode) => {
      using dir = tempDir("target");
      const target = dir.file("target");
      fs.mkdirSync(target);
      const isRoot = process.getuid?.() === 0;
      if (isRoot) fs.chownSync(target, 12_345, 23_456);
      fs.chmodSync(target, mode);
      const before = fs.statSync(target);
      await restoreWhole(target);
      const { mode: kept, uid, gid } = fs.statSync(target);
      expect({ kept, uid, gid }).toEqual({ kept: before.mode, uid: before.uid, gid: before.gid });
      const inner = fs.statSync(join(target, "0001")).mode & 0o777;
      // Those in another group may do what all others could.
      const others = (mode & 0o007 & ~process.umask()) * 0o011;
      if (isRoot) expect(inner.toString(8)).toBe((0o700 | (others & ~process.umask())).toString(8));
      else expect(inner & 0o077 & ~mode).toBe(0);
      expect(fs.readdirSync(dir.path)).toEqual(["target"]);
    },
  );

  test("a mode that was asked for is that of what is in it", async () => {
    using dir = tempDir("target");
    fs.mkdirSync(dir.file("target"), { mode: 0o700 });
    await restoreWhole(dir.file("target"), 0o640);
    expect(modesIn(dir.path)).toEqual({
      target: "700",
      "target/0001": "750",
      "target/0001/file": "640",
    });
  });

  test("a folder with lost+found is refused: it can't be replaced", () => {
    using dir = tempDir("target");
    fs.mkdirSync(dir.file("target/lost+found"), { recursive: true });
    expect(() => findWholeTarget(dir.file("target"), undefined)).toThrow(
      /is not empty, it contains lost\+found/,
    );
  });

  test("the root of all files is refused", () => {
    expect(() => findWholeTarget("/", undefined)).toThrow();
  });

  test.skipIf(!mayMount())("a mount point is refused, with what to name instead", () => {
    using dir = tempDir("target");
    using small = smallDisk(dir.file("disk"), 64 * 1024);
    expect(small).toBeDefined();
    expect(() => findWholeTarget(dir.file("disk"), undefined)).toThrow(
      `${dir.file("disk")} is a mount point, and a cluster is put in place as one folder: name a new folder in it, such as ${dir.file("disk/restored")}`,
    );
    expect(findWholeTarget(dir.file("disk/restored"), undefined).isNew).toBe(true);
  });

  test.skipIf(!mayMount())("so is a folder of the same device that another is mounted on", () => {
    using dir = tempDir("target");
    const place = dir.file("a place with spaces, ünd more");
    for (const path of [dir.file("from"), place]) fs.mkdirSync(path);
    Bun.spawnSync(["mount", "--bind", dir.file("from"), place]);
    try {
      expect(fs.statSync(place).dev).toBe(fs.statSync(dir.path).dev);
      expect(() => findWholeTarget(place, undefined)).toThrow(/is a mount point/);
    } finally {
      Bun.spawnSync(["umount", "--lazy", place]);
    }
  });
});
