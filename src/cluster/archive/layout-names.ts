/** The folder of all layouts, with a folder in it for each directory that follows the cluster. */
export const LAYOUTS = "layouts";
/** The folder of all shards, each an archive of its own. */
export const SHARDS = "shards";

/** The stretch of time that a document of layouts tells of; milliseconds since 1970. */
export interface LayoutsName {
  readonly fromMs: number;
  readonly toMs: number;
}

const DIGITS = 13;
const NAME = /^(\d{13})-(\d{13})\.json$/;

/** Names sort as their times do. */
export function layoutsName({ fromMs, toMs }: LayoutsName): string {
  return `${padded(fromMs)}-${padded(toMs)}.json`;
}

/** What a document's name says; undefined for a file that isn't ours. */
export function parseLayoutsName(name: string): LayoutsName | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [fromMs, toMs] = [Number(match[1]), Number(match[2])];
  return fromMs > toMs ? undefined : { fromMs, toMs };
}

/**
 * The key of a directory's document of layouts.
 * @param directory the name of the directory's first shard, which no other directory has.
 */
export function layoutsKey(directory: string, name: LayoutsName): string {
  return `${LAYOUTS}/${directory}/${layoutsName(name)}`;
}

/** Where a shard of a cluster's archive has its own: a key, and a URL. */
export function shardArchiveKey(shard: string): string {
  return `${SHARDS}/${shard}`;
}

export function shardArchiveUrl(url: string, shard: string): string {
  return `${url.replace(/\/+$/, "")}/${shardArchiveKey(shard)}`;
}

function padded(timeMs: number): string {
  return String(Math.max(0, timeMs)).padStart(DIGITS, "0");
}
