import { Database } from "bun:sqlite";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { clock } from "../restore/kept.ts";

/** A disk of so many bytes, which the generations' files fill. */
export class RoomyDisk extends FaultyDisk {
  path = "";
  readonly #bytes: number;
  constructor(bytes: number) {
    super();
    this.#bytes = bytes;
  }
  override freeBytes(): number {
    const names = readdirSync(join(this.path, "generations"), {
      recursive: true,
      encoding: "utf8",
    });
    const sizes = names
      .map((name) => statSync(join(this.path, "generations", name)))
      .map((file) => (file.isFile() ? file.size : 0));
    return this.#bytes - sizes.reduce((sum, size) => sum + size, 0);
  }
}

/** A data directory that can be opened again, on a machine whose time passes when told. */
export function rig(disk: FaultyDisk = new FaultyDisk()) {
  const dir = tempDir("keeping");
  const machine = new FakeMachine();
  if (disk instanceof RoomyDisk) disk.path = dir.path;
  const open = () => new DataDirectory(dir.path, disk, clock, machine);
  let directory = open();
  return {
    machine,
    get directory() {
      return directory;
    },
    restart() {
      directory.close();
      directory = open();
    },
    ids: () =>
      readdirSync(dir.file("generations"))
        .map(Number)
        .toSorted((a, b) => a - b),
    /** As before format 5, which records how many keys a snapshot holds. */
    forgetKeys: () => {
      using db = new Database(dir.file("replica.db"));
      db.run("UPDATE generations SET rdb_keys = NULL, rdb_keys_db = NULL");
    },
    events: (kind: string) => {
      using db = new Database(dir.file("replica.db"), { readonly: true });
      return db
        .query<{ detail: string }, [string]>("SELECT detail FROM events WHERE kind = ?")
        .all(kind)
        .map(({ detail }) => detail);
    },
    [Symbol.dispose]: () => {
      directory.close();
      dir.remove();
    },
  };
}
