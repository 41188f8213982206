import { logger } from "../base/logger.ts";
import type { Disk } from "../store/disk/disk.ts";
import { findSafeCut } from "../store/restore/safe-cut.ts";
import { EndedStream, type EndedStreamOptions } from "./streams.ts";
import type { StreamEnd } from "../store/generation/layout.ts";

export interface OfflineOptions extends EndedStreamOptions {
  readonly disk: Disk;
}

/** Serves what the data directory holds while no primary is followed. */
export class Offline {
  readonly #options: OfflineOptions;
  #until: StreamEnd | undefined;
  #unpin: () => void = () => undefined;
  #stream: EndedStream | undefined;

  constructor(options: OfflineOptions) {
    this.#options = options;
  }

  /** Where to stop serving, until a primary is followed; undefined to serve everything. */
  set until(until: StreamEnd | undefined) {
    this.#unpin();
    this.#until = until;
    const { directory } = this.#options;
    this.#unpin = until === undefined ? () => undefined : directory.pin(until.generation);
  }

  /** Undefined until `begin` has found the last safe cut. */
  get stream(): EndedStream | undefined {
    return this.#stream;
  }

  /**
   * Finds the last safe cut and begins to serve up to there. Serves nothing where the directory
   * is empty.
   * @throws ReplicaError DIRECTORY_DAMAGED, DISK_FAILED; the signal's reason.
   */
  async begin(signal: AbortSignal): Promise<void> {
    const { directory, disk } = this.#options;
    const until = this.#until ?? directory.end;
    if (until === undefined) return;
    logger.info(
      `looking for the last whole command of generation ${until.generation} up to offset ${until.offset}`,
    );
    const { generation, offset } = await findSafeCut(directory.path, until, disk, signal);
    signal.throwIfAborted();
    const stream = new EndedStream(this.#options, generation, offset);
    this.#stream = stream;
    logger.info(
      `serving generation ${generation} up to offset ${offset} without a primary; a new history begins there`,
      { replid: stream.replid, second_replid: stream.second },
    );
  }

  /** Stops serving: a primary is followed again, or the log has changed. */
  end(): void {
    this.#stream = undefined;
  }
}
