import { Crc64 } from "../../rdb/crc64.ts";
import { encodeChecksum, encodeRdbHead, encodeSelect, RDB_END } from "../../rdb/encode.ts";
import type { RdbHeader } from "../../rdb/header.ts";
import type { EntrySource, FoundEntry } from "./entry-source.ts";
import type { GatheringFile } from "../needs/gathering-file.ts";

/** The first version whose end has a checksum. What is written in an older one is the same in this one. */
const LEAST_VERSION = 5;
/** What is said of the server that made the values; the rest speaks of other keys, or of another stream. */
const KEPT_AUX = ["redis-ver", "valkey-ver", "redis-bits", "ctime", "used-mem"];

/** Writes an RDB into a file, entry by entry. The caller finishes the file. */
export class RdbFile {
  readonly #file: GatheringFile;
  readonly #crc = new Crc64();
  #db: number | undefined;
  readonly #pass = async (bytes: Uint8Array) => await this.#write(bytes);
  /** How many keys it holds. */
  keys = 0;

  private constructor(file: GatheringFile) {
    this.#file = file;
  }

  /** @param header of the RDB that the values come from: they are only valid in this format. */
  static async begin(
    file: GatheringFile,
    { magic, version, aux }: Pick<RdbHeader, "magic" | "version" | "aux">,
  ): Promise<RdbFile> {
    const rdb = new RdbFile(file);
    const kept = [...aux].filter(([name]) => KEPT_AUX.includes(name));
    await rdb.#write(encodeRdbHead({ magic, version: Math.max(version, LEAST_VERSION) }, kept));
    return rdb;
  }

  /** Adds a key byte by byte, as it stands in another RDB of the same format. */
  async copy(source: EntrySource, found: FoundEntry): Promise<void> {
    if (found.db !== this.#db) await this.#write(encodeSelect(found.db));
    this.#db = found.db;
    this.keys++;
    await source.pass(found, this.#pass);
  }

  /** Writes the end. */
  async end(): Promise<void> {
    await this.#write(RDB_END);
    await this.#file.write(encodeChecksum(this.#crc.value));
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#crc.update(bytes);
    await this.#file.write(bytes);
  }
}
