import { join } from "node:path";
import { Encryption } from "../archive/format/encryption.ts";
import { openArchiveStore } from "../archive/open/open-archive.ts";
import { Archiver } from "../archive/writer/archiver.ts";
import { DirectorySource } from "../archive/writer/directory-source.ts";
import type { Clock } from "../base/clock.ts";
import { logger } from "../base/logger.ts";
import { VERSION } from "../base/version.ts";
import type { ArchiveSettings } from "../config/settings.ts";
import type { Disk } from "../store/disk/disk.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import { DATABASE } from "../store/generation/layout.ts";
import { LedgerReader } from "../store/ledger/ledger-reader.ts";

/** How long to wait before the archiver begins again after an error that none should be. */
const AGAIN_MS = 60_000;

/** What carries the generations of a data directory to the archive that the settings name. */
export interface Archiving {
  readonly archiver: Archiver;
  /** Archives until the signal aborts. What is in flight then is sent by the next start. */
  run(signal: AbortSignal): Promise<void>;
}

/**
 * Reads the settings of an archive before anything is opened.
 * @param url as the settings name it.
 * @returns what carries a data directory there, once that is open and before anything is followed.
 * @throws ReplicaError USAGE for settings, recipients or variables that can't be.
 */
export function prepareArchiving(
  url: string,
  settings: { readonly archive: ArchiveSettings },
  env: Readonly<Record<string, string | undefined>>,
  clock: Clock,
): (disk: Disk) => (directory: DataDirectory) => Archiving {
  const store = openArchiveStore(url, { settings, env, clock });
  const { recipients, compression, endpoint, everyMs, bytesPerSecond } = settings.archive;
  const encryption = recipients.length === 0 ? undefined : new Encryption(recipients);
  return (disk) => (directory) => {
    const { holdings } = directory;
    const ledger = new LedgerReader(join(directory.path, DATABASE));
    const archiver = new Archiver({
      store,
      archive: endpoint === undefined ? store.url : `${store.url} at ${endpoint}`,
      source: new DirectorySource(directory, ledger, (id) => holdings.isOpen(id)),
      disk,
      clock,
      writer: { codec: compression, encryption },
      everyMs,
      bytesPerSecond,
      program: `replica ${VERSION}`,
      onMoved: () => holdings.onArchived(),
      onNews: (what) => directory.note("archive", what),
    });
    holdings.carrier = archiver;
    return { archiver, run: (signal) => run(archiver, store.url, clock, signal) };
  };
}

/** What is wrong with the archiver must not end what it is beside. */
async function run(
  archiver: Archiver,
  url: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await archiver.run(signal);
    } catch (error) {
      logger.error(`archiving to ${url} failed, and begins again: ${String(error)}`, { error });
      await clock.sleep(AGAIN_MS, signal);
    }
  }
}
