import type { ObjectStore } from "../archive/store/object-store.ts";
import { refuseOtherArchive } from "../archive/writer/describe-archive.ts";
import { ReplicaError } from "../base/errors.ts";

/** How long a start waits for a store: what can't be asked then is asked again before anything is written there. */
const ASK_MS = 3_000;

/**
 * Refuses to start with an archive that is of the other kind. A store that is away holds no start up.
 * @throws ReplicaError USAGE; the signal's reason.
 */
export async function refuseArchiveOfOtherKind(
  store: ObjectStore,
  kind: "primary" | "cluster",
  signal: AbortSignal,
): Promise<void> {
  try {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]);
    await refuseOtherArchive(store, kind, soon);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ReplicaError && error.code === "USAGE") throw error;
  }
}
