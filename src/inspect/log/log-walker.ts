import type { Offset, ReplicationId } from "../../base/history.ts";
import { limits } from "../../config/limits.ts";
import { FrameError, FrameScanner } from "../../resp/frame-scanner.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import { giveBack } from "../../store/disk/disk.ts";
import { CutCommand } from "./cut-command.ts";
import type { LogEntry, Transaction } from "./log-entry.ts";
import type { LogChooser } from "./log-filter.ts";

/** How much of a transaction is held until its EXEC: one that is larger is passed on as it comes. */
const HELD_BYTES = 16 * 1024 * 1024;

/** A command that was chosen; its time and its history are still to be found. */
export interface WalkedCommand extends LogEntry {
  atMs: number | undefined;
  replid: ReplicationId | undefined;
  /** Where it has taken effect: the end of its transaction, else its own. */
  readonly effectEnd: Offset;
}

const NOTHING = new Uint8Array(0);

type Held = Omit<LogEntry, "transaction">;

/** A transaction that is open: what was chosen of it waits for its EXEC. */
interface OpenTransaction {
  readonly offset: Offset;
  held: Held[];
  /** How many of the held ones are copies, not views of the block. */
  owned: number;
  heldBytes: number;
  /** Whether it has become too large to be held. */
  isPassedOn: boolean;
}

/**
 * Finds the commands of one generation's log, from its first byte on, however it is cut into blocks, and passes on those that
 * are chosen, in order. It holds one command that lies in several blocks, and the transaction that is open.
 */
export class LogWalker {
  readonly #chooser: LogChooser;
  readonly #scanner: FrameScanner;
  /** The offset before the log's first byte, which is that of a SELECT that the stream doesn't count. */
  readonly #zeroOffset: Offset;
  readonly #baseOffset: Offset;
  readonly #cut = new CutCommand();
  #transaction: OpenTransaction | undefined;
  /** How many bytes of the log came. */
  #bytes = 0;
  #safeOffset: Offset;
  readonly #fromOffset: Offset;

  /**
   * @param beginning.baseOffset the offset before the stream's first byte.
   * @param beginning.headerBytes the length of the SELECT before that.
   * @param fromOffset what took effect up to there isn't passed on.
   */
  constructor(
    chooser: LogChooser,
    beginning: { readonly baseOffset: Offset; readonly headerBytes: number },
    fromOffset: Offset,
  ) {
    this.#chooser = chooser;
    this.#scanner = new FrameScanner({ limits: limits.frame });
    this.#baseOffset = beginning.baseOffset;
    this.#zeroOffset = this.#safeOffset = beginning.baseOffset - beginning.headerBytes;
    this.#fromOffset = fromOffset;
  }

  /** The offset of the last byte that came. */
  get offset(): Offset {
    return this.#zeroOffset + this.#bytes;
  }

  /** The end of the last whole command outside a transaction; what follows it is still to be passed on. */
  get safeOffset(): Offset {
    return this.#safeOffset;
  }

  /**
   * Passes on what is chosen of the next block. To be asked for its last one before the next block is pushed.
   * @param block must not change meanwhile. Its bytes are in what is passed on, which therefore is gone afterwards.
   * @throws FrameError for damage, at the byte of the log where it is.
   */
  *push(block: Uint8Array): Generator<WalkedCommand> {
    const scanner = this.#scanner;
    const before = this.#bytes;
    this.#bytes += block.length;
    scanner.push(block);
    this.#chooser.begin(block);
    let isFirst = true;
    while (scanner.next()) {
      const start = scanner.start - before;
      if (start >= 0 && this.#canPassOver(start, scanner.end - before)) {
        isFirst = false;
        this.#safeOffset = this.#zeroOffset + scanner.end;
        continue;
      }
      const cut = isFirst && start < 0 ? this.#cut.finish(block, scanner.end - before) : undefined;
      isFirst = false;
      yield* this.#onCommand(block, start, cut);
    }
    this.#keepRest(block, before);
    // Whoever reads a block may free it.
    scanner.push(NOTHING);
  }

