import type { Clock } from "../base/clock.ts";
import { invariant, ReplicaError } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";
import type { RdbSummary } from "../rdb/checker.ts";
import { replicationAux } from "../rdb/header.ts";
import { selectCommand } from "../resp/encode.ts";
import type { FullSyncGrant } from "../session/state.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import { givenUp, keptSnapshot } from "./receiving.ts";

/** A generation whose snapshot came over a second link: verified, durable and named. It has no log yet. */
export interface Fetched {
  readonly id: number;
  readonly grant: FullSyncGrant;
  readonly rdb: RdbSummary;
  /** When the primary granted it, in milliseconds since 1970. */
  readonly grantedAtMs: number;
}

/** The log that is followed, as far as a new one may take its place. */
export interface Followed {
  readonly log: StreamLog | undefined;
  /** Whether a full sync is coming in over the link that is followed. */
  readonly isReceiving: boolean;
  /** Creates a log; `onFailed` gets its failure, until the log is followed. */
  createLog(
    id: number,
    baseOffset: Offset,
    header: Uint8Array,
    onFailed: (error: ReplicaError) => void,
  ): Promise<StreamLog>;
  /** Pauses the link and holds the stream while `act` runs; then the stream goes on. */
  whileHeld(act: () => Promise<void>): Promise<void>;
  /** Follows with `log` from now on, which is durable up to `durableOffset`. */
  follow(log: StreamLog, durableOffset: Offset): Promise<void>;
}

/** How long the log that is followed may take to reach the snapshot's offset. */
const REACH_LIMIT_MS = 60_000;
const REACH_EVERY_MS = 20;

function cannotTakePlace(why: string): ReplicaError {
  return new ReplicaError("PRIMARY_REFUSED", {
    message: `the new snapshot can't replace the generation that is followed: ${why}`,
  });
}

/**
 * Lets a generation whose snapshot came over a second link replace the one that is followed:
 * its log is copied from the log that is followed, then takes over, and no byte of the stream is lost.
 * @param sealReason why the generation before is sealed.
 * @throws ReplicaError where that can't be done: nothing has changed then, and the caller discards it.
 */
export async function adopt(
  followed: Followed,
  directory: DataDirectory,
  clock: Clock,
  fetched: Fetched,
  sealReason: string,
  signal: AbortSignal,
): Promise<void> {
  const { id, grant, rdb, grantedAtMs } = fetched;
  const aux = replicationAux(rdb.header);
  const position = grant.by === "psync" ? grant.position : aux.position;
  if (position === undefined) throw cannotTakePlace("the primary names no offset for it");
  const from = followed.log;
  let failure: ReplicaError | undefined;
  const check = () => {
    if (signal.aborted) throw givenUp();
    if (failure !== undefined) throw failure;
    if (from === undefined || followed.log !== from || followed.isReceiving)
      throw cannotTakePlace("another log is followed already");
    if (directory.historiesFrom(position) === undefined)
      throw cannotTakePlace(`its offset ${position.offset} isn't in the history that is kept`);
  };
  await reach(followed, position.offset, check, clock, signal);
  const header = selectCommand(aux.streamDb);
  const next = await followed.createLog(id, position.offset, header, (error) => (failure = error));
  try {
    // The long part comes before the link is paused.
    await next.copyFrom(from!, check);
    await directory.syncLog(id);
    await followed.whileHeld(async () => {
      await from!.flushed();
      await next.copyFrom(from!, check);
      await from!.sync();
      // A sync that failed has taken the log away.
      check();
      const durableOffset = next.writtenOffset;
      invariant(from!.durableOffset === durableOffset, "both logs end at the same offset");
      const kept = keptSnapshot(rdb, position.replid, position.offset);
      const replicationIds = directory.historiesFrom(position)!;
      const { segment } = next;
      const continued = { replicationIds, grantedAtMs, durableOffset, segment };
      await directory.promote(id, kept, sealReason, continued);
      await followed.follow(next, durableOffset);
    });
  } catch (error) {
    // Once it is followed, no failure takes it away.
    if (next !== followed.log) await next.abandon();
    throw error;
  }
}

/** Waits until the log that is followed has reached the snapshot's offset. */
async function reach(
  followed: Followed,
  offset: Offset,
  check: () => void,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const untilMs = clock.monotonicMs() + REACH_LIMIT_MS;
  for (check(); followed.log!.writtenOffset < offset; check()) {
    if (clock.monotonicMs() > untilMs) {
      throw cannotTakePlace(`the log did not reach its offset ${offset} within 60 s`);
    }
    await clock.sleep(REACH_EVERY_MS, signal);
  }
}
