import { printable } from "../../base/printable.ts";
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
  if (!isCluster(info)) return flatJson(info);
  const shards = shardsOf(info).map(({ label, fields }) => ({ shard: label, ...flatJson(fields) }));
  const rest = new Map([...info].filter(([name]) => !isOfShard(name)));
  return { ...flatJson(rest), shards };
}

function flatJson(info: Info): Record<string, string | number> {
  const entries = [...info].map(([name, value]): [string, string | number] => {
    // These fields are text that may happen to consist of digits; their type must not depend on that.
    const isText = /^run_id$|(?:crc64|replid2?|version|host|error|reason|cause|slots)$/.test(name);
    return [printable(name), isText ? printable(value) : (exactNumber(value) ?? printable(value))];
  });
  return Object.fromEntries(entries);
}

function exactNumber(text: string): number | undefined {
  const isWhole = /^-?\d+$/.test(text) && String(Number(text)) === text;
  // A double represents any 15 decimal digits exactly.
  const isDecimal = /^-?(?:0|[1-9]\d*)\.\d+$/.test(text) && text.replace(/\D/g, "").length <= 15;
  return isWhole || isDecimal ? Number(text) : undefined;
}
