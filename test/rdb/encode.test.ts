import { expect, test } from "bun:test";
import { crc64 } from "../../src/rdb/crc64.ts";
import {
  encodeChecksum,
  encodeEntryHead,
  encodeRdbHead,
  encodeSelect,
  type EntryHead,
  RDB_END,
} from "../../src/rdb/encode.ts";
import { RdbReader } from "../../src/rdb/reader/rdb-reader.ts";

const bare: Omit<EntryHead, "key"> = {
  opcode: 0,
  expiresAtMs: undefined,
  idleSeconds: undefined,
  frequency: undefined,
};

test("writes what a reader reads, with lengths of every form", () => {
  const written = [
    { db: 0, head: { ...bare, key: Buffer.from("") } },
    { db: 63, head: { ...bare, key: Buffer.from("k"), expiresAtMs: 1_700_000_000_123 } },
    { db: 64, head: { ...bare, key: Buffer.alloc(63, "k"), idleSeconds: 16_383 } },
    { db: 16_384, head: { ...bare, key: Buffer.alloc(64, "k"), frequency: 255 } },
    { db: 70_000, head: { ...bare, key: Buffer.alloc(20_000, "k"), idleSeconds: 2 ** 33 } },
  ];
  const value = Uint8Array.of(2, 0x68, 0x69);
  const all = Buffer.concat([
    encodeRdbHead({ magic: "VALKEY", version: 80 }, [["valkey-ver", "9.0.0"]]),
    ...written.flatMap(({ db, head }) => [encodeSelect(db), encodeEntryHead(head), value]),
    RDB_END,
  ]);
  const found: object[] = [];
  const aux: string[] = [];
  const reader = new RdbReader({
    aux: (name, bytes) => aux.push(`${name} ${Buffer.from(bytes ?? "").toString()}`),
    entry: ({ db, key, opcode, expiresAtMs, idleSeconds, frequency }) => {
      const head = { key: Buffer.from(key), opcode, expiresAtMs, idleSeconds, frequency };
      found.push({ db, head });
    },
  });
  reader.push(Buffer.concat([all, encodeChecksum(crc64(all))]));
  expect(reader.finish()).toMatchObject({ format: "VALKEY080", keys: 5, checked: true });
  expect(found).toEqual(written);
  expect(aux).toEqual(["valkey-ver 9.0.0"]);
});
