import { ReplicaError } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import { giveBack } from "../../store/disk/disk.ts";
import { HEAD_BYTES } from "./log-filter.ts";

/** Room for what follows the word that is known to come: a value is most often the last one. */
const SPARE_BYTES = HEAD_BYTES;

/**
 * Gathers a command that lies in more than one block. It is dropped as soon as its beginning tells that it isn't wanted: so
 * a value of 512 MB of another key takes no memory.
 */
export class CutCommand {
  #room = new Uint8Array(0);
  #bytes = 0;
  #state: "none" | "gathering" | "dropped" = "none";
  /** Whether its beginning was looked at as far as that is looked at. */
  #isDecided = false;

  /**
   * Adds what a block holds of the command that isn't whole.
   * @param missingBytes how many bytes are known to follow.
   * @param mayWant asked with its beginning, until that has HEAD_BYTES.
   * @throws ReplicaError BAD_FRAME where it has more bytes than are held of one command.
   */
  add(part: Uint8Array, missingBytes: number, mayWant: (beginning: Uint8Array) => boolean): void {
    if (this.#state === "dropped") return;
    if (this.#state === "none") this.#begin();
    // Before it is decided, a length that was made up must take no memory.
    this.#append(part, this.#isDecided ? missingBytes : 0);
    if (this.#isDecided) return;
    const beginning = this.#room.subarray(0, Math.min(this.#bytes, HEAD_BYTES));
    this.#isDecided = beginning.length === HEAD_BYTES;
    if (mayWant(beginning)) return;
    this.#state = "dropped";
    this.#room = new Uint8Array(0);
  }

  /**
   * Ends the command with what the block holds of it.
   * @returns its bytes, which are the caller's; undefined where it was dropped.
   * @throws ReplicaError as `add`.
   */
  finish(block: Uint8Array, end: number): Uint8Array | undefined {
    const isDropped = this.#state === "dropped";
    if (!isDropped) this.#append(block.subarray(0, end), 0);
    this.#state = "none";
    const whole = this.#room.subarray(0, this.#bytes);
    this.#room = new Uint8Array(0);
    return isDropped ? undefined : whole;
  }

  #begin(): void {
    this.#state = "gathering";
    this.#bytes = 0;
    this.#isDecided = false;
  }

  #append(part: Uint8Array, missingBytes: number): void {
    const bytes = this.#bytes + part.length;
    if (bytes + missingBytes > limits.wholeCommandBytes) {
      throw new ReplicaError("BAD_FRAME", {
        retry: "never",
        message: `a command of the log has more than ${limits.wholeCommandBytes} bytes, too many to be shown: leave it out with --key or --command`,
      });
    }
    if (bytes > this.#room.length) this.#grow(bytes, missingBytes);
    this.#room.set(part, this.#bytes);
    this.#bytes = bytes;
  }

  #grow(bytes: number, missingBytes: number): void {
    const room = Math.max(bytes + missingBytes, Math.min(2 * bytes, bytes + GROWTH_BYTES));
    const larger = new Uint8Array(Math.min(room + SPARE_BYTES, limits.wholeCommandBytes));
    larger.set(this.#room.subarray(0, this.#bytes));
    giveBack(this.#room);
    this.#room = larger;
  }
}

/** A command of many short words grows by so much at a time. */
const GROWTH_BYTES = 64 * 1024 * 1024;
