import type { RdbHandlers, RdbReaderOptions, RdbReaderSummary } from "../../rdb/reader/entry.ts";
import { RdbReader } from "../../rdb/reader/rdb-reader.ts";
import { readBlocks } from "../disk/blocks.ts";
import type { Disk } from "../disk/disk.ts";

export interface ReadRdbOptions extends RdbReaderOptions {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  /** Called with the bytes that are read so far. */
  readonly onProgress?: (bytes: number) => void;
}

/**
 * Reads the structure of an RDB file in blocks: its keys go to `handlers`, whose values are passed over or collected.
 * @throws RdbError BAD_PAYLOAD, BAD_CHECKSUM for a damaged one; DISK_FAILED; the signal's reason; what a handler throws.
 */
export async function readRdb(
  path: string,
  handlers: RdbHandlers,
  { disk, signal, onProgress, ...options }: ReadRdbOptions,
): Promise<RdbReaderSummary> {
  const reader = new RdbReader(handlers, options);
  const push = (block: Uint8Array, fromByte: number) => {
    reader.push(block);
    onProgress?.(fromByte + block.length);
  };
  await readBlocks(disk, path, { from: 0, to: Infinity }, push, signal);
  return reader.finish();
}
