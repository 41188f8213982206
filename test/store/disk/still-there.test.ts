import { expect, test } from "bun:test";
import { closeSync, openSync, rmSync, symlinkSync } from "node:fs";
import { stillThere } from "../../../src/store/disk/still-there.ts";
import { tempDir } from "../../support/temp.ts";

test("fails with DISK_FAILED, to be retried, where it can't tell whether the file is still there", () => {
  using dir = tempDir("still-there");
  const path = dir.file("file");
  const fd = openSync(path, "w");
  try {
    const isThere = stillThere(fd, path);
    expect(isThere()).toBe(true);
    rmSync(path);
    expect(isThere()).toBe(false);
    // A link to itself fails for root too, as a folder without permission does for other users.
    symlinkSync(path, path);
    expect(isThere).toThrow(
      expect.objectContaining({ code: "DISK_FAILED", message: expect.stringContaining(path) }),
    );
  } finally {
    closeSync(fd);
  }
});
