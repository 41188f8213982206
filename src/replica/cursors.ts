import type { Offset } from "../base/history.ts";
import type { Generation } from "../store/ledger/ledger.ts";
import { positionIn } from "../store/generation/layout.ts";
import type { Replica } from "./replica.ts";

/** How far the stream is, as replication offsets: durable ≤ written ≤ received. */
export interface Cursors {
  readonly received: Offset;
  readonly written: Offset;
  readonly durable: Offset;
  /** Length of the log's file, its SELECT included. */
  readonly logBytes: number;
}

/**
 * Of the log that is followed, or of what is served without a primary; while no log can be opened, of what is
 * promised. All 0 where nothing is kept.
 */
export function cursorsOf(replica: Replica): Cursors {
  const { log, endedStream: ended, directory } = replica;
  const promised = directory.durableOffset ?? 0;
  const written = ended?.writtenOffset ?? log?.writtenOffset ?? promised;
  const generation = ended?.generation ?? directory.current;
  const isFollowed = ended === undefined && log !== undefined;
  return {
    received: receivedOffset(replica) ?? written,
    written,
    // What is served lies on the disk since before.
    durable: Math.min(log?.durableOffset ?? ended?.writtenOffset ?? promised, written),
    logBytes: isFollowed ? log.fileBytes : lengthOf(generation, written),
  };
}

function receivedOffset({ state, log, endedStream }: Replica): Offset | undefined {
  if (endedStream !== undefined) return undefined;
  return state.at === "connected" ? state.receivedOffset : log?.receivedOffset;
}

function lengthOf(generation: Generation | undefined, written: Offset): number {
  return generation === undefined ? 0 : positionIn(generation, written);
}
