import { FrameError } from "../../resp/frame-scanner.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import { CommandCount, type FoundCommands } from "./command-count.ts";

/** A part of a large file that is checked by itself. All positions are bytes of the file. */
export interface Piece {
  readonly path: string;
  readonly from: number;
  readonly to: number;
  /** Where the piece is cut into runs, each with a checksum of its own: ascending, between `from` and `to`. */
  readonly cuts: readonly number[];
  /** Where the search for commands ends; `from` or less: none are searched for. */
  readonly commandsTo: number;
}

export interface PieceFindings {
  /** How many bytes were read: less than the piece has where the file ends before. */
  readonly bytes: number;
  /** The CRC64 of each run, as far as the file goes. */
  readonly crc64s: BigUint64Array;
  /**
   * Commands from the first place on that looks like the beginning of one. It is a guess, since a value may
   * hold anything: they count only if the commands before them end there, outside a transaction. Undefined
   * where there is no such place.
   */
  readonly commands: FoundCommands | undefined;
}

const COMMAND_BEGINS = Buffer.from("\r\n*");
/** A value that is full of what looks like commands isn't searched to its end. */
const MAX_GUESSES = 100;

/** Checks a piece as its bytes pass, knowing nothing of what stands before it in the file. */
export class PieceCheck {
  readonly #piece: Piece;
  readonly #runEnds: readonly number[];
  readonly #crc64s: BigUint64Array;
  #run = 0;
  #crc = new Crc64();
  /** The byte of the file that is pushed next. */
  #at: number;
  #count: CommandCount | undefined;
  #guesses = 0;

  constructor(piece: Piece) {
    this.#piece = piece;
    this.#runEnds = [...piece.cuts, piece.to];
    this.#crc64s = new BigUint64Array(this.#runEnds.length);
    this.#at = piece.from;
  }

  /** Takes the piece's next bytes, no more than it has, and keeps no view of them. */
  push(bytes: Uint8Array): void {
    this.#sum(bytes);
    const searched = Math.max(0, this.#piece.commandsTo - this.#at);
    if (searched > 0) this.#search(bytes.subarray(0, searched));
    this.#at += bytes.length;
  }

  get findings(): PieceFindings {
    return {
      bytes: this.#at - this.#piece.from,
      crc64s: this.#crc64s,
      commands: this.#count?.found,
    };
  }

  #sum(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length;) {
      const to = Math.min(bytes.length, this.#runEnds[this.#run]! - this.#at);
      this.#crc.update(bytes.subarray(from, to));
      from = to;
      if (this.#at + to < this.#runEnds[this.#run]!) continue;
      this.#crc64s[this.#run++] = this.#crc.value;
      this.#crc = new Crc64();
    }
  }

  /**
   * Counts commands, and begins anew where that fails: in a transaction, after its EXEC; in a value that only
   * looked like commands, after it.
   */
  #search(bytes: Uint8Array): void {
    let from = 0;
    for (;;) {
      if (this.#count === undefined) {
        const found = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(
          COMMAND_BEGINS,
          from,
        );
        if (found === -1 || ++this.#guesses > MAX_GUESSES) return;
        from = found + COMMAND_BEGINS.length - 1;
        this.#count = new CommandCount(this.#at + from);
      }
      try {
        this.#count.push(bytes.subarray(from));
        return;
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        this.#count = undefined;
        from = Math.max(0, error.byte - this.#at) + 1;
      }
    }
  }
}
