import { join } from "node:path";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import { type Disk, diskError, writeWhole } from "../disk/disk.ts";
import { DurableName } from "../disk/durable-name.ts";
import type { Keeping } from "../keep/keeping.ts";
import type { Removal } from "../keep/removal.ts";
import type { Continuation, Generation, KeptSnapshot, Ledger } from "../ledger/ledger.ts";
import type { CurrentLink } from "./current-link.ts";
import { filesOf, generationPath } from "./layout.ts";
import type { LogFiles } from "./log-files.ts";
import type { MarkClock } from "./mark-clock.ts";
import type { Recovery } from "./recovery.ts";

export interface PromoterOptions {
  readonly disk: Disk;
  readonly ledger: Ledger;
  /** The data directory. */
  readonly dir: string;
  readonly link: CurrentLink;
  readonly logs: LogFiles;
  readonly recovery: Recovery;
  readonly removal: Removal;
  readonly keeping: Keeping;
  readonly markClock: MarkClock;
  /** @throws ReplicaError DIRECTORY_LOST once the data directory was moved or removed. */
  readonly refuseLost: () => void;
  /** A generation became current. Called in the same turn as its row is committed. */
  readonly onPromoted: (promoted: Promoted) => void;
}

/** A generation that has just become current: how far its log is durable, and the histories of its stream. */
export interface Promoted {
  readonly generation: Generation;
  readonly durableOffset: Offset;
  readonly replicationIds: readonly ReplicationIdFrom[];
}

function ownHistory({ replid, baseOffset }: KeptSnapshot): readonly ReplicationIdFrom[] {
  return replid === undefined ? [] : [{ replid, fromOffset: baseOffset }];
}

/** Makes generations current. */
export class Promoter {
  readonly #options: PromoterOptions;
  readonly #name: DurableName;

  constructor(options: PromoterOptions) {
    this.#options = options;
    this.#name = new DurableName(options.disk, options.dir);
  }

  /**
   * Makes a generation current whose snapshot is verified, durable and named. In this order, so that a
   * power cut at any moment leaves the old or the new one whole: the log's header, the manifest, the
   * folders, the link, the row. The row decides, so nothing that can fail comes after it; a start points
   * the link where the row says.
   * @param before the generation that is current.
   * @param continued set where the new log was written from the old one: no mark of that one may be
   * committed until this returns.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; `before` is then still current.
   */
  async promote(
    id: number,
    kept: KeptSnapshot,
    sealReason: string,
    before: Generation | undefined,
    continued: Continuation | undefined,
  ): Promise<void> {
    const { disk, ledger, dir, link, logs, recovery, removal, keeping, refuseLost } = this.#options;
    const folder = join(dir, generationPath(id));
    const { manifest, manifestText } = filesOf({ id, dir: folder });
    try {
      await logs.sync(id);
      // The ledger must know where the log begins before the manifest says that the folder is whole.
      await ledger.sync();
      refuseLost();
      await writeWhole(disk, manifest, new TextEncoder().encode(manifestText));
      await removal.sync();
      link.pointAt(id);
      await disk.syncDir(dir);
      await this.#name.sync();
      const atMs = this.#options.markClock.now();
      const { running: trust } = recovery;
      const worth = keeping.assess(kept, before);
      const { lived } = keeping;
      const promotion = { sealReason, atMs, trust, continued, worth, lived };
      const generation = ledger.promote(id, kept, promotion);
      // Without an await between: no one may take the generation before for the current one any more.
      this.#options.onPromoted({
        generation,
        durableOffset: continued?.durableOffset ?? kept.baseOffset,
        replicationIds: continued?.replicationIds ?? ownHistory(kept),
      });
      keeping.promoted(id, kept, worth);
    } catch (cause) {
      this.#linkBack(before);
      throw diskError("keeping", folder, cause);
    }
  }

  /** Where this fails too, the next start does it. */
  #linkBack(before: Generation | undefined): void {
    try {
      this.#options.refuseLost();
      this.#options.link.pointAt(before?.id);
    } catch {
      // The first failure is the one to report.
    }
  }
}
