import { realClock } from "../../src/base/clock.ts";
import type { ViewSurroundings } from "../../src/monitor/document/replica-view.ts";

/** What a view takes, as a replica with default settings gives it. */
export function around(readyLagMs = 10_000, clock = realClock): ViewSurroundings {
  return { readyLagMs, announced: false, version: "1.2.3", clock };
}
