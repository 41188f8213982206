import { expect, test } from "bun:test";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Random } from "../../support/fill.ts";
import { shortWrites } from "../../support/short-writes.ts";
import { tempDir } from "../../support/temp.ts";

/** More pieces than one writev(2) takes, of 0 to 9 bytes each. */
function pieces(): Buffer[] {
  const random = new Random(7);
  return Array.from({ length: 1_100 }, () => Buffer.from(random.text(random.below(10))));
}

test.each([
  ["half of it", undefined],
  ["a byte", () => 1],
  ["seven bytes", (bytes: number) => Math.min(7, bytes)],
])("what the kernel takes by %s at a time is written whole, and in order", async (_, take) => {
  using dir = tempDir("disk");
  using short = shortWrites(take);
  const fd = realDisk.create(dir.file("written"));
  const buffers = pieces();
  await realDisk.write(fd, [Buffer.from("at the beginning")], 0);
  await realDisk.write(fd, buffers, 7);
  realDisk.close(fd);
  expect(short.calls).toBeGreaterThan(10);
  const wanted = Buffer.concat([Buffer.from("at the "), ...buffers]);
  expect(readFileSync(dir.file("written")).equals(wanted)).toBe(true);
});

test("fails where the kernel takes no bytes and reports no error", async () => {
  using dir = tempDir("disk");
  using nothing = shortWrites(() => 0);
  const fd = realDisk.create(dir.file("written"));
  const written = realDisk.write(fd, [Buffer.from("a value")], 0);
  expect(await thrownBy(written)).toThrow("the disk took no bytes and reported no error");
  expect(nothing.calls).toBe(1);
  realDisk.close(fd);
});

test("writes through no link", () => {
  using dir = tempDir("disk");
  writeFileSync(dir.file("elsewhere"), "somebody's");
  symlinkSync("elsewhere", dir.file("link"));
  expect(() => realDisk.openExisting(dir.file("link"))).toThrow("ELOOP");
  expect(() => realDisk.truncate(dir.file("link"), 1)).toThrow("ELOOP");
  expect(readFileSync(dir.file("elsewhere"), "utf8")).toBe("somebody's");
});
