import type { State } from "../session/state.ts";

/** How much of a snapshot has arrived. */
export interface TransferProgress {
  readonly readBytes: number;
  /** Undefined while nobody knows (`$EOF`). */
  readonly totalBytes: number | undefined;
  /** An estimate of it, by the primary's own figures; undefined where nothing tells, and once more has come. */
  readonly expectedBytes: number | undefined;
}

/**
 * How much of a snapshot a session has received; undefined unless one is arriving.
 * @param expectedBytes called where the primary doesn't tell the length.
 */
export function progressOf(
  state: State,
  expectedBytes: () => number | undefined,
): TransferProgress | undefined {
  if (state.at !== "transfer") return undefined;
  const { readBytes, totalBytes } = state;
  const expected = totalBytes === undefined ? expectedBytes() : undefined;
  const isExceeded = expected !== undefined && expected <= readBytes;
  return { readBytes, totalBytes, expectedBytes: isExceeded ? undefined : expected };
}
