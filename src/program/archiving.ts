import { join } from "node:path";
import { type Decryption, Encryption } from "../archive/format/encryption.ts";
import { ArchiveRetention } from "../archive/retention/archive-retention.ts";
import type { ObjectStore } from "../archive/store/object-store.ts";
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
import { borneOutClock } from "./borne-out-clock.ts";

/** How long to wait before the archiver begins again after an error that none should be. */
const AGAIN_MS = 60_000;

/** What carries the generations of a data directory to the archive that the settings name. */
export interface Archiving {
  readonly archiver: Archiver;
  /** Archives, and removes what is old there, until the signal aborts. What is in flight then is sent by the next start. */
  run(signal: AbortSignal): Promise<void>;
  /** Closes what the data directory is read by, once `run` has ended. */
  close(): void;
}

/** What archiving takes from around it. */
export interface ArchivingContext {
  readonly clock: Clock;
  /** What reads an encrypted archive: only by that, the retention learns all that it can. */
  readonly decryption?: Decryption | undefined;
}

/**
 * Reads the settings of an archive before anything is opened.
 * @param store where it lies.
 * @returns what carries a data directory there, once that is open and before anything is followed.
 * @throws ReplicaError USAGE for settings or recipients that can't be.
 */
export function prepareArchiving(
  store: ObjectStore,
  settings: { readonly archive: ArchiveSettings },
  { clock, decryption }: ArchivingContext,
): (disk: Disk) => (directory: DataDirectory) => Archiving {
  const { recipients, compression, endpoint, everyMs, bytesPerSecond } = settings.archive;
  const { keepForMs } = settings.archive;
  const encryption = recipients.length === 0 ? undefined : new Encryption(recipients);
  return (disk) => (directory) => {
    const { holdings } = directory;
    const ledger = new LedgerReader(join(directory.path, DATABASE));
    const archiver = new Archiver({
      store,
      archive: endpoint === undefined ? store.url : `${store.url} at ${endpoint}`,
      source: new DirectorySource(directory, ledger, clock),
      disk,
      clock,
      writer: { codec: compression, encryption },
      everyMs,
      bytesPerSecond,
      program: `replica ${VERSION}`,
      onMoved: () => holdings.onArchived(),
      onNews: (what) => directory.note("archive", what),
    });
    // A folder tells no other time than this machine does.
    const sober = borneOutClock(clock, directory.keeping.borneOutMs);
    const retention = new ArchiveRetention({ store, clock: sober, keepForMs, decryption });
    holdings.carrier = archiver;
    directory.keeping.archived = archiver;
    const both = [
      { what: `archiving to ${store.url}`, part: archiver },
      { what: `removing what is old from ${store.url}`, part: retention },
    ];
    const run = async (signal: AbortSignal) => {
      await Promise.all(both.map(({ what, part }) => runOn(part, what, clock, signal)));
    };
    return { archiver, run, close: () => ledger[Symbol.dispose]() };
  };
}

/** What is wrong with one of them must not end what it is beside. */
async function runOn(
  part: { run(signal: AbortSignal): Promise<void> },
  what: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      return await part.run(signal);
    } catch (error) {
      logger.error(`${what} failed, and begins again: ${String(error)}`, { error });
      await clock.sleep(AGAIN_MS, signal);
    }
  }
}