  /** Most commands aren't wanted: that must cost little. */
  #canPassOver(start: number, stop: number): boolean {
    if (this.#transaction !== undefined || this.#safeOffset < this.#baseOffset) return false;
    const { verb, db } = this.#scanner;
    if (verb === "MULTI" || verb === "EXEC" || verb === "SELECT") return false;
    if (this.#zeroOffset + this.#scanner.end <= this.#fromOffset) return true;
    return !this.#chooser.mayWant(start, stop, db);
  }

  /** @param cut the command itself where it began in an earlier block; then undefined where it isn't wanted. */
  *#onCommand(
    block: Uint8Array,
    start: number,
    cut: Uint8Array | undefined,
  ): Generator<WalkedCommand> {
    const scanner = this.#scanner;
    const { verb, db, end: endByte } = scanner;
    const end = this.#zeroOffset + endByte;
    if (endByte <= this.#baseOffset - this.#zeroOffset) {
      if (verb === "SELECT" && end === this.#baseOffset) return;
      throw new FrameError(0, "it does not begin with the SELECT that was written");
    }
    const offset = this.#zeroOffset + scanner.start;
    if (verb === "MULTI") {
      this.#transaction = { offset, held: [], owned: 0, heldBytes: 0, isPassedOn: false };
    }
    const stop = start + endByte - scanner.start;
    let bytes = cut;
    if (start >= 0 && this.#chooser.mayWant(start, stop, db)) bytes = block.subarray(start, stop);
    const isOwn = cut !== undefined;
    if (bytes !== undefined) yield* this.#onWanted(bytes, { offset, end, db, isOwn });
    // Of two of 512 MB, one after the other, only one is held.
    if (cut !== undefined && this.#transaction === undefined) giveBack(new Uint8Array(cut.buffer));
    if (verb === "EXEC") yield* this.#onExec(end);
    if (!scanner.inTransaction) this.#safeOffset = end;
  }

  *#onWanted(
    bytes: Uint8Array,
    { offset, end, db, isOwn }: { offset: Offset; end: Offset; db: number; isOwn: boolean },
  ): Generator<WalkedCommand> {
    const words = wordsOf(bytes);
    const wanted = this.#chooser.choose(words, db);
    if (wanted === undefined) return;
    const { command, keys } = wanted;
    const args = words.slice(1);
    const transaction = this.#transaction;
    const found = { offset, end, atMs: undefined, replid: undefined, db, command, keys, args };
    if (transaction === undefined) {
      if (end <= this.#fromOffset) return;
      yield { ...found, transaction, effectEnd: end };
      return;
    }
    transaction.held.push(found);
    transaction.heldBytes += bytes.length;
    if (isOwn && transaction.owned === transaction.held.length - 1) transaction.owned++;
    if (transaction.isPassedOn || transaction.heldBytes > HELD_BYTES) {
      transaction.isPassedOn = true;
      yield* passOn(transaction, undefined, this.#fromOffset);
    }
  }

  *#onExec(end: Offset): Generator<WalkedCommand> {
    const transaction = this.#transaction;
    this.#transaction = undefined;
    if (transaction !== undefined) yield* passOn(transaction, end, this.#fromOffset);
  }

  /** Keeps what goes on in the next block. */
  #keepRest(block: Uint8Array, before: number): void {
    const { db } = this.#scanner;
    const rest = this.#scanner.atBoundary ? block.length : Math.max(0, this.#scanner.end - before);
    if (rest < block.length) {
      const { missingBytes } = this.#scanner;
      this.#cut.add(block.subarray(rest), missingBytes, (beginning) =>
        this.#chooser.mayWantLong(beginning, db),
      );
    }
    const transaction = this.#transaction;
    if (transaction === undefined) return;
    // The block is gone after this.
    const { held, owned } = transaction;
    for (let at = owned; at < held.length; at++) held[at] = copyOf(held[at]!);
    transaction.owned = held.length;
  }
}

function* passOn(
  { offset, held }: OpenTransaction,
  end: Offset | undefined,
  fromOffset: Offset,
): Generator<WalkedCommand> {
  const transaction: Transaction = { offset, end };
  const commands = held.splice(0);
  for (const command of commands) {
    const effectEnd = end ?? command.end;
    if (effectEnd > fromOffset) yield { ...command, transaction, effectEnd };
  }
}

/** The same with bytes of its own. */
export function copyOf(entry: Held): Held {
  const { offset, end, atMs, replid, db, command } = entry;
  const args = entry.args.map((arg) => Uint8Array.from(arg));
  // A key is one of the words.
  const keys = entry.keys.map((key) => args[entry.args.indexOf(key)] ?? Uint8Array.from(key));
  return { offset, end, atMs, replid, db, command, keys, args };
}
