import { ReplicaError } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import { nameOf } from "../../stock/server-program.ts";
import { diskError, freeBytesAt } from "../../store/disk/disk.ts";
import { offsetOfByte, filesOf } from "../../store/generation/layout.ts";
import { readUsedMemory } from "../../store/generation/snapshot-keys.ts";
import { restore } from "../../store/restore/restore.ts";
import type { Obstacle } from "../needs/group-memory.ts";
import type { Replay, ReplayedRdb } from "./replay.ts";
import { makeReplayFolder, saveLoaded } from "./replay-folder.ts";

/** What data takes in a server's memory for each byte of its snapshot, where the primary doesn't say how much it used. */
const MEMORY_EACH_BYTE = 3;

/**
 * Replays the whole log on all of the data, after saying why, and how much memory and room that takes.
 * @throws ReplicaError as `restore` and `saveLoaded`; DISK_FULL where there is no room for it.
 */
export async function replayWhole(replay: Replay, obstacle: Obstacle): Promise<ReplayedRdb> {
  const { catalogue, point, findings, server, options } = replay;
  const { generation } = point;
  const folder = makeReplayFolder(server);
  try {
    const diskBytes = 2 * generation.rdbBytes + findings.safeCut;
    const needs = `${formatBytes(memoryBytes(replay))} of memory or more, and some ${formatBytes(diskBytes)} in ${folder.holder.path}`;
    const offset = offsetOfByte(generation, obstacle.byte);
    options.tell(
      `which keys the chosen ones come from can't be told from the log: ${obstacle.what} (after offset ${offset}); so ${nameOf(server)} loads all of the data, which takes ${needs}`,
    );
    const free = freeBytesAt(options.disk, folder.holder.path);
    if (free < diskBytes) {
      throw new ReplicaError("DISK_FULL", {
        message: `all of the data is to be loaded, which takes ${needs}, which has room for ${formatBytes(free)}: make room, or set TMPDIR to a folder with more`,
      });
    }
    const { disk, signal, onProgress, checkers } = options;
    const how = { layout: folder.layout, target: { ...server, isStarted: true as const } };
    const checking = checkers === undefined ? {} : { checkers };
    const restored = await restore(catalogue, point, folder.dir, {
      ...how,
      ...checking,
      disk,
      signal,
      onProgress,
    });
    const saved = await saveLoaded(restored, folder, server, options);
    return { ...saved, replayedCommands: undefined };
  } catch (cause) {
    await folder.holder.remove();
    options.signal.throwIfAborted();
    throw diskError("preparing a replay in", folder.holder.path, cause);
  }
}

/** About how much memory a server needs for all of the data. */
function memoryBytes({ point: { generation }, findings }: Replay): number {
  const used = readUsedMemory(filesOf(generation).base);
  // The log adds to it, by no more than its length in all but odd cases.
  return (used ?? MEMORY_EACH_BYTE * generation.rdbBytes) + findings.safeCut;
}
