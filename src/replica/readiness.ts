import type { Replica } from "./replica.ts";

/**
 * Why a replica is not ready: its link is not whole, or what came is not durable (`--fsync no`: not
 * written); with --offline: what is kept is not served yet. Undefined where it is ready.
 * @param readyLagMs so long may the oldest byte wait until it is durable; milliseconds.
 */
export function whyNotReady(replica: Replica, readyLagMs: number): string | undefined {
  if (replica.isOffline) {
    return replica.stream === undefined ? "what is kept is not served yet" : undefined;
  }
  if (replica.state.at !== "connected") return `the link is in state ${replica.state.at}`;
  const ageSeconds = replica.durableAgeSeconds;
  if (ageSeconds * 1000 <= readyLagMs) return undefined;
  return `what came ${ageSeconds.toFixed(0)} s ago is not ${replica.keptWord} yet`;
}
