import * as fs from "node:fs";
import { parentPort } from "node:worker_threads";
import { ReplicaError } from "../../base/errors.ts";
import { diskError, openToRead } from "../disk/disk.ts";
import { PieceCheck, type Piece, type PieceFindings } from "./piece.ts";

/** What a worker answers to each piece. */
export type PieceAnswer =
  | { readonly findings: PieceFindings }
  /** The message of a DISK_FAILED: an error loses its code on the way from one thread to the other. */
  | { readonly failure: string };

/** The only buffer: small enough to be still in the core's own cache when it is checked. */
const block = new Uint8Array(256 * 1024);

/** Opens, reads or closes. @throws ReplicaError DISK_FAILED. */
function onDisk<T>(call: () => T, path: string, byte: number): T {
  try {
    return call();
  } catch (cause) {
    throw diskError(`reading byte ${byte} of`, path, cause);
  }
}

function findingsOf(piece: Piece): PieceFindings {
  const { path, from, to } = piece;
  const check = new PieceCheck(piece);
  const fd = onDisk(() => openToRead(path), path, from);
  try {
    for (let at = from; at < to;) {
      const wanted = Math.min(block.length, to - at);
      const bytes = onDisk(() => fs.readSync(fd, block, 0, wanted, at), path, at);
      if (bytes === 0) break;
      check.push(block.subarray(0, bytes));
      at += bytes;
    }
  } finally {
    fs.closeSync(fd);
  }
  return check.findings;
}

function answer(piece: Piece): PieceAnswer {
  try {
    return { findings: findingsOf(piece) };
  } catch (error) {
    if (error instanceof ReplicaError) return { failure: error.message };
    throw error;
  }
}

parentPort?.on("message", (piece: Piece) => parentPort?.postMessage(answer(piece)));
