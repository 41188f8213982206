import type { Replica } from "./replica.ts";

/**
 * Why a replica is not ready: its link is not whole, or what came is not durable (`--fsync no`: not
 * written); undefined where it is.
 * @param readyLagMs so long may the oldest byte wait until it is durable; milliseconds.
 */
export function whyNotReady(replica: Replica, readyLagMs: number): string | undefined {
  if (replica.state.at !== "connected") return `the link is in state ${replica.state.at}`;
  const ageSeconds = replica.durableAgeSeconds;
  if (ageSeconds * 1000 <= readyLagMs) return undefined;
  return `what came ${ageSeconds.toFixed(0)} s ago is not ${replica.keptWord} yet`;
}
