import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { reachableBytes, type Room, totalBytes } from "./figures.ts";
import type { RoomFor } from "./gate.ts";
import { Pauses } from "./pauses.ts";
import type { Pressure } from "./pressure.ts";
import { doesNotFit } from "./refusal.ts";
import type { RoomWatch } from "./watch.ts";

/** The room that one of unknown size didn't fit into is less than its size: at least this much more is waited for. */
const AT_LEAST = 9 / 8;
/** What is left free beside the snapshot and the copy of the log, for the database and the log meanwhile: at most. */
const BESIDE_BYTES = 1024 * 1024;
/** And at most this share of the room. */
const BESIDE_SHARE = 1 / 8;

export interface OversizeOptions {
  readonly directory: Pick<DataDirectory, "current" | "freeBytes">;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly room: Pick<RoomWatch, "look" | "neededBytesFor">;
  readonly pressure: Pick<Pressure, "makeRoom">;
}

/**
 * Lets no snapshot over a second link take the room that the log needs, and remembers the size of one that doesn't
 * fit, even if all old generations went: each that is asked for costs the primary a fork. It counts until another
 * generation is current, or for a pause that doubles up to an hour: the data may have shrunk.
 */
export class Oversize {
  readonly #options: OversizeOptions;
  readonly #pauses: Pauses;
  #seen: { readonly generation: number | undefined; readonly bytes: number } | undefined;

  constructor(options: OversizeOptions) {
    this.#options = options;
    this.#pauses = new Pauses(options.clock);
  }

  /** How large the next one is at the least; undefined where nothing tells, or it is to be tried again. */
  get bytes(): number | undefined {
    const isOfCurrent = this.#seen?.generation === this.#options.directory.current?.id;
    return isOfCurrent && !this.#pauses.isOver ? this.#seen?.bytes : undefined;
  }

  /**
   * One of known size is granted: makes room for it.
   * @param missedBytes how much of the stream came since it was taken; its log begins with a copy of that.
   * @throws ReplicaError DISK_FULL where it can't fit; nothing has given way to it then. DISK_FAILED.
   */
  async admit(bytes: number, missedBytes: number): Promise<void> {
    const { room, pressure } = this.#options;
    const look = room.look();
    const available = Math.max(look.freeBytes, reachableBytes(look));
    if (bytes + missedBytes + besideBytes(look) > available) {
      this.#lack(bytes);
      throw doesNotFit(formatBytes(bytes), available);
    }
    const why = `a new snapshot of ${formatBytes(bytes)}`;
    await pressure.makeRoom(room.neededBytesFor(bytes) + missedBytes, why, false);
  }

  /**
   * Makes room while a payload comes.
   * @param missedBytes how much of the stream has come since it was taken.
   * @param refuse gets the error once there is none.
   * @throws ReplicaError DISK_FAILED, or of the ledger.
   */
  roomFor(missedBytes: () => number, refuse: (error: ReplicaError) => void): RoomFor {
    const { room, pressure } = this.#options;
    const beside = besideBytes(room.look());
    let passedBytes = 0;
    const pass = (bytes: number) => {
      passedBytes += bytes;
      return bytes;
    };
    return (bytes, queuedBytes) => {
      const taken = () => queuedBytes() + missedBytes() + beside;
      if (this.#freeBytes - taken() >= bytes) return pass(bytes);
      return pressure.makeRoom(bytes + taken(), "a new snapshot", false).then(() => {
        const freeBytes = this.#freeBytes;
        const has = Math.min(bytes, freeBytes - taken());
        if (has > 0) return pass(has);
        const roomBytes = passedBytes + Math.max(0, freeBytes);
        this.#lack(AT_LEAST * roomBytes);
        refuse(doesNotFit(`more than ${formatBytes(passedBytes)}`, roomBytes));
        return 0;
      });
    };
  }

  get #freeBytes(): number {
    try {
      return this.#options.directory.freeBytes;
    } catch (error) {
      // The write that follows tells it.
      if (error instanceof ReplicaError) return Infinity;
      throw error;
    }
  }

  #lack(bytes: number): void {
    this.#seen = { generation: this.#options.directory.current?.id, bytes };
    this.#pauses.begin();
  }

  /** One that fits is current. */
  succeeded(): void {
    this.#pauses.reset();
  }
}

function besideBytes(room: Room): number {
  return Math.min(BESIDE_BYTES, BESIDE_SHARE * totalBytes(room));
}
