import type { ReplicaError } from "../base/errors.ts";
import type { Position } from "../base/history.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import { usedMemoryIn } from "../store/generation/snapshot-keys.ts";
import { Demand } from "./demand.ts";
import { type Followed, OtherPrimary } from "./history/other-primary.ts";
import type { Locator } from "./link/locator.ts";
import { Admission } from "./room/admission.ts";
import { ExpectedSize } from "./room/expected-size.ts";
import { FullLog } from "./room/full-log.ts";
import type { RoomFor } from "./room/gate.ts";
import { Pressure } from "./room/pressure.ts";
import { SnapshotForm } from "./rdb-for.ts";
import { RoomWatch } from "./room/watch.ts";
import { Renewal, type RenewalOptions } from "./renewal.ts";
import { Retention } from "./retention.ts";

export interface UpkeepOptions extends Omit<RenewalOptions, "room" | "pressure"> {
  readonly primary: Pick<Locator, "refuseFull" | "snapshotTurn" | "hasTurns"> & Followed;
}

/** What is done beside following so that a data directory stays small enough: renewals, retention, and room for both. */
export class Upkeep {
  /** Takes new generations while the current one is followed. */
  readonly renewal: Renewal;
  readonly retention: Retention;
  readonly room: RoomWatch;
  readonly pressure: Pressure;
  /** Full resyncs that fit. */
  readonly admission: Admission;
  /** Full resyncs that end a log which fills the disk. */
  readonly fullLog: FullLog;
  /** Renewals that downstreams ask for. */
  readonly demand: Demand;

  readonly #options: UpkeepOptions;
  readonly #otherPrimary: OtherPrimary;
  readonly #expected: ExpectedSize;
  readonly #form: SnapshotForm;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#otherPrimary = new OtherPrimary(options);
    this.#form = new SnapshotForm(options.settings);
    this.#expected = new ExpectedSize(options.directory);
    const { directory, clock, settings, keeper } = options;
    this.retention = new Retention({ directory, clock, settings });
    const renewals = () => this.renewal;
    const room = (this.room = new RoomWatch({
      directory,
      clock,
      settings,
      logBytes: () => keeper.log?.fileBytes ?? 0,
      received: () => keeper.receivedBytes,
      renewalFailure: () => renewals().failure,
      renewalLacked: () => renewals().lackedBytes,
      renewalTook: () => renewals().took,
    }));
    const pressure = (this.pressure = new Pressure({ directory, room, clock }));
    this.admission = new Admission({ directory, clock, settings, room, pressure });
    this.renewal = new Renewal({ ...options, room, pressure });
    this.demand = new Demand({ ...options, renewal: this.renewal });
    this.fullLog = new FullLog({
      directory,
      clock,
      room,
      writtenOffset: () => keeper.log?.writtenOffset,
      isRenewing: () => renewals().runningSeconds !== undefined,
    });
  }

  /**
   * Call before an attempt: see `Admission.weigh`, `SnapshotForm.weigh` and `OtherPrimary.weigh`.
   * @throws ReplicaError as those.
   */
  weigh(resume: Position | undefined, isBounded: boolean): ReturnType<Admission["weigh"]> {
    const weigh = this.admission.weigh(resume, isBounded);
    return this.#otherPrimary.weigh(this.#form.weigh(resume, weigh));
  }

  /**
   * A full resync is granted: see `Admission.admit`, `Locator.refuseFull` and `OtherPrimary.refuse`.
   * @throws ReplicaError USAGE for another primary's; DISK_FULL, DISK_FAILED; PRIMARY_REFUSED where it would not shorten
   * a log that fills the disk.
   */
  async admit(totalBytes: number | undefined, grant: FullSyncGrant): Promise<RoomFor> {
    this.#otherPrimary.refuse(grant);
    await this.#options.primary.refuseFull();
    this.fullLog.refuseOld(grant);
    return await this.admission.admit(totalBytes);
  }

  /** How large the full resync that is coming in is likely to be; undefined where nothing tells. */
  expectedResyncBytes(): number | undefined {
    const { arrivingHeader: header } = this.#options.keeper;
    return this.#expected.of(header && usedMemoryIn(header), this.admission.datasetBytes);
  }

  /** The same of the snapshot of a renewal. */
  expectedRenewalBytes(): number | undefined {
    const { header } = this.renewal;
    return this.#expected.of(header && usedMemoryIn(header), undefined);
  }

  /** Another primary is followed. */
  forget(): void {
    this.admission.forget();
    this.#otherPrimary.forget();
    this.#form.forget();
    this.fullLog.forget();
  }

  /** An attempt ended in state `from`. */
  failed(error: ReplicaError, from: State): void {
    this.admission.failed(error, from);
    this.#otherPrimary.failed(error, from);
    this.#form.failed(error, from);
    this.fullLog.failed(error, from);
  }

  /** The link is up. @param isFull whether by a full resync. */
  connected(isFull: boolean): void {
    this.admission.connected(isFull);
    this.fullLog.connected(isFull);
  }

  /**
   * Once a second.
   * @param isFollowing false while no primary is followed: what is served then stays, and nothing new replaces it.
   */
  tick(isFollowing: boolean): void {
    this.room.sample();
    this.renewal.tick();
    if (!isFollowing) return;
    this.retention.tick();
    // A full resync has room made for itself as it comes; the stream beside it has not.
    const { keeper } = this.#options;
    if (!keeper.isReceiving || keeper.takesStream) this.pressure.tick();
  }

  /** Resolves once nothing is being removed. */
  async stop(): Promise<void> {
    await this.retention.stop();
    await this.pressure.stop();
  }
}
