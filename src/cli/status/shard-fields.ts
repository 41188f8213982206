import type { Info } from "./info-connection.ts";

/** A shard's row in INFO: `shard0001:state=connected,ready=1,…`, and the fields of it that may hold any text. */
const ROW = /^shard(\d{4,9})$/;
const TEXTS = ["not_ready_reason", "last_error", "archive_state"];

/** Whether INFO is that of a cluster's shards. */
export function isCluster(info: Info): boolean {
  return info.has("cluster_state");
}

/** Whether a field belongs to one shard. */
export function isOfShard(name: string): boolean {
  return /^shard\d{4,9}(?:_|$)/.test(name);
}

/** The shards that INFO has rows of, in their order, with their fields. */
export function shardsOf(info: Info): { readonly label: string; readonly fields: Info }[] {
  return [...info].flatMap(([name, row]) => {
    const label = ROW.exec(name)?.[1];
    if (label === undefined) return [];
    const pairs = row.split(",").map((pair): [string, string] => {
      const at = pair.indexOf("=");
      return at === -1 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
    });
    const texts = TEXTS.flatMap((text): [string, string][] => {
      const said = info.get(`${name}_${text}`);
      return said === undefined ? [] : [[text, said]];
    });
    return [{ label, fields: new Map([...pairs, ...texts]) }];
  });
}
