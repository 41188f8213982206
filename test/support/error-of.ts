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
