import type { RdbEntry, RdbReaderOptions } from "../../../src/rdb/reader/entry.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";

/** An entry's fields, and its key as text. */
type ToldEntry = Omit<RdbEntry, "key" | "keyBuffer" | "keyStart" | "keyEnd"> & {
  readonly key: string;
};

/** All that a reader tells of an RDB in pieces of these lengths, the last of which repeats. */
export function read(rdb: Uint8Array, pieces: readonly number[], options: RdbReaderOptions = {}) {
  const told: ToldEntry[] = [];
  const events: unknown[] = [];
  const values: string[] = [];
  const standing: string[] = [];
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
  const reader = new RdbReader(
    {
      entry(entry: RdbEntry, value) {
        const { db, kind, opcode, encoding, expiresAtMs, idleSeconds, frequency } = entry;
        const { elements, stringBytes, valueBytes, module, startByte, endByte } = entry;
        told.push({
          db,
          kind,
          opcode,
          encoding,
          expiresAtMs,
          idleSeconds,
          frequency,
          elements,
          stringBytes,
          valueBytes,
          module,
          startByte,
          endByte,
          key: text(entry.key),
        });
        values.push(text(value!));
        standing.push(text(rdb.subarray(endByte - valueBytes, endByte)));
      },
      wants: () => true,
      aux: (name, value) => events.push(["aux", name, value === undefined ? "long" : text(value)]),
      functionLibrary: (code) => events.push(["function", text(code)]),
      moduleAux: (module) => events.push(["module", module]),
      selectDb: (db) => events.push(["db", db]),
      resizeDb: (keys, expires) => events.push(["resize", keys, expires]),
    },
    options,
  );
  let at = 0;
  for (let n = 0; at < rdb.length; n++) {
    const length = pieces[Math.min(n, pieces.length - 1)]!;
    // A copy that is overwritten afterwards, as callers do.
    const chunk = Uint8Array.from(rdb.subarray(at, at + length));
    reader.push(chunk);
    chunk.fill(0xaa);
    at += length;
  }
  return { told, events, values, standing, summary: reader.finish() };
}
