import type { RdbKind } from "../../rdb/reader/entry.ts";

/** A key as of one of two moments. */
export interface KeyState {
  readonly kind: RdbKind;
  /** Items, members, fields or stream entries; undefined for strings and modules' values. */
  readonly elements: number | undefined;
  /** Of its value in the RDB. */
  readonly bytes: number;
  /** Unix time. */
  readonly expiresAtMs: number | undefined;
}

/** A key that isn't the same at both moments. */
export interface Difference {
  readonly db: number;
  readonly key: Uint8Array;
  /** Undefined: there is none at that moment. */
  readonly before: KeyState | undefined;
  readonly after: KeyState | undefined;
  /** Of a key that is there at both moments: whether its value is another one. Else only its expiry is. */
  readonly isOtherValue: boolean;
}

/** How many keys there are of each sort. */
export interface DifferenceCounts {
  readonly came: number;
  readonly went: number;
  readonly changed: number;
  /** Those of the changed ones whose value is the same, and only the time to live differs. */
  readonly expiryOnly: number;
  readonly unchanged: number;
  /** Those of the changed ones that are compared by the bytes in the RDB, since nothing else is known of their form. */
  readonly byBytes: number;
}
