import { ReplicaError } from "../../base/errors.ts";

/** A value that is malformed, or is of a form that can't be compared. A second try reads the same bytes. */
export function contentError(what: string): ReplicaError {
  return new ReplicaError("BAD_PAYLOAD", { retry: "never", message: what });
}
