import { ReplicaError } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import type { Verb } from "../../resp/verbs.ts";
import { type Disk, giveBack } from "../disk/disk.ts";
import { ReadFile } from "../disk/blocks.ts";

const DEFAULT_BLOCK_BYTES = 1024 * 1024;
/** How much of a command that lies in more than one block is read to decide about it: a verb and a key of usual size. */
const HEAD_BYTES = 64 * 1024;

/** A part of a log, which begins and ends with a whole command. */
export interface LogPart {
  readonly disk: Disk;
  readonly path: string;
  /** Bytes of the file. */
  readonly from: number;
  readonly to: number;
  /** The database that is selected at `from`. Default: 0. */
  readonly db?: number;
  /** Whether a transaction is open there. Default: none. */
  readonly inTransaction?: boolean;
  readonly signal: AbortSignal;
  /** The size of one read. Default: 1 MiB. */
  readonly blockBytes?: number;
  /** Called with the byte up to which all commands were passed on. */
  readonly onProgress?: (byte: number) => void;
}

/** A command of a log: where it begins and ends in the file, and the database it works in. */
export interface LogCommand {
  readonly start: number;
  readonly end: number;
  readonly verb: Verb | undefined;
  readonly db: number;
  /** Whether a transaction is open behind it. */
  readonly inTransaction: boolean;
}

/** More of the command is needed to decide about it. */
export const MORE = Symbol("more");

/** A command to decide about, as a part of some bytes: most aren't wanted, and no view is made of those. */
export interface SeenCommand {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
  readonly verb: Verb | undefined;
  /** Whether all of it is there, or only its beginning. */
  readonly isWhole: boolean;
}

/** The bytes of a command, as a view. */
export function bytesOf({ bytes, from, to }: SeenCommand): Uint8Array {
  return bytes.subarray(from, to);
}

/** What is chosen of a log. */
export interface Choice<T> {
  /** Whether a command of this verb may be wanted; only then is it looked at. */
  readonly concerns: (verb: Verb | undefined) => boolean;
  /** Returns what is to be passed on of a command, undefined to skip it; MORE where not all of it is there, to get all. */
  readonly look: (seen: SeenCommand) => T | undefined | typeof MORE;
  /** Whether all bytes of what is chosen are wanted, too. */
  readonly withBytes: boolean;
}

export interface Chosen<T> {
  readonly command: LogCommand;
  readonly value: T;
  /** The whole command where that was asked for. A view, gone once the next command is asked for. */
  readonly bytes: Uint8Array;
}

/**
 * Reads a part of a log and passes on what is chosen of it, in order. It holds one block and at most one command, which
 * is read anew from the file where a block holds only a part of it.
 * @throws ReplicaError BAD_FRAME for a damaged log or one that ends before `to`; DISK_FAILED; the signal's reason.
 */
export async function* chosenCommands<T>(
  part: LogPart,
  choice: Choice<T>,
): AsyncGenerator<Chosen<T>> {
  const { path, from, to, signal, blockBytes = DEFAULT_BLOCK_BYTES } = part;
  const scanner = new FrameScanner({
    limits: limits.frame,
    fromByte: from,
    inTransaction: part.inTransaction ?? false,
  });
  using file = new ReadFile(part.disk, path);
  let db = part.db ?? 0;
  const buffer: Uint8Array = new Uint8Array(Math.min(blockBytes, to - from));
  // One for all: millions are looked at.
  const seen = {
    bytes: buffer,
    from: 0,
    to: 0,
    verb: undefined as Verb | undefined,
    isWhole: true,
  };
  for (let at = from; at < to;) {
    const block = await file.read(buffer.subarray(0, to - at), at);
    signal.throwIfAborted();
    scanner.push(block);
    while (scanner.next()) {
      const { start, end, verb } = scanner;
      if (verb === "SELECT") db = scanner.db;
      if (!choice.concerns(verb)) continue;
      if (start >= at) {
        seen.bytes = block;
        seen.from = start - at;
        seen.to = end - at;
        seen.verb = verb;
        const value = choice.look(seen);
        if (value !== undefined && value !== MORE) {
          yield { command: found(scanner, db), value, bytes: bytesOf(seen) };
        }
      } else {
        const headBytes = Math.min(HEAD_BYTES, blockBytes);
        const chosen = await chooseLong(file, found(scanner, db), choice, headBytes);
        if (chosen === undefined) continue;
        yield chosen;
        // Of two of 512 MB, one after the other, only one is held.
        giveBack(chosen.bytes);
      }
    }
    at += block.length;
    part.onProgress?.(at);
  }
  if (scanner.atBoundary) return;
  throw new ReplicaError("BAD_FRAME", {
    retry: "never",
    message: `${path}: byte ${to} is not the end of a command`,
  });
}

/** What the scanner stands at. Most commands aren't chosen, and for those nothing is made. */
function found({ start, end, verb, inTransaction }: FrameScanner, db: number): LogCommand {
  return { start, end, verb, db, inTransaction };
}

async function chooseLong<T>(
  file: ReadFile,
  command: LogCommand,
  { look, withBytes }: Choice<T>,
  headBytes: number,
): Promise<Chosen<T> | undefined> {
  const { start, end, verb } = command;
  const head = await file.read(new Uint8Array(Math.min(headBytes, end - start)), start);
  const isWhole = head.length === end - start;
  let value = look({ bytes: head, from: 0, to: head.length, verb, isWhole });
  if (value === undefined) return undefined;
  if (isWhole || (value !== MORE && !withBytes)) {
    return value === MORE ? undefined : { command, value, bytes: head };
  }
  if (end - start > limits.wholeCommandBytes) throw tooLong(command);
  const bytes = await file.read(new Uint8Array(end - start), start);
  if (value === MORE) value = look({ bytes, from: 0, to: bytes.length, verb, isWhole: true });
  return value === undefined || value === MORE ? undefined : { command, value, bytes };
}

function tooLong({ start, end }: LogCommand): ReplicaError {
  return new ReplicaError("BAD_FRAME", {
    retry: "never",
    message: `the command at byte ${start} of the log has ${end - start} bytes, too many to be read as a whole`,
  });
}
