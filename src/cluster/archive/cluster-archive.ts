import { mergeByKey } from "./merge-by-key.ts";
import type { LayoutsDocument } from "../../archive/format/documents.ts";
import { ARCHIVE_KEY, CLUSTER_KEY } from "../../archive/format/names.ts";
import {
  type ArchiveSource,
  damageOf,
  isArchiveDamage,
} from "../../archive/reader/archive-source.ts";
import { damaged } from "../../archive/store/object-store.ts";
import { inOrder, READ_AHEAD } from "../../archive/reader/in-order.ts";
import { logger } from "../../base/logger.ts";
import type { Damage } from "../../store/restore/damage.ts";
import type { Layout, OpenSlot } from "../ledger/layouts.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { parseRanges, type SlotRange } from "../slots/slot-ranges.ts";
import { LAYOUTS, layoutsKey, type LayoutsName, parseLayoutsName, SHARDS } from "./layout-names.ts";

/** What a document of layouts takes in memory. */
const DOCUMENT_BYTES = 1024 * 1024;

/** What one directory has archived of its cluster. */
export interface ArchivedDirectory {
  /** The name of its first shard. */
  readonly name: string;
  /** Its documents, in the order of their times. */
  readonly documents: readonly LayoutsName[];
}

/** What an archive tells of a cluster's past, around a moment. */
export interface ArchivedHistory {
  readonly shards: readonly ShardRecord[];
  readonly layouts: readonly Layout[];
  readonly openSlots: readonly OpenSlot[];
}

/** The archive of a cluster: the layouts of each directory that follows it, and an archive for each of their shards. */
export class ClusterArchive {
  readonly source: ArchiveSource;
  /** The one that was written to last comes first. */
  readonly directories: readonly ArchivedDirectory[];

  private constructor(source: ArchiveSource, directories: readonly ArchivedDirectory[]) {
    this.source = source;
    this.directories = directories;
  }

  /**
   * Opens the archive of a cluster.
   * @returns undefined where it is none: then it may be that of one primary.
   * @throws ReplicaError ARCHIVE_TOO_NEW, ARCHIVE_DAMAGED, also where all but what says so is that of a cluster; of the store;
   * the signal's reason.
   */
  static async open(
    source: ArchiveSource,
    signal: AbortSignal,
  ): Promise<ClusterArchive | undefined> {
    if ((await source.document("cluster", CLUSTER_KEY, signal)) === undefined) {
      await refuseHeadless(source, signal);
      return undefined;
    }
    const { folders } = await source.list(LAYOUTS, signal);
    const directories: ArchivedDirectory[] = [];
    for (const name of folders) {
      const { objects } = await source.list(`${LAYOUTS}/${name}`, signal);
      const documents = [...objects.keys()]
        .toSorted()
        .flatMap((file) => parseLayoutsName(file) ?? []);
      if (documents.length > 0) directories.push({ name, documents });
    }
    const endOf = ({ documents }: ArchivedDirectory) => documents.at(-1)!.toMs;
    directories.sort((one, other) => endOf(other) - endOf(one));
    return new ClusterArchive(source, directories);
  }

  /**
   * Reads all documents of a directory. @returns what is wrong with each that is damaged.
   * @throws ReplicaError of the store; the signal's reason.
   */
  async damagesOf({ name, documents }: ArchivedDirectory, signal: AbortSignal): Promise<Damage[]> {
    const meaning = "who owned which slots then is unknown: moments of that time can't be restored";
    const read = async (one: LayoutsName, stop: AbortSignal) => {
      const key = layoutsKey(name, one);
      try {
        const document = await this.source.document("layouts", key, stop);
        if (document !== undefined) joined(this.source.url, [document]);
        return undefined;
      } catch (error) {
        if (!isArchiveDamage(error)) throw error;
        return damageOf(this.source, key, error, meaning);
      }
    };
    const damages: Damage[] = [];
    for await (const one of inOrder(documents, READ_AHEAD, () => DOCUMENT_BYTES, read, signal)) {
      if (one !== undefined) damages.push(one);
    }
    return damages;
  }

  /**
   * What a directory's documents tell of a stretch of time.
   * @throws ReplicaError ARCHIVE_DAMAGED where one of them that is needed is; of the store; the signal's reason.
   */
  async history(
    { name, documents }: ArchivedDirectory,
    fromMs: number,
    toMs: number,
    signal: AbortSignal,
  ): Promise<ArchivedHistory> {
    const before = documents.findLastIndex((one) => one.fromMs <= fromMs);
    const wanted = documents.slice(Math.max(0, before)).filter((one) => one.fromMs <= toMs);
    const read = async (one: LayoutsName, stop: AbortSignal) =>
      await this.source.document("layouts", layoutsKey(name, one), stop);
    const found: LayoutsDocument[] = [];
    for await (const one of inOrder(wanted, READ_AHEAD, () => DOCUMENT_BYTES, read, signal)) {
      // Removed by the one who writes there, since it is old.
      if (one !== undefined) found.push(one);
    }
    // The newest document knows of all shards. One that is damaged would have thrown.
    const newest = documents.at(-1)!;
    const last =
      wanted.at(-1) === newest
        ? undefined
        : await this.source
            .document("layouts", layoutsKey(name, newest), signal)
            .catch((error: unknown) => {
              if (!isArchiveDamage(error)) throw error;
              logger.warn(error.message);
              return undefined;
            });
    const history = joined(this.source.url, [...found, ...(last === undefined ? [] : [last])]);
    return { ...history, layouts: history.layouts.filter(({ atMs }) => atMs <= toMs) };
  }
}

/** The rest of a cluster's archive, without the document that says what it is. */
async function refuseHeadless(source: ArchiveSource, signal: AbortSignal): Promise<void> {
  const { objects, folders } = await source.list("", signal);
  const found = [LAYOUTS, SHARDS].filter((name) => folders.includes(name));
  if (found.length === 0 || objects.has(ARCHIVE_KEY)) return;
  throw damaged(
    source.placeOf(CLUSTER_KEY),
    `is missing, though ${found.join(" and ")} of a cluster's archive ${found.length > 1 ? "are" : "is"} there: put it back from a copy, or let the replica that writes there start anew, which writes it again`,
  );
}

function joined(url: string, documents: readonly LayoutsDocument[]): ArchivedHistory {
  const shards = mergeByKey(
    documents.flatMap((one) => one.shards),
    ({ number }) => String(number),
  ).map(({ number, name, startedMs, ...more }): ShardRecord => ({
    number,
    name,
    startedMs,
    shardId: more.shardId,
    endedMs: more.endedMs,
    endedWhy: more.endedWhy,
  }));
  const layouts = mergeByKey(
    documents.flatMap((one) => one.layouts),
    ({ atMs, epoch }) => `${atMs} ${epoch}`,
  ).map(({ slots, ...one }): Layout => ({
    ...one,
    slots: new Map(
      Object.entries(slots).map(([shard, text]) => [Number(shard), rangesOf(url, text)] as const),
    ),
  }));
  const openSlots = mergeByKey(
    documents.flatMap((one) => one.openSlots),
    ({ slot, source, target, fromMs }) => [slot, source, target, fromMs].join(" "),
  ).map(({ untilMs, ...one }): OpenSlot => ({ ...one, untilMs }));
  return { shards, layouts, openSlots };
}

function rangesOf(url: string, text: string): readonly SlotRange[] {
  const ranges = parseRanges(text);
  if (ranges !== undefined) return ranges;
  throw damaged(
    `${url}/${LAYOUTS}`,
    `holds a layout with the slots "${text.slice(0, 100)}": it was changed`,
  );
}
