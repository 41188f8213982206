import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { lockDirectory } from "../../../src/store/generation/lock.ts";
import { errorOf } from "../../support/error-of.ts";
import { mayMount, smallDisk } from "../../support/small-disk.ts";
import { tempDir } from "../../support/temp.ts";

const DISK_BYTES = 256 * 1024;

/** Takes all that is free. */
function fillUp(path: string): void {
  try {
    for (;;) fs.appendFileSync(path, Buffer.alloc(4096));
  } catch (error) {
    expect(error).toMatchObject({ code: "ENOSPC" });
  }
}

test.skipIf(!mayMount())("a disk without a free byte keeps nobody from the lock", () => {
  using temp = tempDir("lock");
  using disk = smallDisk(temp.file("disk"), DISK_BYTES);
  expect(disk).toBeDefined();
  const dir = temp.file("disk");
  const content = () => fs.readFileSync(join(dir, "replica.lock"), "utf8");
  fs.writeFileSync(join(dir, "replica.lock"), "");
  fillUp(join(dir, "junk"));
  const unnamed = lockDirectory(dir);
  expect(content()).toBe("");
  expect(errorOf(() => lockDirectory(dir)).message).toContain("is in use by another process:");
  unnamed.release();
  fs.rmSync(join(dir, "junk"));
  const earlier = `process 1 on ${"a-long-name".repeat(20)}, since then\n`;
  fs.writeFileSync(join(dir, "replica.lock"), earlier);
  fillUp(join(dir, "junk"));
  const named = lockDirectory(dir);
  expect(content()).toMatch(new RegExp(`^process ${process.pid} on \\S+, since \\S+\n$`));
  named.release();
});
