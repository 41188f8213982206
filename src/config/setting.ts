import type * as z from "zod/mini";

/** What help, docs/SETTINGS.md and errors say about a setting. */
export interface AboutSetting {
  /**
   * A switch takes no value on the command line; a number needs no quotes in the settings file. A list has commas
   * between its values; its flag may be given again for each, and in the file it may be an array.
   */
  readonly kind: "text" | "number" | "switch" | "list";
  /** The value's placeholder in help; empty for a switch. */
  readonly value: string;
  /** The values it takes, to complete "it takes …". */
  readonly takes: string;
  /** What it does, in one line. */
  readonly help: string;
  /** What it is if it isn't given, as a person would write it. */
  readonly default?: string;
  /** What to print as the default if there is none. */
  readonly unset?: string;
}

/** A row of the table. */
export interface Setting extends AboutSetting {
  readonly schema: z.ZodMiniType;
}
