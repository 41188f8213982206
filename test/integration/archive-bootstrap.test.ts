import { afterAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { runReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";

const dir = tempDir("archive-bootstrap");
afterAll(() => dir.remove());

describe("an archive in a folder", () => {
  test("that is the data directory is refused before anything is written", async () => {
    fs.symlinkSync(dir.file("data"), dir.file("link"));
    const args = ["--dir", dir.file("data"), "--port", "0"];
    for (const archive of ["data", "data/archive", "link"]) {
      const url = `file://${dir.file(archive)}`;
      const { exitCode, stderr } = await runReplica([...args, "--archive", url]);
      expect([exitCode, stderr]).toEqual([2, expect.stringContaining("data directory")]);
    }
    expect(fs.readdirSync(dir.path)).toEqual(["link"]);
  });
});
