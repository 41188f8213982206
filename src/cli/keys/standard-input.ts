import { read } from "node:fs";
import { isatty } from "node:tty";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { damageError } from "../../store/restore/damage.ts";
import { countedSoFar, type SnapshotSource } from "./snapshot-source.ts";

const STDIN = 0;
/** A pipe holds 64 KiB unless it was made larger; a file gives as much as it is asked for. */
const READ_BYTES = 1024 * 1024;
/** Somebody else has made the pipe one that doesn't wait. */
const AGAIN_MS = 5;

const NAME = "standard input";

/** An RDB that comes over standard input. @throws ReplicaError USAGE where that is a terminal. */
export function standardInput(): SnapshotSource {
  if (isatty(STDIN)) {
    throw usageError(
      `${NAME} is a terminal: pipe an RDB into it, as in "zstd -dc dump.rdb.zst | replica keys -", or name a file`,
    );
  }
  return {
    place: NAME,
    generation: undefined,
    offset: undefined,
    logBytes: undefined,
    atMs: undefined,
    rdbBytes: undefined,
    read: async (onBytes, signal) => {
      const buffer = new Uint8Array(READ_BYTES);
      for (;;) {
        const bytes = await readSome(buffer, signal);
        if (bytes === 0) return;
        onBytes(buffer.subarray(0, bytes));
      }
    },
    complaint: () => undefined,
    damaged: (what, keys) =>
      damageError({ file: NAME, byte: undefined, what, meaning: countedSoFar(keys) }),
  };
}

/** @returns 0 at the end. A read that waits when the signal aborts is left behind: the process ends. */
async function readSome(buffer: Uint8Array, signal: AbortSignal): Promise<number> {
  for (;;) {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<number | "again">();
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    read(STDIN, buffer, 0, buffer.length, null, (cause, bytes) => {
      if (cause === null) resolve(bytes);
      else if (cause.code === "EAGAIN") resolve("again");
      else reject(unreadable(cause));
    });
    try {
      const found = await promise;
      if (found !== "again") return found;
    } finally {
      signal.removeEventListener("abort", stop);
    }
    await Bun.sleep(AGAIN_MS);
  }
}

function unreadable(cause: NodeJS.ErrnoException): ReplicaError {
  if (cause.code === "EBADF" || cause.code === "EISDIR")
    return usageError(`${NAME} can't be read (${cause.code}): pipe an RDB into it`, cause);
  return new ReplicaError("DISK_FAILED", {
    retry: "never",
    message: `reading ${NAME} failed: ${cause.message}`,
    cause,
  });
}
