/** Whether this is a run id as Redis makes them: 40 hex digits, another one for each process. */
export function isRunId(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/**
 * How a `replica` names its process to another one that it attaches to: as a capability, because a primary passes
 * over those that it doesn't know ("Redis, replication.c, replconfCommand").
 */
const CAPABILITY = "bun-replica-run-id=";

/** The capability that names this process. */
export function runIdCapability(runId: string): string {
  return `${CAPABILITY}${runId}`;
}

/** The run id that a capability names; undefined for any other capability. */
export function runIdOf(capability: string): string | undefined {
  if (!capability.startsWith(CAPABILITY)) return undefined;
  const runId = capability.slice(CAPABILITY.length);
  return isRunId(runId) ? runId : undefined;
}
