import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Schema } from "../../store/ledger/schema.ts";

const FIRST_VERSION = `
  CREATE TABLE shards (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    shard_id TEXT,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    ended_why TEXT
  ) STRICT;
  CREATE TABLE members (
    shard INTEGER NOT NULL REFERENCES shards,
    node_id TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    PRIMARY KEY (shard, node_id)
  ) STRICT;
  CREATE TABLE layouts (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    confirmed_ms INTEGER NOT NULL,
    epoch INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX layouts_at ON layouts (at_ms);
  CREATE TABLE layout_slots (
    shard INTEGER NOT NULL REFERENCES shards,
    layout INTEGER NOT NULL REFERENCES layouts,
    slots TEXT NOT NULL,
    PRIMARY KEY (shard, layout)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE open_slots (
    id INTEGER PRIMARY KEY,
    slot INTEGER NOT NULL,
    source INTEGER NOT NULL REFERENCES shards,
    target INTEGER NOT NULL REFERENCES shards,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER
  ) STRICT;
  CREATE TABLE other_shards (
    number INTEGER PRIMARY KEY,
    place INTEGER,
    shard_id TEXT,
    started_ms INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE other_members (
    other INTEGER NOT NULL REFERENCES other_shards,
    node_id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE places (node_id TEXT PRIMARY KEY, place INTEGER NOT NULL) STRICT;
  CREATE TABLE highest_epoch (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT;
  CREATE TABLE events (at_ms INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
`;

/** `cluster.db`. */
export const CLUSTER_SCHEMA: Schema = {
  version: 1,
  migrations: { 1: FIRST_VERSION },
  describes: "shards",
};

/** Where a cluster's directory has its database. */
export function clusterDatabase(dir: string): string {
  return join(dir, "cluster.db");
}

/** The data directory of one shard in a cluster's directory: `DIR/shards/0001`. */
export function shardDirectory(dir: string, number: number): string {
  return join(dir, "shards", String(number).padStart(4, "0"));
}

/** Whether a folder is the directory of a cluster. */
export function isClusterDirectory(dir: string): boolean {
  return existsSync(clusterDatabase(dir));
}
