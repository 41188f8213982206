import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { readBlocks } from "../disk/blocks.ts";
import type { Disk } from "../disk/disk.ts";
import type { Piece } from "../pieces/piece.ts";
import type { PieceCheckers } from "../pieces/piece-checkers.ts";

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  /** Called with the bytes of the file that are checked so far. */
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
}

/** What is left to the checker: it looks at the RDB's last bytes. */
const END_BYTES = 64;

/**
 * Checks a whole RDB file on several cores, as `verifyRdb` does on one.
 * @param totalBytes the file's size.
 * @returns undefined where it can't be checked so: it has an unusual head, was cut meanwhile, or no worker starts.
 * @throws ReplicaError BAD_PAYLOAD, BAD_CHECKSUM for a damaged one; DISK_FAILED; the signal's reason.
 */
export async function checkRdbInPieces(
  path: string,
  totalBytes: number,
  checkers: PieceCheckers,
  { disk, signal, onProgress }: Surroundings,
): Promise<RdbSummary | undefined> {
  const checker = new RdbChecker();
  const readHead = (block: Uint8Array) => {
    checker.push(block);
    return !checker.isHeadRead;
  };
  const endFrom = totalBytes - END_BYTES;
  const headTo = Math.min(checkers.pieceBytes, endFrom);
  const from = await readBlocks(disk, path, { from: 0, to: headTo }, readHead, signal);
  if (!checker.isHeadRead) return undefined;
  const isRead = await checkers.check(
    piecesOf(path, from, endFrom, checkers.pieceBytes),
    (piece, { bytes, crc64s }) => {
      if (bytes < piece.to - piece.from) return false;
      checker.pushSummed(crc64s[0]!, bytes);
      onProgress(path, piece.to, totalBytes);
      return true;
    },
  );
  if (!isRead) return undefined;
  const readEnd = (block: Uint8Array, fromByte: number) => {
    checker.push(block);
    onProgress(path, fromByte + block.length, totalBytes);
  };
  await readBlocks(disk, path, { from: endFrom, to: Infinity }, readEnd, signal);
  return checker.finish();
}

function* piecesOf(path: string, from: number, to: number, pieceBytes: number): Generator<Piece> {
  for (let at = from; at < to; at += pieceBytes) {
    yield { path, from: at, to: Math.min(to, at + pieceBytes), cuts: [], commandsTo: at };
  }
}
