import type { Offset } from "./history.ts";

/*
 * What a `replica` tells another one that it attaches to: as capabilities, because a primary passes over those that it
 * doesn't know ("Redis, replication.c, replconfCommand").
 */

const RUN_ID = "bun-replica-run-id=";
const NEWER_THAN = "bun-replica-newer-than=";

/** The capability that names this process. */
export function runIdCapability(runId: string): string {
  return `${RUN_ID}${runId}`;
}

/** The run id that a capability names; undefined for any other capability. */
export function runIdOf(capability: string): string | undefined {
  const runId = valueOf(capability, RUN_ID) ?? "";
  return isRunId(runId) ? runId : undefined;
}

/** The capability that asks for a snapshot which is newer than this offset of the stream. */
export function newerThanCapability(offset: Offset): string {
  return `${NEWER_THAN}${offset}`;
}

/** The offset than which a snapshot is to be newer; undefined for any other capability. */
export function newerThanOf(capability: string): Offset | undefined {
  const offset = valueOf(capability, NEWER_THAN) ?? "";
  return /^\d{1,15}$/.test(offset) ? Number(offset) : undefined;
}

function valueOf(capability: string, name: string): string | undefined {
  return capability.startsWith(name) ? capability.slice(name.length) : undefined;
}

/** Whether this is a run id as Redis makes them: 40 hex digits, another one for each process. */
export function isRunId(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}
