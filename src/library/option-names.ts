import { usageError } from "../base/errors.ts";
import { didYouMean } from "../base/nearest.ts";
import type { SourceOptions } from "./api/common.d.ts";
import type { ReadKeysOptions, ReadLogOptions } from "./api/read.d.ts";
import type { RestoreOptions, VerifyOptions } from "./api/restore.d.ts";

/** Every name that options may have: a compiler sees that none is missing. */
type Names<Options> = Readonly<Record<keyof Options, true>>;

const ARCHIVE = { archiveEndpoint: true, archiveRegion: true, archiveIdentity: true } as const;
const SOURCE = { ...ARCHIVE, signal: true, onWarning: true } as const;

export const OF_SNAPSHOTS: Names<SourceOptions> = SOURCE;
export const OF_VERIFY: Names<VerifyOptions> = {
  ...ARCHIVE,
  signal: true,
  quick: true,
  onProgress: true,
};
export const OF_RESTORE: Names<RestoreOptions> = {
  ...SOURCE,
  at: true,
  offset: true,
  generation: true,
  layout: true,
  for: true,
  mode: true,
  onProgress: true,
};
export const OF_KEYS: Names<ReadKeysOptions> = {
  ...SOURCE,
  match: true,
  db: true,
  generation: true,
};
export const OF_LOG: Names<ReadLogOptions> = {
  ...SOURCE,
  from: true,
  to: true,
  keys: true,
  commands: true,
  db: true,
  all: true,
  follow: true,
  onGap: true,
};

/**
 * Refuses what the types forbid: a name that is misspelled would be the same as none.
 * @throws ReplicaError USAGE, with the name that is probably meant.
 */
export function wantOptions(options: object, names: Readonly<Record<string, true>>): void {
  for (const [option, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(names, option))
      throw usageError(`unknown option ${option}${didYouMean(option, Object.keys(names))}`);
    if (option.startsWith("on") && typeof value !== "function")
      throw usageError(`the option ${option} is a ${typeof value}: it takes a function`);
  }
}
