import { expect } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";

/** The ReplicaError that `act` throws. Any other error passes through; no error is an Error. */
export function errorOf(act: () => unknown): ReplicaError {
  try {
    act();
  } catch (caught) {
    if (caught instanceof ReplicaError) return caught;
    throw caught;
  }
  throw new Error("it was accepted");
}

/** The ReplicaError that `act` rejects with. Any other error passes through; no error is an Error. */
export async function rejectionOf(act: () => Promise<unknown>): Promise<ReplicaError> {
  try {
    await act();
  } catch (caught) {
    if (caught instanceof ReplicaError) return caught;
    throw caught;
  }
  throw new Error("it was accepted");
}

/** The usage error that `act` throws. */
export function usageErrorOf(act: () => unknown): ReplicaError {
  const error = errorOf(act);
  expect(error).toMatchObject({ code: "USAGE", retry: "never" });
  return error;
}

/**
 * What a promise rejects with. `expect(…).rejects` of Bun 1.4.5 doesn't await: it turns the event loop by itself, and now and
 * then what it waits for never comes.
 */
export async function reasonOf(promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (reason) {
    return reason;
  }
  throw new Error("it was accepted");
}

/** The same as a function that throws it, for `toThrow`. */
export async function thrownBy(promise: PromiseLike<unknown>): Promise<() => never> {
  const reason = await reasonOf(promise);
  return () => {
    throw reason;
  };
}
