import { join } from "node:path";
import { makePrivateDirectory, type PrivateDirectory } from "../../stock/private-directory.ts";
import type { RestoredFiles } from "../../stock/stock-directory.ts";
import { StockServer } from "../../stock/stock-server.ts";
import { usageError } from "../../base/errors.ts";
import { nameOf, type ServerProgram } from "../../stock/server-program.ts";
import type { Layout } from "../../store/restore/restore.ts";
import { realDisk } from "../../store/disk/disk.ts";
import type { ReplayedRdb } from "./replay.ts";

/** Servers before leave out what has expired when they save ("Redis 4.0, rdb.c": rdbSaveKeyValuePair). */
const FIRST_KEEPING_EXPIRED = 5;
/** The first with an append-only directory. */
const FIRST_MULTIPART = 7;

/** What a server loads and saves again. */
export interface ReplayFolder {
  readonly layout: Layout;
  /** A folder of this process, and the one in it that is to be filled. */
  readonly holder: PrivateDirectory;
  readonly dir: string;
}

/** @throws ReplicaError USAGE for a server that can't do it; DISK_FULL, DISK_FAILED. */
export function makeReplayFolder(server: ServerProgram): ReplayFolder {
  if (server.major < FIRST_KEEPING_EXPIRED) {
    throw usageError(
      `${nameOf(server)} leaves out keys that have expired since when it saves: give Redis 5 or later with --server`,
    );
  }
  const layout = server.major < FIRST_MULTIPART ? "single" : "multipart";
  const holder = makePrivateDirectory();
  return { layout, holder, dir: join(holder.path, "data") };
}

/**
 * Lets a private server load a folder, in which nothing expires, and save everything as an RDB. The folder is removed.
 * @throws ReplicaError as `checkRestored`.
 */
export async function saveLoaded(
  restored: RestoredFiles,
  { holder }: Pick<ReplayFolder, "holder">,
  server: ServerProgram,
  options: {
    readonly signal: AbortSignal;
    readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
  },
): Promise<Pick<ReplayedRdb, "path" | "remove">> {
  const running = await StockServer.boot(restored, server, options.signal, { as: "private" });
  const path = join(holder.path, "saved.rdb");
  try {
    await running.loaded((loaded, total) => options.onProgress("load", loaded, total));
    await running.save(path);
    await realDisk.removeLarge(restored.dir);
  } finally {
    await running.stop();
  }
  running.refusePassedOver();
  return { path, remove: holder.remove };
}
