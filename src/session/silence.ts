import { ReplicaError, unreachable } from "../base/errors.ts";
import type { FirstLink, State } from "./state.ts";

export interface SilenceLimits {
  /** For the connect, and for each handshake reply; milliseconds. */
  readonly syncTimeoutMs: number;
  /** For the payload and the stream; milliseconds. */
  readonly timeoutMs: number;
}

/**
 * Gives up a link whose primary has been silent for too long (Redis, replication.c, replicationCron: each
 * reply has repl_syncio_timeout, each silence repl-timeout).
 * @param silentMs milliseconds since the primary was last heard, or since the last command went out.
 * @throws ReplicaError TIMED_OUT, naming the setting to raise.
 */
export function refuseSilence(state: State, silentMs: number, limits: SilenceLimits): void {
  const limit = limitOf(state, limits);
  if (limit === undefined || silentMs < limit.ms) return;
  const { ms, setting } = limit;
  throw new ReplicaError("TIMED_OUT", {
    message:
      state.at === "connecting"
        ? `no connection within ${ms} ms (${setting})`
        : `the primary was silent for ${ms} ms ${whereIn(state)} (${setting})`,
  });
}

function whereIn(state: State): string {
  if (state.at !== "receive-psync" || state.second === undefined) return `in state ${state.at}`;
  return `on the second link of a full sync, ${state.second === "connect" ? "which did not open" : `after ${state.second}`}`;
}

/**
 * Whether the first of two links has been silent for too long. A link that waits for the snapshot to begin has nothing to
 * say; one with a stream has a PING every ten seconds (repl-ping-replica-period).
 * @param silentMs milliseconds since it was last heard, or last had to say something.
 * @returns TIMED_OUT, naming the setting to raise; undefined where it wasn't.
 */
export function refuseFirstSilence(
  state: State,
  first: FirstLink | undefined,
  silentMs: number,
  { syncTimeoutMs, timeoutMs }: SilenceLimits,
): ReplicaError | undefined {
  if (state.at === "transfer" && state.lost !== undefined) return undefined;
  const isAsking = first?.does === "name-second" || first?.does === "ask";
  const isStreaming = state.at === "transfer" && first?.does === "stream";
  const limitMs = isAsking ? syncTimeoutMs : timeoutMs;
  if (!(isAsking || isStreaming) || silentMs < limitMs) return undefined;
  const setting = isAsking ? "--sync-timeout" : "--timeout";
  return new ReplicaError("TIMED_OUT", {
    message: `the primary was silent for ${limitMs} ms on the first link of a full sync (${setting})`,
  });
}

function limitOf(
  state: State,
  { syncTimeoutMs, timeoutMs }: SilenceLimits,
): { readonly ms: number; readonly setting: string } | undefined {
  switch (state.at) {
    case "none":
    case "connect":
      return undefined;
    case "connecting":
    case "receive-pong":
    case "receive-auth":
    case "receive-port":
    case "receive-ip":
    case "receive-capa":
    case "receive-version":
    case "receive-psync":
      return { ms: syncTimeoutMs, setting: "--sync-timeout" };
    case "receive-bulk-header":
      // While our own file is being opened, the silence is ours.
      return state.waits === "file" ? undefined : { ms: timeoutMs, setting: "--timeout" };
    case "transfer":
      // The same holds while the complete payload is being checked and synced.
      return state.finishing ? undefined : { ms: timeoutMs, setting: "--timeout" };
    case "connected":
      return { ms: timeoutMs, setting: "--timeout" };
    default:
      return unreachable(state);
  }
}
