import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { RdbError } from "../../../src/rdb/reader/rdb-error.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { readRdb } from "../../../src/store/restore/read-rdb.ts";
import { reasonOf, rejectionOf } from "../../support/error-of.ts";
import { raw, rdbOf, str } from "../../support/rdb-bytes.ts";
import { tempDir } from "../../support/temp.ts";

const MIB = 1024 * 1024;
const signal = new AbortController().signal;
const names = Array.from({ length: 500 }, (_, n) => `key:${n}`);
/** Larger than a few blocks, so that keys and values lie across their edges. */
const RDB = rdbOf("REDIS0011", ...names.map((name) => raw(0, str(name), str("v".repeat(9001)))));

test("reads an RDB file block by block", async () => {
  using dir = tempDir("read-rdb");
  const path = dir.file("dump.rdb");
  writeFileSync(path, RDB);
  const found: string[] = [];
  const progress: number[] = [];
  const handlers = {
    entry: ({ key }: { readonly key: Uint8Array }) => void found.push(Buffer.from(key).toString()),
  };
  const onProgress = (bytes: number) => void progress.push(bytes);
  const summary = await readRdb(path, handlers, { disk: realDisk, signal, onProgress });
  expect(found).toEqual(names);
  expect(summary).toMatchObject({ keys: names.length, bytes: RDB.length, checked: true });
  expect(progress.length).toBeGreaterThan(RDB.length / MIB - 1);
  expect(progress.at(-1)).toBe(RDB.length);
});

test("stops at the signal, at a handler's error, and where the file is damaged or missing", async () => {
  using dir = tempDir("read-rdb");
  const path = dir.file("dump.rdb");
  writeFileSync(path, RDB);
  const ignored = { entry: () => undefined };
  const aborted = new Error("enough");
  expect(
    await reasonOf(readRdb(path, ignored, { disk: realDisk, signal: AbortSignal.abort(aborted) })),
  ).toBe(aborted);
  const own = new Error("of the handler");
  const throwing = {
    entry() {
      throw own;
    },
  };
  expect(await reasonOf(readRdb(path, throwing, { disk: realDisk, signal }))).toBe(own);
  writeFileSync(path, RDB.subarray(0, RDB.length - 5000));
  const cut = await rejectionOf(() => readRdb(path, ignored, { disk: realDisk, signal }));
  expect(cut).toBeInstanceOf(RdbError);
  expect(cut).toMatchObject({ code: "BAD_PAYLOAD", byte: RDB.length - 5000 });
  const missing = await rejectionOf(() =>
    readRdb(dir.file("none.rdb"), ignored, { disk: realDisk, signal }),
  );
  expect(missing.code).toBe("DISK_FAILED");
});
