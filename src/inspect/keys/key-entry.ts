/** What a report takes of a key of a snapshot; an `RdbEntry` is one. It is looked at during a call only. */
export interface KeyEntry {
  readonly db: number;
  /** The key lies in `keyBuffer`, from `keyStart` to before `keyEnd`. */
  readonly keyBuffer: Uint8Array;
  readonly keyStart: number;
  readonly keyEnd: number;
  /** As TYPE names it; `module` for all types of modules. */
  readonly kind: string;
  /** The name of a module's type; undefined for all others. */
  readonly module: string | undefined;
  readonly encoding: string;
  /** In milliseconds since 1970; undefined: it doesn't expire. */
  readonly expiresAtMs: number | undefined;
  /** Undefined for a string, and where the snapshot doesn't tell it: for a module's value. */
  readonly elements: number | undefined;
  /** The bytes of the snapshot that it takes, with its key and what stands before that. */
  readonly startByte: number;
  readonly endByte: number;
}
