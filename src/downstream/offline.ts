import { logger } from "../base/logger.ts";
import type { Disk } from "../store/disk/disk.ts";
import { wholeEnd } from "../store/restore/safe-cut.ts";
import { EndedStream, type EndedStreamOptions } from "./streams.ts";
import type { StreamEnd } from "../store/generation/layout.ts";

export interface OfflineOptions extends EndedStreamOptions {
  readonly disk: Disk;
}

/** Serves what is kept while no primary is followed. */
export class Offline {
  readonly #options: OfflineOptions;
  #until: StreamEnd | undefined;
  #unpin: () => void = () => undefined;
  #stream: EndedStream | undefined;

  constructor(options: OfflineOptions) {
    this.#options = options;
  }

  /** Serves no more than this, until a primary is followed; undefined: all that is kept. */
  set until(until: StreamEnd | undefined) {
    this.#unpin();
    this.#until = until;
    const { directory } = this.#options;
    this.#unpin = until === undefined ? () => undefined : directory.pin(until.generation);
  }

  /** Undefined until it is known where the last whole command ends. */
  get stream(): EndedStream | undefined {
    return this.#stream;
  }

  /**
   * Looks for the end, and serves up to there from then on; nothing where nothing is kept.
   * @throws ReplicaError DIRECTORY_DAMAGED, DISK_FAILED; the signal's reason.
   */
  async begin(signal: AbortSignal): Promise<void> {
    const { directory, disk } = this.#options;
    const until = this.#until ?? directory.end;
    if (until === undefined) return;
    logger.info(
      `looking for the last whole command of generation ${until.generation} up to offset ${until.offset}`,
    );
    const { generation, offset } = await wholeEnd(directory.path, until, disk, signal);
    signal.throwIfAborted();
    const stream = new EndedStream(this.#options, generation, offset);
    this.#stream = stream;
    logger.info(
      `serving generation ${generation} up to offset ${offset}, without a primary, in a history of its own from there on`,
      { replid: stream.replid, second_replid: stream.second },
    );
  }

  /** A primary is followed again, or the end is no longer what it was. */
  end(): void {
    this.#stream = undefined;
  }
}
