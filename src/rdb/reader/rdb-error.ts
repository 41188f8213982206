import { ReplicaError } from "../../base/errors.ts";

/** Where in which RDB something is wrong. */
export interface RdbPlace {
  /** The position in the RDB, from 0 on. */
  readonly byte: number;
  /** `REDIS0011`, `VALKEY080`; undefined before it is known. */
  readonly format: string | undefined;
}

/**
 * What is wrong with an RDB, and at which byte: BAD_PAYLOAD for one that is malformed, ends too early or holds what
 * isn't known here, BAD_CHECKSUM for one that was changed. A second try reads the same bytes, so it can't help.
 */
export class RdbError extends ReplicaError {
  readonly byte: number;
  readonly format: string | undefined;

  constructor(code: "BAD_PAYLOAD" | "BAD_CHECKSUM", place: RdbPlace, what: string) {
    const where = place.format === undefined ? "" : ` of the ${place.format} file`;
    super(code, { message: `${what} (byte ${place.byte}${where})`, retry: "never" });
    this.name = "RdbError";
    this.byte = place.byte;
    this.format = place.format;
  }
}
