import type { Stoppable } from "./api/common.d.ts";
import { ReplicaError, usageError } from "../base/errors.ts";

/**
 * Does one call of the library. Whatever it rejects with is a ReplicaError, or the signal's reason.
 * @param options the user's, whose signal stops it.
 */
export async function answered<T>(
  options: Stoppable,
  act: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let signal: AbortSignal | undefined;
  try {
    signal = signalOf(options);
    signal?.throwIfAborted();
    return await act(signal ?? new AbortController().signal);
  } catch (error) {
    throw rejection(error, signal);
  }
}

/** The same for what is iterated. */
export async function* iterated<T>(
  options: Stoppable,
  begin: (signal: AbortSignal) => AsyncIterable<T>,
): AsyncGenerator<T, void, undefined> {
  let signal: AbortSignal | undefined;
  try {
    signal = signalOf(options);
    signal?.throwIfAborted();
    yield* begin(signal ?? new AbortController().signal);
  } catch (error) {
    throw rejection(error, signal);
  }
}

/** The signal among options. @throws ReplicaError USAGE where either isn't what the types say. */
export function signalOf(options: Stoppable): AbortSignal | undefined {
  const { signal } = wantObject(options);
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw usageError("the option signal is no AbortSignal: it takes that of an AbortController");
}

/** Options as they were given. @throws ReplicaError USAGE where they are none. */
export function wantObject<Options extends object>(options: Options): Options {
  if (typeof options === "object" && options !== null) return options;
  throw usageError(`the options are ${String(options)}: they are an object`);
}

/** What to reject with where `error` was caught. */
export function rejection(error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (error instanceof ReplicaError) return error;
  const what = error instanceof Error ? error.message || error.name : String(error);
  const message = `this should not have happened, please report it: ${what}`;
  return new ReplicaError("UNEXPECTED", { retry: "never", message, cause: error });
}

/** Refuses what the types forbid, for those who have none. @throws ReplicaError USAGE. */
export function wantText(value: unknown, what: string): string {
  if (typeof value === "string" && value !== "" && !value.includes("\0")) return value;
  const given = typeof value === "string" ? JSON.stringify(value.slice(0, 100)) : typeof value;
  throw usageError(`${what} is ${given}: it takes a text that isn't empty`);
}

/** An offset or another count. @throws ReplicaError USAGE. */
export function wantCount(value: number | undefined, what: string): number | undefined {
  if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) return value;
  throw usageError(`${what} is ${String(value)}: it takes a whole number`);
}

/** A moment in milliseconds since 1970. @throws ReplicaError USAGE. */
export function wantMoment(value: Date | number | undefined, what: string): number | undefined {
  if (value === undefined) return undefined;
  const ms = value instanceof Date ? value.getTime() : value;
  // The largest that a Date holds (ECMA-262, time values).
  if (typeof ms === "number" && Math.abs(ms) <= 8.64e15) return ms;
  throw usageError(
    `${what} is ${String(value)}: it takes a Date, or milliseconds since 1970 as a number`,
  );
}
