import type { Settings } from "../config/settings.ts";
import type { Replica } from "./replica.ts";

/** What is known of the other side of the primary. */
export interface SupplyStatus {
  /** The primary's own role, in Redis's words; `unknown` where it didn't say. */
  readonly role: "master" | "slave" | "unknown";
  /** Why the primary has no data to pass on; undefined where nothing says so, and while its link is down. */
  readonly trouble: string | undefined;
  /** Seconds since that is known; 0 where it has. */
  readonly troubleSeconds: number;
}

/** Whether the primary has data to pass on, while its link is up. */
export function supplyOf({ supply, silentMs, state }: Replica): SupplyStatus {
  const role = supply.facts?.role ?? "unknown";
  const trouble = state.at === "connected" ? supply.trouble(silentMs) : undefined;
  return { role, trouble, troubleSeconds: trouble === undefined ? 0 : supply.troubleSeconds };
}

/** See ReplicaStatus.whyNotReady. */
export function whyNotReady(
  replica: Replica,
  fsync: Settings["fsync"],
  readyLagMs: number,
): string | undefined {
  if (replica.isOffline) {
    return replica.stream === undefined ? "the data directory is not served yet" : undefined;
  }
  if (replica.state.at !== "connected") return whyNotConnected(replica);
  const { trouble } = supplyOf(replica);
  if (trouble !== undefined) return `nobody supplies data: ${trouble}`;
  const ageSeconds = replica.pace.durableAgeSeconds;
  if (ageSeconds * 1000 <= readyLagMs) return replica.upkeep.room.alarm;
  const kept = fsync === "no" ? "written" : "durable";
  return `bytes received ${ageSeconds.toFixed(0)} s ago are not ${kept} yet`;
}

/** The state of the link, and what the last attempt failed by where that still says something about this one. */
function whyNotConnected({ state, upkeep, isFollowing, links }: Replica): string {
  const at = `the link is in state ${state.at}`;
  // A resync is granted: what failed before it is over.
  if (state.at === "transfer") return at;
  if (state.at === "receive-bulk-header")
    return `${at}: the primary is preparing the snapshot (fork)`;
  const why = upkeep.admission.refusal ?? (isFollowing ? links.trouble?.message : undefined);
  if (why === undefined) return at;
  // Amid an attempt it is the one before that failed: "in state receive-psync: connection refused" would be neither.
  return state.at === "none" || state.at === "connect"
    ? `${at}: ${why}`
    : `${at}; before that: ${why}`;
}
