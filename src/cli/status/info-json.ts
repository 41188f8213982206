import { fieldsToJson } from "../../monitor/info-field.ts";
import type { Info } from "./info-connection.ts";
import { isCluster, isOfShard, shardsOf } from "./shard-fields.ts";

/** Fields of INFO by name; of a cluster also `shards`: the fields of each. */
export type InfoJson = Record<string, string | number | readonly Record<string, string | number>[]>;

/** Whether the replica is ready, by the same rule as /readyz. */
export function isReady(info: Info): boolean {
  return info.get("ready") === "1";
}

/** The fields as JSON; numbers are numbers if none of their digits is lost. */
export function infoToJson(info: Info): InfoJson {
  if (!isCluster(info)) return fieldsToJson(info);
  const shards = shardsOf(info).map(({ label, fields }) => ({
    shard: label,
    ...fieldsToJson(fields),
  }));
  const rest = new Map([...info].filter(([name]) => !isOfShard(name)));
  return { ...fieldsToJson(rest), shards };
}
