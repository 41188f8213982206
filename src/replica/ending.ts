import type { Clock } from "../base/clock.ts";
import { logger } from "../base/logger.ts";
import type { Relay } from "../downstream/relay.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { Driver } from "../upstream/driver.ts";
import type { GenerationKeeper } from "../upstream/keeper.ts";
import type { Upkeep } from "../upstream/upkeep.ts";

/** A stop may take 2 s in all. */
const STOP_LIMIT_MS = 1_800;

/** What a stop has to end. */
export interface Running {
  readonly clock: Clock;
  readonly directory: DataDirectory;
  readonly driver: Driver;
  readonly keeper: GenerationKeeper;
  readonly relay: Relay;
  readonly upkeep: Upkeep;
}

/**
 * Writes, syncs, marks and acknowledges what was received, within the time that a stop may take.
 * @throws ReplicaError of a disk that failed meanwhile, or where the directory is lost.
 */
export async function endReplica(running: Running): Promise<void> {
  const { clock, directory, keeper } = running;
  const before = keeper.failure;
  const inTime = new AbortController();
  const finished = finish(running).finally(() => inTime.abort());
  await Promise.race([finished, clock.sleep(STOP_LIMIT_MS, inTime.signal)]);
  if (!inTime.signal.aborted) {
    logger.warn(
      `the disk did not finish within ${STOP_LIMIT_MS} ms: the next start asks again for what no mark covers`,
    );
  }
  // What counts as durable must be where it is looked for.
  directory.refuseLost();
  // A primary that left at the same time isn't our failure; a failed disk is.
  const { failure } = keeper;
  if (failure !== undefined && failure !== before) throw failure;
}

async function finish({ driver, keeper, relay, upkeep }: Running): Promise<void> {
  const demanded = upkeep.demand.stop();
  const renewed = upkeep.renewal.stop("the replica stops");
  try {
    // A complete payload would have to be sent again.
    if (driver.state.at === "transfer" && driver.state.finishing) await driver.finishing;
    if (driver.state.at === "connected") {
      await driver.endRest();
      // A primary that streams as fast as it can must not keep us from ending.
      driver.stopReading();
      await keeper.settle();
      driver.hangUp();
    }
  } finally {
    relay.endAll("this replica stops");
    // Before anything is waited for: what is half received goes, however slow the disk is.
    driver.leave();
    await keeper.close();
    await renewed;
    await demanded;
    await upkeep.stop();
  }
}
