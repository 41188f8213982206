import { expect, test } from "bun:test";
import { fillAllTypes } from "../support/fill.ts";
import { startReplica } from "../support/replica-process.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { amount, IS_FULL } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { worstDay } from "./empty-restarts-rig.ts";

const SAVES = 3;

const right = async (primary: RealServer) => fillAllTypes(primary, { keys: 3_000, seed: 5 });

/** Less than half of that. */
async function wrong(primary: RealServer): Promise<void> {
  await primary.sendAll(Array.from({ length: 1_000 }, (_, n) => ["SET", `wrong:${n}`, "x"]));
}

const kinds = IS_FULL ? availableServers() : (["redis-7.0"] as const);

test.concurrent.each(kinds)(
  "%s: three empty restarts, a wrong fill and three BGSAVEs, and the moment before is there",
  async (kind) => {
    using dir = tempDir("empty-restarts");
    const data = dir.file("data");
    const day = { kind, data, right, isFilledBefore: true, restarts: 3, wrong, saves: SAVES };
    await worstDay(day);
    // A restart forgets nothing.
    await using primary = await startServer(kind);
    await using again = startReplica([primary.url(), "--dir", data, "--port", "0", "--adopt"]);
    await again.waitForLine(/what is current has less than half of generation 1/);
  },
);

test.concurrent(
  "the same after many empty restarts, of a primary that was filled through the stream",
  async () => {
    using dir = tempDir("empty-restarts");
    const restarts = amount("EMPTY_RESTARTS_REAL", { sample: 3, full: 50 });
    const { kept } = await worstDay({
      kind: "redis-7.0",
      data: dir.file("data"),
      right,
      isFilledBefore: false,
      restarts,
      wrong,
      saves: SAVES,
      // After many broken links it would wait for a minute.
      more: IS_FULL ? ["--retry-max", "500ms"] : [],
    });
    // Blank ones don't pile up: the first, one that was filled, and those behind it.
    expect(kept.length).toBeLessThanOrEqual(5 + SAVES);
  },
  600_000,
);
