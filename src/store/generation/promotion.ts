import { join } from "node:path";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import { type Disk, diskError, writeWhole } from "../disk/disk.ts";
import { DurableName } from "../disk/durable-name.ts";
import type { Keeping } from "../keep/keeping.ts";
import type { Removal } from "../keep/removal.ts";
import type { WorthChange } from "../ledger/keep-tables.ts";
import type { Continuation, Generation, KeptSnapshot, Ledger } from "../ledger/ledger.ts";
import type { CurrentLink } from "./current-link.ts";
import type { Holdings } from "./holdings.ts";
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
  readonly holdings: Holdings;
  /** @throws ReplicaError DIRECTORY_LOST once the data directory was moved or removed. */
  readonly refuseLost: () => void;
  /** A generation became current. Called once its row is durable, or the sync of it has failed. */
  readonly onPromoted: (promoted: Promoted) => void;
}

/** How far the log of a generation is written that took the stream beside its snapshot. */
export interface Beside {
  readonly besideTo: Offset;
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
   * folders, the link, the row. The row decides, so nothing that can fail comes after it but its own sync; a
   * start points the link where the row says.
   *
   * Until that sync is over a power cut may leave either of the two the current one, so `before` is pinned, and
   * nobody is told. A sync that fails undoes nothing: the new one is current from then on, and counts as all that
   * is committed does, once a later sync succeeds. Nothing that is removed goes before such a sync.
   * @param before the generation that is current.
   * @param meanwhile set where the stream went on: a Continuation where the new log was written from the old one, of
   * which no mark may be committed until this returns; Beside where it came beside the snapshot. Nothing may be written
   * to the new log then.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; `before` is then still current, unless the row was committed. The
   * caller opens the log of whichever is current anew: that syncs first.
   */
  async promote(
    id: number,
    kept: KeptSnapshot,
    sealReason: string,
    before: Generation | undefined,
    meanwhile: Continuation | Beside | undefined,
  ): Promise<void> {
    const { ledger, dir, removal, keeping, recovery, markClock, holdings, onPromoted } =
      this.#options;
    const isBeside = meanwhile !== undefined && "besideTo" in meanwhile;
    const continued = isBeside ? undefined : meanwhile;
    const unpin = before && removal.pin(before.id);
    let committed = undefined as { generation: Generation; worth: WorthChange } | undefined;
    try {
      if (isBeside) ledger.layEnd(id, meanwhile.besideTo, markClock.now());
      await this.#prepare(id);
      holdings.isPromoting = true;
      await ledger.durably(() => {
        const atMs = markClock.now();
        const worth = keeping.assess(kept, before);
        const { lived } = keeping;
        const promotion = { sealReason, atMs, trust: recovery.running, continued, worth, lived };
        committed = { generation: ledger.promote(id, kept, promotion), worth };
        // At once: a log that fails from here on is distrusted, whatever else is told later.
        recovery.promoted();
      });
    } catch (cause) {
      if (committed === undefined) this.#linkBack(before);
      throw diskError("keeping", join(dir, generationPath(id)), cause);
    } finally {
      holdings.isPromoting = false;
      unpin?.();
      if (committed !== undefined) {
        onPromoted({
          generation: committed.generation,
          durableOffset: continued?.durableOffset ?? kept.baseOffset,
          replicationIds: continued?.replicationIds ?? ownHistory(kept),
        });
        keeping.promoted(id, kept, committed.worth);
      }
    }
  }

  /** Everything before the row. */
  async #prepare(id: number): Promise<void> {
    const { disk, ledger, dir, link, logs, removal, refuseLost } = this.#options;
    const { manifest, manifestText } = filesOf({ id, dir: join(dir, generationPath(id)) });
    await logs.sync(id);
    // The ledger must know where the log begins before the manifest says that the folder is whole.
    await ledger.sync();
    refuseLost();
    await writeWhole(disk, manifest, new TextEncoder().encode(manifestText));
    await removal.sync();
    link.pointAt(id);
    await disk.syncDir(dir);
    await this.#name.sync();
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
