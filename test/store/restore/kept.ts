import type { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { hex64 } from "../../../src/base/hex64.ts";
import { OpenFile } from "../../../src/store/disk/open-file.ts";
import type { ReplicaError } from "../../../src/base/errors.ts";
import { selectCommand } from "../../../src/resp/encode.ts";
import { parseReplicationId } from "../../../src/base/history.ts";
import type { StreamLog } from "../../../src/store/generation/stream-log.ts";
import type { FaultyDisk } from "../../support/faulty-disk.ts";
import { SnapshotWriter } from "../../../src/store/generation/snapshot.ts";
import { rdbOf } from "../rdb.ts";

export const REPLID = parseReplicationId("0123456789abcdef0123456789abcdef01234567");
export const RDB = rdbOf(500);
export const HEADER = selectCommand(3);
export const BASE_OFFSET = 1000;
/** A clock that stands still: the time does not matter here. */
export const clock = { now: () => 1_700_000_000_000 };

export function callbacks(failed: ReplicaError[] = []) {
  return {
    fsync: "everysec" as const,
    maxQueuedBytes: 1024 * 1024,
    onMoved: () => undefined,
    onFailed: (error: ReplicaError) => {
      failed.push(error);
    },
  };
}

/** Writes the snapshot and the log of a new generation, up to its promotion. */
export async function lay(directory: DataDirectory, disk: FaultyDisk) {
  const { id, dir } = await directory.begin("127.0.0.1:6379");
  const path = `${dir}/temp-1.2.rdb`;
  const writer = new SnapshotWriter(
    disk,
    { path, file: OpenFile.create(disk, path), io: "buffered" },
    {
      totalBytes: RDB.length,
      syncBytes: 1024 * 1024,
      maxQueuedBytes: 1024 * 1024,
      onRoom: () => undefined,
      onFailed: () => undefined,
    },
  );
  writer.write(RDB);
  const rdb = await writer.finish(directory.basePath(id));
  const log = await directory.createLog(id, BASE_OFFSET, HEADER, callbacks());
  const promote = () =>
    directory.promote(
      id,
      {
        replid: REPLID,
        baseOffset: BASE_OFFSET,
        streamDb: 3,
        rdbBytes: rdb.bytes,
        rdbCrc64: hex64(rdb.crc64),
        rdbChecked: rdb.checked,
        logHeaderBytes: HEADER.length,
      },
      "full resync",
    );
  return { id, dir, log, promote };
}

/** Makes a generation current; its open log commits marks. */
export async function keep(directory: DataDirectory, disk: FaultyDisk): Promise<StreamLog> {
  const { log, promote } = await lay(directory, disk);
  await promote();
  log.beginMarks();
  return log;
}
