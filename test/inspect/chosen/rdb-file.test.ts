import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { EntrySource } from "../../../src/inspect/chosen/entry-source.ts";
import { RdbFile } from "../../../src/inspect/chosen/rdb-file.ts";
import { GatheringFile } from "../../../src/inspect/needs/gathering-file.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { headerOf } from "../../../src/store/restore/rdb-header.ts";
import { CASES } from "../../rdb/reader/written-rdbs.ts";
import { rdbOf } from "../../support/rdb-bytes.ts";
import { thrownBy } from "../../support/error-of.ts";
import { tempDir } from "../../support/temp.ts";

/** Everything that is told of each key of an RDB, and its value. */
function keysOf(rdb: Uint8Array) {
  const keys: { readonly opcode: number; readonly value: string }[] = [];
  const reader = new RdbReader({
    wants: () => true,
    entry: ({ db, key, kind, opcode, expiresAtMs, idleSeconds, frequency, elements }, value) => {
      const text = Buffer.from(key).toString("latin1");
      const about = { db, text, kind, opcode, expiresAtMs, idleSeconds, frequency, elements };
      keys.push({ ...about, value: Buffer.from(value!).toString("latin1") });
    },
  });
  reader.push(rdb);
  reader.finish();
  return keys;
}

/** Which of its keys are the server's own isn't known: see the test below. */
const IMPORTING = "the import of slots into a Valkey 9";

describe.each(CASES.filter(({ name }) => name !== IMPORTING))("$name", ({ format, parts }) => {
  test("is the same when it is copied key by key, and so are its values", async () => {
    using dir = tempDir("rdb-file");
    const rdb = rdbOf(format, ...parts);
    const path = dir.file("from.rdb");
    writeFileSync(path, rdb);
    const { signal } = new AbortController();
    using source = new EntrySource({ disk: realDisk, path, signal, onProgress: () => undefined });
    using file = new GatheringFile(realDisk, dir.file("to.rdb"));
    const copy = await RdbFile.begin(file, headerOf(path));
    const values: object[] = [];
    for await (const found of source.entries(() => true)) {
      const value = Buffer.from(await source.value(found)).toString("latin1");
      values.push({ opcode: found.opcode, value });
      await copy.copy(source, found);
    }
    await copy.end();
    await file.finish();
    const all = keysOf(rdb);
    expect(keysOf(readFileSync(file.path))).toEqual(all);
    expect(values).toEqual(all.map(({ opcode, value }) => ({ opcode, value })));
  });
});

test("single keys of a snapshot in which slots were being moved in are refused", async () => {
  using dir = tempDir("rdb-file");
  const { format, parts } = CASES.find(({ name }) => name === IMPORTING)!;
  const path = dir.file("from.rdb");
  writeFileSync(path, rdbOf(format, ...parts));
  const { signal } = new AbortController();
  using source = new EntrySource({ disk: realDisk, path, signal, onProgress: () => undefined });
  const all = Array.fromAsync(source.entries(() => true));
  expect(await thrownBy(all)).toThrow("slots were being moved into its server");
});
