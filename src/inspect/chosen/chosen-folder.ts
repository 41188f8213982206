import { join } from "node:path";
import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { diskError, type Disk, writeWhole } from "../../store/disk/disk.ts";
import { MANIFEST } from "../../store/generation/layout.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import {
  APPEND_DIR,
  type Layout,
  readersOf,
  RESTORED,
  SINGLE_FILE,
} from "../../store/restore/restore.ts";
import { beginTarget, findTarget, publishTarget } from "../../store/restore/restore-target.ts";
import { refuseUnloadable, type TargetServer } from "../../store/restore/target-server.ts";
import type { ChosenKeys } from "./chosen-keys.ts";
import { GatheringFile } from "../needs/gathering-file.ts";
import { RdbFile } from "./rdb-file.ts";

export interface ChosenFolderOptions {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  readonly layout: Layout;
  /** Who may read the result; undefined: nobody who couldn't read what it comes from. */
  readonly mode: number | undefined;
  /** The server that is to load it; undefined: any that can. */
  readonly target: TargetServer | undefined;
  readonly nowMs: number;
}

/** What a folder with chosen keys holds. */
export interface ChosenFolder {
  readonly dir: string;
  readonly layout: Layout;
  readonly keys: number;
  /** How many of them have expired by now. */
  readonly expired: number;
  readonly rdbBytes: number;
  /** By database. */
  readonly databases: ReadonlyMap<number, number>;
}

/**
 * Writes a folder that a stock server starts from, with the chosen keys alone, as `restore` writes one: under a temporary
 * name, synced and renamed, so that a failure leaves nothing.
 * @throws ReplicaError KEYS_NOT_FOUND where there is none; USAGE for a target that is neither new nor empty; USAGE or
 * RESTORE_UNUSABLE for a server that can't load it; DISK_FULL, DISK_FAILED; the signal's reason.
 */
export async function writeChosenFolder(
  chosen: ChosenKeys,
  catalogue: Pick<Catalogue, "path">,
  target: string,
  options: ChosenFolderOptions,
): Promise<ChosenFolder> {
  const { disk, layout } = options;
  if (options.target !== undefined) refuseUnloadable(chosen.header, layout, options.target);
  const place = findTarget(target, catalogue.path);
  try {
    beginTarget(place);
    const entry = layout === "multipart" ? APPEND_DIR : SINGLE_FILE;
    const written = await write(chosen, join(place.temporary, entry), options);
    await disk.syncDir(place.temporary);
    const readers = readersOf(catalogue, chosen.about.generation, options);
    await publishTarget(disk, place, entry, readers);
    return { ...written, dir: place.path, layout };
  } catch (cause) {
    fs.rmSync(place.temporary, { recursive: true, force: true });
    options.signal.throwIfAborted();
    throw diskError("restoring to", place.path, cause);
  }
}

/** @param to the append-only folder, or the single file. */
async function write(
  chosen: ChosenKeys,
  to: string,
  { disk, layout, nowMs }: ChosenFolderOptions,
): Promise<Omit<ChosenFolder, "dir" | "layout">> {
  if (layout === "single") return await writeRdb(chosen, disk, to, nowMs);
  disk.makeDir(to);
  const written = await writeRdb(chosen, disk, join(to, RESTORED.base), nowMs);
  using log = new GatheringFile(disk, join(to, RESTORED.log));
  await log.finish();
  await writeWhole(disk, join(to, MANIFEST), new TextEncoder().encode(RESTORED.manifestText));
  return written;
}

async function writeRdb(
  chosen: ChosenKeys,
  disk: Disk,
  path: string,
  nowMs: number,
): Promise<Omit<ChosenFolder, "dir" | "layout">> {
  using file = new GatheringFile(disk, path);
  const rdb = await RdbFile.begin(file, chosen.header);
  const databases = new Map<number, number>();
  let expired = 0;
  for await (const { found, source } of chosen.located()) {
    const { db, expiresAtMs } = found;
    await rdb.copy(source, found);
    databases.set(db, (databases.get(db) ?? 0) + 1);
    if (expiresAtMs !== undefined && expiresAtMs <= nowMs) expired++;
  }
  if (rdb.keys === 0) throw noneFound(chosen);
  await rdb.end();
  await file.finish();
  return { keys: rdb.keys, expired, rdbBytes: file.bytes, databases };
}

function noneFound({ unmet, about }: ChosenKeys): ReplicaError {
  const patterns = unmet.map((pattern) => JSON.stringify(pattern)).join(", ");
  return new ReplicaError("KEYS_NOT_FOUND", {
    retry: "never",
    message: `at offset ${about.offset}, no key matches ${patterns}: try another pattern or database, or an earlier moment`,
  });
}
