import { expect, test } from "bun:test";
import { FAULTS } from "../soak/faults.ts";
import { reportText } from "../soak/report.ts";
import { soak } from "../soak/soak.ts";
import { availableServers } from "../support/servers.ts";
import { amount, seedOf } from "../support/sweep.ts";

/** A longer run: `SOAK_MINUTES=30 bun test test/faults/soak.test.ts`. */
const MINUTES = amount("SOAK_MINUTES", { sample: 0.25, full: 2 });
const SEED = seedOf("SOAK_SEED", 4);

test(
  `loses nothing in ${MINUTES} minutes of faults of all kinds`,
  async () => {
    const servers = availableServers();
    const report = await soak({
      minutes: MINUTES,
      seed: SEED,
      server: servers[SEED % servers.length]!,
      binary: "compiled",
    });
    console.log(reportText(report));
    expect({ lost: report.lost, problems: report.problems }).toEqual({ lost: 0, problems: [] });
    expect(Object.keys(report.faults).toSorted()).toEqual(Object.keys(FAULTS).toSorted());
    const { restored, downstream } = report.comparisons;
    expect([restored > 0, downstream > 0, report.acknowledgedChecks > 0]).toEqual([
      true,
      true,
      true,
    ]);
    for (const { full, partial } of [report.syncs.replica, report.syncs.downstreams]) {
      expect([full > 0, partial > 0]).toEqual([true, true]);
    }
    const { expiredKeys, evictedKeys } = report.load;
    expect([expiredKeys > 0, evictedKeys > 0]).toEqual([true, true]);
  },
  MINUTES * 60_000 + 600_000,
);
