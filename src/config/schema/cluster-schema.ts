import type { Setting } from "./setting.ts";
import { numberRange, oneOf, wholeNumber } from "./setting-values.ts";

/** The settings of `redis+cluster://`; rows of `settingsSchema`. */
export const clusterSchema = {
  "cluster-read-from": {
    group: "tuning",
    kind: "text",
    value: "WHOM",
    takes: "primary or replica",
    help: "which node of each shard of a cluster to follow: its primary, or a healthy replica where there is one",
    default: "primary",
    schema: oneOf("primary", "replica"),
  },
  "cluster-snapshots": {
    group: "tuning",
    kind: "number",
    value: "N",
    takes: "a whole number from 1 to 1000",
    help: "how many shards of a cluster may take a snapshot at a time; others wait, and follow meanwhile where they can",
    default: "2",
    schema: wholeNumber(1, 1000),
  },
  shards: {
    group: "tuning",
    kind: "text",
    value: "FROM-TO",
    takes:
      "two whole numbers from 0 to 99999 and a hyphen, such as 0-31, or 32- for all from there on",
    help: "follow only these shards of a cluster, counted from 0 in the order of their slots at the first look, so that several processes share it",
    unset: "all",
    schema: numberRange(99_999),
  },
  "relay-ports": {
    group: "tuning",
    kind: "number",
    value: "PORT",
    takes: "a whole number from 1 to 65535",
    help: "of a cluster: give each shard a port of its own, for its replicas and for INFO of it alone: this one for shard 0001, the next for 0002",
    unset: "none",
    schema: wholeNumber(1, 65_535),
  },
} satisfies Record<string, Setting>;
