import { writeFileSync } from "node:fs";
import type { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { selectCommand } from "../../../src/resp/encode.ts";
import { callbacks, REPLID } from "../restore/kept.ts";

/** What a generation begins with, and what its log gets. */
export interface Sized {
  readonly keys: number;
  readonly bytes: number;
  readonly stream?: string;
}

export const EMPTY: Sized = { keys: 0, bytes: 90 };
export const FULL: Sized = { keys: 12_638, bytes: 100_000 };
export const PING = "*1\r\n$4\r\nPING\r\n";

const HEADER = selectCommand(0);

/** Makes a generation of such a size current. Its snapshot is no RDB: nothing reads it here. */
export async function keepSized(
  directory: DataDirectory,
  { keys, bytes, stream = "" }: Sized,
): Promise<number> {
  const { id } = await directory.begin("127.0.0.1:6379");
  writeFileSync(directory.basePath(id), Buffer.alloc(bytes));
  const log = await directory.createLog(id, 1000, HEADER, callbacks());
  await directory.promote(
    id,
    {
      replid: REPLID,
      baseOffset: 1000,
      streamDb: 0,
      rdbBytes: bytes,
      rdbCrc64: "0".repeat(16),
      rdbChecked: true,
      logHeaderBytes: HEADER.length,
      firstDatabase: { db: keys === 0 ? undefined : 0, keys },
    },
    "full resync",
  );
  log.beginMarks();
  log.append(Buffer.from(stream));
  await log.flushed();
  await log.close();
  return id;
}
