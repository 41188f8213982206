import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { ReplicaError } from "../../../src/base/errors.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Reserve } from "../../../src/store/keep/reserve.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { tempDir } from "../../support/temp.ts";

const KIB = 1024;
const FULL = new ReplicaError("DISK_FULL", { message: "the disk is full" });

/** Fails `times` times as on a full disk. */
function failing(times: number) {
  return async () => {
    if (times-- > 0) throw FULL;
    return "done";
  };
}

test("gives a piece for each attempt that finds the disk full, and is made anew", async () => {
  using dir = tempDir();
  const reserve = new Reserve(realDisk, dir.path);
  const path = dir.file("replica.reserve");
  await reserve.fill();
  expect(fs.statSync(path).size).toBe(512 * KIB);
  expect(await reserve.spend(failing(2))).toBe("done");
  expect(fs.statSync(path).size).toBe(384 * KIB);
  expect(await rejectionOf(() => reserve.spend(failing(7)))).toBe(FULL);
  expect(fs.statSync(path).size).toBe(0);
  await reserve.fill();
  expect(fs.statSync(path).size).toBe(512 * KIB);
});

test.each(["a file", "nothing", "itself"])(
  "never writes or cuts through a link to %s",
  async (to) => {
    using dir = tempDir();
    const path = dir.file("replica.reserve");
    const target = to === "itself" ? path : dir.file("elsewhere");
    if (to === "a file") fs.writeFileSync(target, Buffer.alloc(100 * KIB, "x"));
    fs.symlinkSync(target, path);
    const reserve = new Reserve(realDisk, dir.path);
    expect(await rejectionOf(() => reserve.spend(failing(1)))).toBe(FULL);
    await reserve.fill();
    const found = fs.lstatSync(path);
    expect([found.isFile(), found.size]).toEqual([true, 512 * KIB]);
    const [file] = fs.existsSync(dir.file("elsewhere")) ? [fs.readFileSync(target, "utf8")] : [];
    expect(file).toBe(to === "a file" ? "x".repeat(100 * KIB) : undefined);
  },
);

test("a folder of that name stays, and stops nothing", async () => {
  using dir = tempDir();
  fs.mkdirSync(dir.file("replica.reserve"));
  const reserve = new Reserve(realDisk, dir.path);
  await reserve.fill();
  expect(await rejectionOf(() => reserve.spend(failing(1)))).toBe(FULL);
  expect(fs.statSync(dir.file("replica.reserve")).isDirectory()).toBe(true);
});
