import { ReplicaError, usageError } from "../base/errors.ts";
import type { RdbStream } from "./api/read.d.ts";

/**
 * The chunks of a stream that a program gives. The signal also ends a wait for a chunk that doesn't come.
 * @throws ReplicaError USAGE for a chunk that isn't bytes, DISK_FAILED where the stream itself fails; the signal's reason.
 */
export async function* chunksOf(
  given: RdbStream,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = iteratorOf(given);
  let isHeld = false;
  try {
    for (;;) {
      const next = await nextOf(chunks, signal);
      if (next.done === true) return;
      if (!(next.value instanceof Uint8Array))
        throw usageError(`the stream gives a ${typeof next.value}: it has to give Uint8Arrays`);
      isHeld = true;
      yield next.value;
      isHeld = false;
    }
  } finally {
    const closing = close(chunks);
    // While it waits for a chunk, it may never close.
    if (isHeld) await closing;
  }
}

/** The iterator of a ReadableStream can't be closed while it waits for a chunk; its reader can. */
function iteratorOf(given: RdbStream): AsyncIterator<Uint8Array> {
  if (!(given instanceof ReadableStream)) return given[Symbol.asyncIterator]();
  if (given.locked) throw usageError("the stream is locked: somebody else reads it");
  const reader = (given as ReadableStream<Uint8Array>).getReader();
  return {
    next: async () => {
      const { done, value } = await reader.read();
      return done ? { done, value: undefined } : { done, value };
    },
    return: async () => {
      await reader.cancel();
      return { done: true, value: undefined };
    },
  };
}

async function close(chunks: AsyncIterator<Uint8Array>): Promise<void> {
  try {
    await chunks.return?.();
  } catch {
    // What was wanted of it is here, or the error that ended it is thrown.
  }
}

async function nextOf(
  chunks: AsyncIterator<Uint8Array>,
  signal: AbortSignal,
): Promise<IteratorResult<Uint8Array>> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<Uint8Array>>();
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  chunks.next().then(resolve, (cause: unknown) => reject(failureOf(cause)));
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function failureOf(cause: unknown): ReplicaError {
  if (cause instanceof ReplicaError) return cause;
  const what = cause instanceof Error ? cause.message || cause.name : String(cause);
  const message = `reading the stream failed: ${what}`;
  return new ReplicaError("DISK_FAILED", { retry: "never", message, cause });
}
