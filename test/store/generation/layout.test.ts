import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { basename } from "node:path";
import { fileNames, filesOf } from "../../../src/store/generation/layout.ts";
import { tempDir } from "../../support/temp.ts";

const NUMBERED = ["appendonly.aof.12.base.rdb", "appendonly.aof.12.incr.aof"];
const FIRST = ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"];

test.each([
  ["nothing: a generation that begins", [], NUMBERED],
  ["files of this version", NUMBERED, NUMBERED],
  ["files of an earlier version", FIRST, FIRST],
  ["files of an earlier version, of which the log is lost", FIRST.slice(0, 1), FIRST],
  ["files of an earlier version, of which the snapshot is lost", FIRST.slice(1), FIRST],
  ["files of both", [...FIRST, ...NUMBERED], NUMBERED],
  ["a snapshot of one and a log of the other", [FIRST[0]!, NUMBERED[1]!], NUMBERED],
])("the files of generation 12, where its folder holds %s", (_what, held, wanted) => {
  using dir = tempDir("layout");
  for (const name of [...held, "appendonly.aof.manifest"]) fs.writeFileSync(dir.file(name), "");
  const { base, log, manifest, manifestText } = filesOf({ id: 12, dir: dir.path });
  expect([base, log]).toEqual(wanted.map((name) => dir.file(name)));
  expect(manifest).toBe(dir.file("appendonly.aof.manifest"));
  const seq = basename(base).split(".")[2];
  expect(manifestText).toBe(
    `file appendonly.aof.${seq}.base.rdb seq ${seq} type b\nfile appendonly.aof.${seq}.incr.aof seq ${seq} type i\n`,
  );
});

test("a generation's number is written as Redis writes a sequence number", () => {
  expect(fileNames(9_999_999_999).log).toBe("appendonly.aof.9999999999.incr.aof");
});
