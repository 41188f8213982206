import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimarySource } from "../../src/config/primary-source.ts";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { assemble, type OfflineStart } from "../../src/program/assemble.ts";
import type { Disk } from "../../src/store/disk/disk.ts";
import type { TempDir } from "./temp.ts";
import { until, within } from "./wait.ts";

/** A stop may take 2 s; the test gives a slow machine some more. */
const STOP_MS = 3_000;

/** The replica in this process, over a disk, and by a clock, of the test's. */
export function follow(
  url: string,
  disk: Disk,
  dir: TempDir,
  more: Record<string, string> = {},
  offline?: OfflineStart,
  clock: Clock = realClock,
) {
  const flags = { dir: dir.file("data"), port: "0", "retry-max": "100ms", ...more };
  const settings = loadSettings({ flags: new Map(Object.entries(flags)), env: {} });
  const assembled = assemble(parsePrimarySource(url), disk, clock, settings, "0", offline);
  const { replica, status, run } = assembled;
  const stopping = new AbortController();
  const ended = run(stopping.signal).then(
    () => undefined,
    (error: unknown) => error,
  );
  return {
    replica,
    status,
    /** Where its own port listens. */
    port: assembled.port.port,
    path: dir.file("data"),
    /** Resolves once it has ended by itself, or was stopped, with what its end threw. */
    ended,
    /** Stops it; gives what its end threw. */
    stop: async (): Promise<unknown> => {
      stopping.abort();
      return await within(STOP_MS, "the replica to end", ended);
    },
    connected: () => until(() => replica.state.at === "connected", { what: "a connected link" }),
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      await ended;
      assembled.close();
    },
  };
}
