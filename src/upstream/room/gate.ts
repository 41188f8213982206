/** What the first bytes of a payload get room for: before they came, a primary has only announced something. */
export const FIRST_BYTES = 1024 * 1024;
/** Room is looked for again after so many bytes at most: something else may take it meanwhile. */
const MOST_BYTES = 64 * 1024 * 1024;

/**
 * Makes room for the next bytes of a payload.
 * @param queuedBytes how many were taken before and are not on the disk yet.
 * @returns for how many of them there is room; at most `bytes`, and 0 or less where there is none. At once where
 * nothing has to give way. It never rejects.
 */
export type RoomFor = (bytes: number, queuedBytes: () => number) => number | Promise<number>;

export interface RoomGateOptions {
  /** The payload's size; undefined where the primary doesn't know it yet. */
  readonly totalBytes: number | undefined;
  readonly roomFor: RoomFor;
  /** What the payload goes to. */
  readonly writer: { write(bytes: Uint8Array): void; readonly queuedBytes: number };
  /** Called after bytes that were held have gone on. */
  readonly onRoom: () => void;
}

/**
 * Lets a payload through to its writer while there is room for it, and holds it while room is being made. Never is
 * more asked for than what is still to come, or than as much again as has come: what a primary merely announces
 * costs no history. Where no room can be made, the bytes go on, and the disk says so.
 */
export class RoomGate {
  readonly #options: RoomGateOptions;
  #passedBytes = 0;
  /** So many may pass before room is looked for again. */
  #roomBytes = 0;
  #held: Uint8Array[] = [];
  #waiting: Promise<void> | undefined;
  readonly #givenUp = Promise.withResolvers<void>();
  #isGivenUp = false;

  constructor(options: RoomGateOptions) {
    this.#options = options;
  }

  /** True while room is being made: the link should pause. */
  get isWaiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Takes the next bytes. */
  pass(bytes: Uint8Array): void {
    this.#held.push(bytes);
    if (!this.isWaiting) this.#drain();
  }

  #drain(): void {
    const { roomFor, writer } = this.#options;
    for (let bytes = this.#held[0]; bytes !== undefined; bytes = this.#held[0]) {
      if (this.#roomBytes < bytes.length) {
        const room = roomFor(this.#nextBytes(bytes.length), () => writer.queuedBytes);
        if (room instanceof Promise) {
          this.#waiting = room.then((made) => this.#goOn(made));
          return;
        }
        this.#roomBytes = granted(room);
      }
      this.#passHeld();
    }
  }

  #goOn(roomBytes: number): void {
    this.#waiting = undefined;
    this.#roomBytes = granted(roomBytes);
    this.#passHeld();
    this.#drain();
    this.#options.onRoom();
  }

  #passHeld(): void {
    const bytes = this.#held.shift();
    if (bytes === undefined) return; // given up meanwhile
    this.#passedBytes += bytes.length;
    this.#roomBytes -= bytes.length;
    this.#options.writer.write(bytes);
  }

  /** How many bytes room is made for, of which `leastBytes` are there. */
  #nextBytes(leastBytes: number): number {
    const { totalBytes = Infinity } = this.#options;
    const piece = Math.min(Math.max(this.#passedBytes, FIRST_BYTES), MOST_BYTES);
    return Math.max(leastBytes, Math.min(piece, totalBytes - this.#passedBytes));
  }

  /** Resolves once all that was taken has gone on, or was given up. */
  async settled(): Promise<void> {
    while (this.#waiting !== undefined && !this.#isGivenUp)
      await Promise.race([this.#waiting, this.#givenUp.promise]);
  }

  /** Nothing that is held goes on. */
  giveUp(): void {
    this.#held = [];
    this.#isGivenUp = true;
    this.#givenUp.resolve();
  }
}

/** Where there is none, the disk is to say so. */
function granted(roomBytes: number): number {
  return roomBytes > 0 ? roomBytes : FIRST_BYTES;
}
