import { statSync } from "node:fs";
import { isArchiveUrl } from "../archive/open/archive-url.ts";
import type { Archive } from "../archive/reader/archive.ts";
import { realClock } from "../base/clock.ts";
import { usageError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import { isClusterDirectory, shardDirectory } from "../cluster/ledger/cluster-schema.ts";
import type { ArchiveOptions, SourceOptions } from "./api/common.d.ts";
import { wantText } from "./rejections.ts";
import { OF_ARCHIVES, settingsOf } from "./settings.ts";

/** Where a history, or a single snapshot, is kept. */
export type Source = KeptSource | { readonly kind: "file"; readonly path: string };

/** Where a history is kept. */
export type KeptSource =
  | { readonly kind: "archive"; readonly url: string }
  | { readonly kind: "directory"; readonly path: string };

/** What kind of source it is. @throws ReplicaError USAGE for one that can't be any, and for the directory of a cluster. */
export function sourceOf(given: unknown): Source {
  const source = wantText(given, "the source");
  if (isArchiveUrl(source)) return { kind: "archive", url: source };
  if (isClusterDirectory(source)) {
    throw usageError(
      `${source} keeps a whole cluster: give one shard of it, such as ${shardDirectory(source, 1)}`,
    );
  }
  const found = statSync(source, { throwIfNoEntry: false });
  if (found === undefined) {
    throw usageError(`can't open ${source}: there is no such file or directory`);
  }
  if (found.isDirectory()) return { kind: "directory", path: source };
  // Opening a pipe without a writer would wait for ever.
  if (found.isFile()) return { kind: "file", path: source };
  throw usageError(
    `${source} is neither a file nor a directory: give an RDB file, a data directory, or an archive's URL`,
  );
}

/** The same for what keeps a history. @throws ReplicaError USAGE for a single file, too. */
export function keptSourceOf(given: unknown): KeptSource {
  const source = sourceOf(given);
  if (source.kind !== "file") return source;
  throw usageError(`${source.path} is a file: give a data directory, or an archive's URL`);
}

/**
 * Opens an archive to read it. What reads it is large, so it is loaded only then.
 * @throws ReplicaError USAGE for a URL or options that can't be, and for the archive of a cluster; of the store; the
 * signal's reason.
 */
export async function openArchiveAt(
  url: string,
  { archiveEndpoint, archiveRegion, archiveIdentity }: ArchiveOptions,
  signal: AbortSignal,
): Promise<Archive> {
  const [{ openSource }, { Archive }, { ClusterArchive }, { shardArchiveUrl }] = await Promise.all([
    import("../archive/open/open-archive.ts"),
    import("../archive/reader/archive.ts"),
    import("../cluster/archive/cluster-archive.ts"),
    import("../cluster/archive/layout-names.ts"),
  ]);
  const settings = settingsOf({ archiveEndpoint, archiveRegion, archiveIdentity }, OF_ARCHIVES);
  const context = { settings, env: process.env, clock: realClock };
  if ((await ClusterArchive.open(await openSource(url, context), signal)) !== undefined) {
    throw usageError(
      `${url} is the archive of a whole cluster: give that of one shard, ${shardArchiveUrl(url, "SHARD")}`,
    );
  }
  return await Archive.open(await openSource(url, context), signal);
}

/** Where warnings go. */
export function warnerOf({ onWarning }: Pick<SourceOptions, "onWarning">): (text: string) => void {
  return onWarning ?? ((text) => logger.warn(text));
}
