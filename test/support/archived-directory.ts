import { join } from "node:path";
import type { Encryption } from "../../src/archive/format/encryption.ts";
import type { ObjectStore } from "../../src/archive/store/object-store.ts";
import { Archiver } from "../../src/archive/writer/archiver.ts";
import { DirectorySource } from "../../src/archive/writer/directory-source.ts";
import { realClock } from "../../src/base/clock.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { DATABASE } from "../../src/store/generation/layout.ts";
import { LedgerReader } from "../../src/store/ledger/ledger-reader.ts";
import { until } from "./wait.ts";

/** Archives all that a data directory keeps, which nobody uses meanwhile. */
export async function archiveDirectory(
  dir: string,
  store: ObjectStore,
  encryption?: Encryption,
): Promise<void> {
  const directory = new DataDirectory(dir, realDisk, realClock);
  using ledger = new LedgerReader(join(dir, DATABASE));
  const stopping = new AbortController();
  try {
    const archiver = new Archiver({
      store,
      archive: store.url,
      source: new DirectorySource(directory, ledger, realClock),
      disk: realDisk,
      clock: realClock,
      writer: { codec: "zstd", encryption },
      everyMs: 1,
      program: "replica 0.1.0",
    });
    const running = archiver.run(stopping.signal);
    const generations = ledger.generations();
    const current = directory.current?.id;
    await until(
      () => {
        const { lagBytes, lagBaseBytes, archivedOffset, error } = archiver.status();
        if (error !== undefined) throw error;
        const others = generations.filter(({ id }) => id !== current);
        const areThere = others.every(({ id }) => archiver.has(id));
        return areThere && lagBytes === 0 && lagBaseBytes === 0 && archivedOffset !== undefined;
      },
      { what: "the archive to be whole" },
    );
    stopping.abort(new Error("the archive is whole"));
    await running;
  } finally {
    directory.close();
  }
}
