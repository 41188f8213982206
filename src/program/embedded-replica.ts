import { realClock } from "../base/clock.ts";
import { VERSION } from "../base/version.ts";
import type { PrimarySource } from "../config/primary-source.ts";
import type { Settings } from "../config/settings.ts";
import { realDisk } from "../store/disk/disk.ts";
import { assemble, assembleAlone } from "./assemble.ts";
import { carrying, monitor, prepareDirectory } from "./replica-process.ts";
import type { AssembledAlone } from "./assemble.ts";

/** A replica that runs within a program of others. */
export interface Embedded extends Pick<AssembledAlone, "replica" | "status"> {
  /** Where it answers; undefined: nowhere. */
  readonly port: number | undefined;
}

/** What it is started with. */
export interface EmbeddedPlan {
  readonly source: PrimarySource;
  readonly settings: Settings;
  /** Where the archive's credentials come from. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether it answers on a port of its own. */
  readonly isServing: boolean;
  /** Called once it runs; returns a function that is called when it has ended, while all is still open. */
  readonly watch: (parts: Embedded) => () => void;
}

/**
 * Follows a primary until the signal aborts, or a client of its port sends SHUTDOWN, as `replica follow` does, but as a
 * guest: no signal is handled, the service manager is told nothing, and all that was opened is closed in the end.
 * @throws ReplicaError USAGE for settings that can't be; as the directory, the ports and the replica do; the signal's reason.
 */
export async function runEmbedded(plan: EmbeddedPlan, signal: AbortSignal): Promise<void> {
  const { source, settings, isServing } = plan;
  const env = { ...plan.env, NOTIFY_SOCKET: undefined };
  const archiving = await carrying(settings, env, signal);
  await prepareDirectory(
    { source, settings, env, offline: undefined, watchFilling: undefined },
    signal,
  );
  const monitoring = settings.http && (await monitor(settings.http, settings));
  signal.throwIfAborted();
  const disk = monitoring?.disk ?? realDisk;
  const carried = archiving?.(disk);
  const serving = isServing
    ? assemble(source, disk, realClock, settings, VERSION, { archiving: carried })
    : undefined;
  const assembled = serving ?? assembleAlone(source, disk, realClock, settings, carried);
  const endings: (() => void)[] = [() => serving?.port.stop(), () => assembled.close()];
  try {
    const { replica, status } = assembled;
    endings.unshift(plan.watch({ replica, status, port: serving?.port.port }));
    if (monitoring !== undefined) endings.unshift(monitoring.serve(status));
    await assembled.run(signal);
  } finally {
    for (const end of endings) end();
  }
}
