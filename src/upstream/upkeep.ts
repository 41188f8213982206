import { Admission } from "./room/admission.ts";
import { Pressure } from "./room/pressure.ts";
import { RoomWatch } from "./room/watch.ts";
import { Renewal, type RenewalOptions } from "./renewal.ts";
import { Retention } from "./retention.ts";

export type UpkeepOptions = Omit<RenewalOptions, "room" | "pressure">;

/** What is done beside following so that a data directory stays small enough: renewals, retention, and room for both. */
export class Upkeep {
  /** Takes new generations while the current one is followed. */
  readonly renewal: Renewal;
  readonly retention: Retention;
  readonly room: RoomWatch;
  readonly pressure: Pressure;
  /** Full resyncs that fit. */
  readonly admission: Admission;

  readonly #options: UpkeepOptions;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    const { directory, clock, settings, keeper } = options;
    this.retention = new Retention({ directory, clock, settings });
    const renewals = () => this.renewal;
    const room = (this.room = new RoomWatch({
      directory,
      clock,
      settings,
      logBytes: () => keeper.log?.fileBytes ?? 0,
      streamBytes: () => keeper.receivedBytes.stream,
      renewalFailure: () => renewals().failure,
      renewalTook: () => renewals().took,
    }));
    const pressure = (this.pressure = new Pressure({ directory, room, clock }));
    this.admission = new Admission({ directory, clock, settings, room, pressure });
    this.renewal = new Renewal({ ...options, room, pressure });
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
    // A full resync has room made for itself as it comes.
    if (!this.#options.keeper.isReceiving) this.pressure.tick();
  }

  /** Resolves once nothing is being removed. */
  async stop(): Promise<void> {
    await this.retention.stop();
    await this.pressure.stop();
  }
}
