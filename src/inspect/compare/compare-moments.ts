import { join } from "node:path";
import type { Offset } from "../../base/history.ts";
import { makePrivateDirectory } from "../../stock/private-directory.ts";
import { fileByteOf, filesOf, offsetOfByte } from "../../store/generation/layout.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";
import { scanSoundLog } from "../../store/restore/write-log.ts";
import { chooseKeys } from "../chosen/choose-keys.ts";
import type { ChosenEntry, FoundHow } from "../chosen/chosen-keys.ts";
import type { ChooseOptions } from "../chosen/replay.ts";
import { KeyMatcher, type Selection } from "../needs/selection.ts";
import type { Difference, DifferenceCounts } from "./difference.ts";
import { KeyTable } from "./key-table.ts";
import { NameHashes } from "./name-hashes.ts";
import { touchedKeys } from "./touched-keys.ts";

/** The names of 12 million keys; a few times as much as one process should take for reading. */
const DEFAULT_NAME_BYTES = 64 * 1024 * 1024;

/** Opens one moment, gives it to `use`, and closes it. */
export type WithMoment = <T>(
  use: (catalogue: Catalogue, point: RestorePoint) => Promise<T>,
) => Promise<T>;

/** Two moments; the second one may be the earlier one. */
export interface ComparedMoments {
  readonly before: WithMoment;
  readonly after: WithMoment;
  /** Both in one catalogue, where they lie in one generation. */
  readonly together:
    | { readonly catalogue: Catalogue; readonly before: RestorePoint; readonly after: RestorePoint }
    | undefined;
}

export interface CompareOptions extends ChooseOptions {
  /** How much memory the names of changed keys may take. Default: 64 MiB. */
  readonly nameBytes?: number;
}

/** One of the moments, as it was found. */
export interface MomentAbout {
  /** After the last command that counts. */
  readonly offset: Offset;
  /** When that had arrived; undefined where no mark tells. */
  readonly atMs: number | undefined;
  /** How the keys were found; undefined where none had to be. */
  readonly how: FoundHow | undefined;
}

/** What differs between two moments. Dispose of it: it holds a file. */
export interface Comparison extends AsyncDisposable {
  readonly before: MomentAbout;
  readonly after: MomentAbout;
  /** Whether only those keys were compared that commands between the moments touch; the others are the same. */
  readonly isOfTouched: boolean;
  readonly counts: DifferenceCounts;
  /** By database and name. */
  differences(): Iterable<Difference>;
}

/**
 * Finds the keys of a selection that came, went or changed between two moments, in memory that doesn't grow with their number:
 * they are sorted on disk, in TMPDIR. Where both moments lie in one generation, the log between them tells which keys to look at.
 * @throws ReplicaError as `chooseKeys`; BAD_PAYLOAD for a value that can't be compared; DISK_FULL.
 */
export async function compareMoments(
  moments: ComparedMoments,
  selection: Selection,
  options: CompareOptions,
): Promise<Comparison> {
  const scope = await scopeOf(moments, selection, options);
  if ("why" in scope)
    options.tell(
      `compares all keys that match, which a stock server may have to hold in memory: ${scope.why}`,
    );
  else if (scope.names.size === 0) return noneTouched(scope);
  const wanted = { ...selection, among: "names" in scope ? scope.names : undefined };
  const holder = makePrivateDirectory();
  let table: KeyTable | undefined;
  const dispose = async () => {
    table?.[Symbol.dispose]();
    await holder.remove();
  };
  try {
    const opened = (table = new KeyTable(join(holder.path, "keys.db")));
    const before = await take(moments.before, wanted, options, (one) => opened.takeBefore(one));
    const after = await take(moments.after, wanted, options, (one) => opened.takeAfter(one));
    return {
      before,
      after,
      isOfTouched: wanted.among !== undefined,
      counts: opened.counts,
      differences: () => opened.differences(),
      [Symbol.asyncDispose]: dispose,
    };
  } catch (cause) {
    await dispose();
    throw cause;
  }
}

/** Takes all wanted keys of a moment. */
async function take(
  withMoment: WithMoment,
  selection: Selection,
  options: ChooseOptions,
  onEntry: (entry: ChosenEntry) => void,
): Promise<MomentAbout> {
  return await withMoment(async (catalogue, point) => {
    await using chosen = await chooseKeys(catalogue, point, selection, options);
    for await (const entry of chosen.entries()) onEntry(entry);
    const { offset, atMs, how } = chosen.about;
    return { offset, atMs, how };
  });
}

type Scope =
  | {
      readonly names: NameHashes;
      readonly before: MomentAbout;
      readonly after: MomentAbout;
    }
  | { readonly why: string };

/** Finds out which keys have to be looked at. */
async function scopeOf(
  { together }: ComparedMoments,
  selection: Selection,
  options: CompareOptions,
): Promise<Scope> {
  if (together === undefined) {
    return {
      why: "the moments lie in different generations, between whose logs there is no other way",
    };
  }
  const { catalogue, before, after } = together;
  const { generation } = before;
  const cutOf = async (point: RestorePoint): Promise<number> => {
    const findings = await scanSoundLog(catalogue, point, options, () => undefined);
    return findings?.safeCut ?? fileByteOf(generation, generation.baseOffset);
  };
  const cuts = [await cutOf(before), await cutOf(after)] as const;
  const [from, to] = [Math.min(...cuts), Math.max(...cuts)];
  const { disk, signal, nameBytes = DEFAULT_NAME_BYTES } = options;
  const part = { disk, path: filesOf(generation).log, from, to, signal };
  const matcher = new KeyMatcher(selection);
  const isWanted = (key: Uint8Array) => matcher.matches(key);
  // A log that holds nothing may be missing.
  const found =
    from === to
      ? { names: new NameHashes(nameBytes) }
      : await touchedKeys(part, isWanted, nameBytes);
  if (found.names === undefined) {
    return { why: `${found.why} (after offset ${offsetOfByte(generation, found.byte)})` };
  }
  const about = (cut: number): MomentAbout => {
    const offset = offsetOfByte(generation, cut);
    const atMs = (catalogue.momentOf(generation.id, offset) ?? generation.last)?.atMs;
    return { offset, atMs, how: undefined };
  };
  return { names: found.names, before: about(cuts[0]), after: about(cuts[1]) };
}

function noneTouched(scope: Pick<Comparison, "before" | "after">): Comparison {
  const { before, after } = scope;
  return {
    before,
    after,
    isOfTouched: true,
    counts: { came: 0, went: 0, changed: 0, expiryOnly: 0, unchanged: 0, byBytes: 0 },
    differences: () => [],
    [Symbol.asyncDispose]: async () => undefined,
  };
}
