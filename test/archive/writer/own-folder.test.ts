import { describe, expect, test } from "bun:test";
import { appendFileSync, copyFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { GenerationDocument } from "../../../src/archive/format/documents.ts";
import { OwnFolder } from "../../../src/archive/writer/own-folder.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

const NAME = "20261130T000000Z-abcdefghij";
const DOCUMENT: GenerationDocument = {
  format: 1,
  started: "2026-11-30T00:00:00.000Z",
  program: "replica 0.1.0",
  primary: "127.0.0.1:6379",
  primaryVersion: "8.0.0",
  replid: "a".repeat(40),
  baseOffset: 10,
  codec: "zstd",
  recipients: ["age1xyz"],
};
const PIECE = {
  index: 0,
  name: "000000.rdb.zst",
  bytes: 12,
  sha256: "0".repeat(64),
  rdbBytes: 100,
  rdbCrc64: 0xfedc_ba98_7654_3210n,
};

async function create(path: string): Promise<OwnFolder> {
  return await OwnFolder.create(realDisk, path, "file:///archive", NAME, DOCUMENT);
}

describe("a file that remembers a folder", () => {
  test("gives everything back", async () => {
    using dir = tempDir();
    const path = dir.file("archive.jsonl");
    const made = await create(path);
    await made.add(PIECE);
    await made.add({ ...PIECE, index: 1, name: "000001.rdb.zst" });
    await made.add({ ...PIECE, bytes: 13 });
    const found = (await OwnFolder.open(realDisk, path, "file:///archive"))!;
    expect(found.name).toBe(NAME);
    expect(found.document).toEqual(DOCUMENT);
    expect(found.storedDocument).toEqual(made.storedDocument);
    // What was sent last counts.
    expect(found.piece(0)).toEqual({ ...PIECE, bytes: 13 });
    expect(found.piece(1)?.name).toBe("000001.rdb.zst");
    expect(found.piece(2)).toBeUndefined();
    expect(found.isComplete).toBe(false);
    await found.complete();
    expect((await OwnFolder.open(realDisk, path, "file:///archive"))!.isComplete).toBe(true);
  });

  test("is about one archive, and none for a copy", async () => {
    using dir = tempDir();
    const path = dir.file("archive.jsonl");
    await create(path);
    expect(await OwnFolder.open(realDisk, path, "s3://other")).toBeUndefined();
    copyFileSync(path, dir.file("copy.jsonl"));
    expect(
      await OwnFolder.open(realDisk, dir.file("copy.jsonl"), "file:///archive"),
    ).toBeUndefined();
    renameSync(path, dir.file("moved.jsonl"));
    const moved = await OwnFolder.open(realDisk, dir.file("moved.jsonl"), "file:///archive");
    expect(moved?.name).toBe(NAME);
    expect(await OwnFolder.open(realDisk, path, "file:///archive")).toBeUndefined();
  });

  test("goes on behind its last whole line, wherever a write was torn", async () => {
    using dir = tempDir();
    const whole = dir.file("whole.jsonl");
    await (await create(whole)).add(PIECE);
    const lines = readFileSync(whole, "utf8").split("\n");
    for (let kept = 0; kept < lines[1]!.length; kept += 7) {
      const path = dir.file(`torn-${kept}.jsonl`);
      await create(path);
      appendFileSync(path, lines[1]!.slice(0, kept));
      const found = (await OwnFolder.open(realDisk, path, "file:///archive"))!;
      expect(found.piece(0)).toBeUndefined();
      await found.add(PIECE);
      await found.complete();
      const again = (await OwnFolder.open(realDisk, path, "file:///archive"))!;
      expect([again.piece(0), again.isComplete]).toEqual([PIECE, true]);
    }
  });

  test("of which anything was changed is no longer believed, and never an error", async () => {
    using dir = tempDir();
    const path = dir.file("archive.jsonl");
    await (await create(path)).add(PIECE);
    const text = readFileSync(path, "utf8");
    const changed = [
      "",
      "\n",
      "{}\n",
      `${text}{"index":-1}\n`,
      `${text}nonsense\n`,
      text.replace(NAME, "../../elsewhere"),
      text.replace("baseOffset", "offset"),
      text.replace('"format":1', '"format":2'),
    ];
    for (const content of changed) {
      writeFileSync(path, content);
      expect(await OwnFolder.open(realDisk, path, "file:///archive")).toBeUndefined();
    }
  });

  test("takes a line again after the disk failed it", async () => {
    using dir = tempDir();
    const path = dir.file("archive.jsonl");
    for (let call = 1; ; call++) {
      const disk = new FaultyDisk();
      const made = await OwnFolder.create(disk, path, "file:///archive", NAME, DOCUMENT);
      disk.fail({ call, code: "ENOSPC", half: true });
      const failure = await made.add(PIECE).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (disk.struck.length === 0) break;
      // A close that fails after the sync has lost nothing.
      if (disk.struck[0]!.operation !== "close")
        expect(failure).toMatchObject({ code: "DISK_FULL" });
      disk.heal();
      await made.add(PIECE);
      const again = (await OwnFolder.open(realDisk, path, "file:///archive"))!;
      expect(again.piece(0)).toEqual(PIECE);
    }
  });
});
