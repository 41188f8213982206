import { limits } from "../../config/limits.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import type { Verb } from "../../resp/verbs.ts";

/** The commands of a part of a log, which begins and ends with a whole one. All bytes are those of the file. */
export interface FoundCommands {
  readonly from: number;
  /** The byte after the last whole command. */
  readonly to: number;
  readonly commands: number;
  /** The last safe cut, and the commands before it. */
  readonly safeCut: number;
  readonly safeCommands: number;
  /** Whether a transaction is open at the end. */
  readonly inTransaction: boolean;
  /** The verbs of all these commands, as far as `Verb` names them. */
  readonly verbs: ReadonlySet<Verb>;
  /** The highest database that one of them selects; 0 where none does. */
  readonly highestDb: number;
}

/** Counts the commands of a log as its bytes pass, or by what others have counted. */
export class CommandCount {
  readonly #from: number;
  readonly #checkFirst: (first: FrameScanner) => void;
  #scanner: FrameScanner;
  #commands = 0;
  #safeCut: number;
  #safeCommands = 0;
  readonly #verbs = new Set<Verb>();
  #lastVerb: Verb | undefined;
  #highestDb = 0;

  /**
   * @param from the byte of the file that is pushed first. A command begins there, outside a transaction.
   * @param checkFirst looks at the first command; throws where it isn't the right one.
   */
  constructor(from: number, checkFirst: (first: FrameScanner) => void = () => undefined) {
    this.#from = this.#safeCut = from;
    this.#checkFirst = checkFirst;
    this.#scanner = new FrameScanner({ limits: limits.frame, fromByte: from });
  }

  /** Takes the next bytes, and keeps no view of them. @throws FrameError; what `checkFirst` throws. */
  push(bytes: Uint8Array): void {
    const scanner = this.#scanner;
    scanner.push(bytes);
    while (scanner.next()) {
      if (this.#commands === 0) this.#checkFirst(scanner);
      this.#commands++;
      // Most commands have the verb of the one before: don't ask the set.
      if (scanner.verb !== this.#lastVerb) {
        this.#lastVerb = scanner.verb;
        if (scanner.verb !== undefined) this.#verbs.add(scanner.verb);
      }
      if (scanner.verb === "SELECT") this.#highestDb = Math.max(this.#highestDb, scanner.db);
      if (scanner.lastSafeCut !== scanner.end) continue;
      this.#safeCut = scanner.end;
      this.#safeCommands = this.#commands;
    }
  }

  /** Whether the bytes so far end with a whole command, outside a transaction. */
  get isAtSafeCut(): boolean {
    return this.#scanner.atBoundary && !this.#scanner.inTransaction;
  }

  /** Takes commands that were counted elsewhere: those that begin where this count is, at a safe cut. */
  add(found: FoundCommands): void {
    if (found.safeCommands > 0) {
      this.#safeCut = found.safeCut;
      this.#safeCommands = this.#commands + found.safeCommands;
    }
    this.#commands += found.commands;
    for (const verb of found.verbs) this.#verbs.add(verb);
    this.#highestDb = Math.max(this.#highestDb, found.highestDb);
    this.#scanner = new FrameScanner({
      limits: limits.frame,
      fromByte: found.to,
      inTransaction: found.inTransaction,
    });
  }

  /** What was counted so far. */
  get found(): FoundCommands {
    return {
      from: this.#from,
      to: this.#scanner.end,
      commands: this.#commands,
      safeCut: this.#safeCut,
      safeCommands: this.#safeCommands,
      inTransaction: this.#scanner.inTransaction,
      verbs: this.#verbs,
      highestDb: this.#highestDb,
    };
  }
}
