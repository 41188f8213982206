import { basename, join } from "node:path";
import type { RdbHeader } from "../../rdb/header.ts";
import { encodeCommands } from "../../resp/encode.ts";
import { nameOf } from "../../stock/server-program.ts";
import { diskError, writeWhole } from "../../store/disk/disk.ts";
import { filesOf, MANIFEST } from "../../store/generation/layout.ts";
import { headerOf } from "../../store/restore/rdb-header.ts";
import { APPEND_DIR, RESTORED, SINGLE_FILE } from "../../store/restore/restore.ts";
import { cannotLoad, refuseUnloadable } from "../../store/restore/target-server.ts";
import { arrivalTimes } from "../../store/restore/write-log.ts";
import { expiryRules } from "../../store/rewrite/expiry-rules.ts";
import { knowersOf, newerCommands } from "../../store/rewrite/newer-commands.ts";
import { RefusedCommands } from "../../store/rewrite/refused-commands.ts";
import { EntrySource } from "./entry-source.ts";
import { writeFiltered } from "../needs/filtered-log.ts";
import { GatheringFile } from "../needs/gathering-file.ts";
import { RdbFile } from "./rdb-file.ts";
import type { Replay, ReplayedRdb } from "./replay.ts";
import { makeReplayFolder, type ReplayFolder, saveLoaded } from "./replay-folder.ts";

/**
 * Replays what the log does to the needed keys: writes a folder with nothing but these, from the snapshot and from the log,
 * and lets a private server load it.
 * @throws ReplicaError as `saveLoaded`; BAD_PAYLOAD where the snapshot holds what isn't known here.
 */
export async function replayChosen(replay: Replay): Promise<ReplayedRdb> {
  const { server, point, options } = replay;
  const header = headerOf(filesOf(point.generation).base);
  const folder = makeReplayFolder(server);
  try {
    refuseUnloadable(header, folder.layout, { ...server, isStarted: true });
    const replayedCommands = await writeFolder(replay, header, folder);
    const saved = await saveLoaded(folder, folder, server, options);
    return { ...saved, replayedCommands };
  } catch (cause) {
    await folder.holder.remove();
    options.signal.throwIfAborted();
    throw diskError("preparing a replay in", folder.holder.path, cause);
  }
}

/** @returns how many commands of the log are in it. */
async function writeFolder(
  replay: Replay,
  header: RdbHeader,
  { layout, dir }: ReplayFolder,
): Promise<number> {
  const { disk } = replay.options;
  if (layout === "single") {
    disk.makeDir(dir);
    using file = new GatheringFile(disk, join(dir, SINGLE_FILE));
    await writeBase(replay, header, file);
    const logByte = file.bytes;
    const commands = await writeLog(replay, header, file);
    await file.finish();
    await refuseNewer(replay, file.path, logByte, file.bytes);
    return commands;
  }
  const appendDir = join(dir, APPEND_DIR);
  disk.makeDir(appendDir);
  using base = new GatheringFile(disk, join(appendDir, RESTORED.base));
  await writeBase(replay, header, base);
  await base.finish();
  using log = new GatheringFile(disk, join(appendDir, RESTORED.log));
  const commands = await writeLog(replay, header, log);
  await log.finish();
  await refuseNewer(replay, log.path, 0, log.bytes);
  const manifest = new TextEncoder().encode(RESTORED.manifestText);
  await writeWhole(disk, join(appendDir, MANIFEST), manifest);
  return commands;
}

/** Writes the needed keys of the snapshot, byte by byte as they stand there. */
async function writeBase(
  { point, needed, options }: Replay,
  header: RdbHeader,
  file: GatheringFile,
): Promise<void> {
  const rdb = await RdbFile.begin(file, header);
  using source = new EntrySource({ ...options, path: filesOf(point.generation).base });
  for await (const found of source.entries((_, key) => needed.has(key))) {
    await rdb.copy(source, found);
  }
  await rdb.end();
}

/** Writes what the log does to the needed keys. */
async function writeLog(
  { catalogue, point: { generation }, findings, needed, options }: Replay,
  header: RdbHeader,
  file: GatheringFile,
): Promise<number> {
  const { disk, signal } = options;
  const refused = new RefusedCommands(header);
  const times = arrivalTimes(catalogue, generation);
  const rules = [...expiryRules(header, findings.verbs, times), refused];
  const path = filesOf(generation).log;
  const to = findings.safeCut;
  const onProgress = (byte: number) =>
    options.onProgress(`commands of ${basename(path)}`, byte, to);
  const part = { disk, path, from: 0, to, signal, onProgress };
  const commands = await writeFiltered(part, needed, rules, file);
  const last = refused.atEnd();
  if (last.length > 0) await file.write(encodeCommands(last));
  return commands;
}

/** Refuses a server that doesn't know the commands, instead of letting it pass over them. */
async function refuseNewer(
  { server, options: { disk, signal } }: Replay,
  path: string,
  from: number,
  to: number,
): Promise<void> {
  const [first] = await newerCommands({ disk, path, from, to, signal }, server);
  if (first === undefined) return;
  throw cannotLoad(
    { ...server, isStarted: true },
    `replay what the log does to these keys, since it doesn't know ${first.name} (${knowersOf(first.since)} do): give another one than ${nameOf(server)} with --server`,
  );
}
