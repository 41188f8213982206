import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimarySource } from "../../src/config/primary-source.ts";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { openArchiveStore } from "../../src/archive/open/open-archive.ts";
import { prepareArchiving } from "../../src/program/archiving.ts";
import { assemble, type OfflineStart } from "../../src/program/assemble.ts";
import type { Disk } from "../../src/store/disk/disk.ts";
import { ACCESS_KEY, SECRET_KEY } from "./fault-s3.ts";
import type { TempDir } from "./temp.ts";
import { until, withinOwnTime } from "./wait.ts";

/** A stop may take 2 s; the test allows a little more. */
const STOP_MS = 3_000;

/** Runs a replica in this process, on the given disk and clock. */
export function follow(
  url: string,
  disk: Disk,
  dir: TempDir,
  more: Record<string, string> = {},
  offline?: OfflineStart,
  clock: Clock = realClock,
) {
  const flags = {
    dir: dir.file("data"),
    port: "0",
    "retry-max": "100ms",
    // A busy machine makes a primary slow, not silent.
    "sync-timeout": "60s",
    ...more,
  };
  const settings = loadSettings({ flags: new Map(Object.entries(flags)), env: {} });
  const { url: archive } = settings.archive;
  const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
  const store = archive && openArchiveStore(archive, { settings, env, clock });
  const archiving = store && prepareArchiving(store, settings, { clock })(disk);
  const assembled = assemble(parsePrimarySource(url), disk, clock, settings, "0", {
    offline,
    archiving: archiving || undefined,
  });
  const { replica, status, run } = assembled;
  const stopping = new AbortController();
  const ended = run(stopping.signal).then(
    () => undefined,
    (error: unknown) => error,
  );
  return {
    replica,
    status,
    settings,
    /** The port that it serves. */
    port: assembled.port.port,
    path: dir.file("data"),
    /** Resolves when it has ended or was stopped, with the error thrown, if any. */
    ended,
    /** Stops it; returns the error thrown, if any. */
    stop: async (): Promise<unknown> => {
      stopping.abort();
      return await withinOwnTime(STOP_MS, "the replica to end", ended);
    },
    connected: () => until(() => replica.state.at === "connected", { what: "a connected link" }),
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      await ended;
      assembled.close();
    },
  };
}
