import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { readHeader, usedMemoryIn } from "../../store/generation/snapshot-keys.ts";

/** An earlier snapshot of the same data. */
export interface EarlierSnapshot {
  readonly rdbBytes: number;
  /** The memory that the primary used when it made it. */
  readonly usedBytes: number;
}

/**
 * Estimates how large a snapshot is whose length the primary doesn't tell (`$EOF`), by the primary's own figures: as much
 * larger than an earlier one as its memory has grown, else its data in memory, of which a snapshot is rarely more.
 * @param usedBytes the memory that it used when it made this one, as the snapshot's beginning says.
 * @param datasetBytes its data in memory, as INFO says.
 * @returns undefined where none of them is known.
 */
export function expectedBytes(
  usedBytes: number | undefined,
  datasetBytes: number | undefined,
  earlier?: EarlierSnapshot,
): number | undefined {
  if (usedBytes === undefined || earlier === undefined) return datasetBytes ?? usedBytes;
  return Math.round((usedBytes * earlier.rdbBytes) / earlier.usedBytes);
}

/** The same beside what a data directory keeps. */
export class ExpectedSize {
  readonly #directory: Pick<DataDirectory, "current" | "basePath">;
  /** Of the generation that is current: its file is read once. */
  #read: { readonly id: number; readonly usedBytes: number | undefined } | undefined;

  constructor(directory: Pick<DataDirectory, "current" | "basePath">) {
    this.#directory = directory;
  }

  /** See `expectedBytes`. */
  of(usedBytes: number | undefined, datasetBytes: number | undefined): number | undefined {
    return expectedBytes(usedBytes, datasetBytes, this.#earlier);
  }

  get #earlier(): EarlierSnapshot | undefined {
    const { current } = this.#directory;
    if (current === undefined) return undefined;
    if (this.#read?.id !== current.id) {
      const header = readHeader(this.#directory.basePath(current.id));
      this.#read = { id: current.id, usedBytes: header && usedMemoryIn(header) };
    }
    const { usedBytes } = this.#read;
    return usedBytes === undefined ? undefined : { rdbBytes: current.rdbBytes, usedBytes };
  }
}
