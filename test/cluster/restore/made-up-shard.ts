import { mkdirSync, writeFileSync } from "node:fs";
import { ShardLog } from "../../../src/cluster/restore/shard-log.ts";
import { filesOf } from "../../../src/store/generation/layout.ts";
import type { Catalogue } from "../../../src/store/restore/catalogue.ts";
import type { KeptGeneration } from "../../../src/store/restore/kept-generation.ts";
import { encodeCommand } from "../../support/resp.ts";
import type { TempDir } from "../../support/temp.ts";

/** When a command arrived, and its words. */
export type Heard = readonly [atMs: number, text: string];

const HEADER = encodeCommand(["SELECT", "0"]);

export interface MadeUpShard {
  readonly log: ShardLog;
  readonly generation: KeptGeneration;
  readonly catalogue: Catalogue;
}

/** The log of a shard that has heard these commands, with a mark behind each. */
export function madeUpShard(
  dir: TempDir,
  name: string,
  heard: readonly Heard[],
  { version = "8.0.0", keys = 0 }: { readonly version?: string; readonly keys?: number } = {},
): MadeUpShard {
  mkdirSync(dir.file(name));
  const generation = {
    id: 1,
    dir: dir.file(name),
    state: "current",
    sealedReason: undefined,
    primaryName: undefined,
    baseOffset: 0,
    streamDb: 0,
    logHeaderBytes: HEADER.length,
    rdbBytes: 0,
    rdbCrc64: undefined,
    rdbChecked: true,
    replicationIds: [],
  };
  const commands = heard.map(([, text]) => encodeCommand(text.split(" ")));
  let offset = 0;
  const moments = heard.map(([atMs], index) => {
    offset += commands[index]!.length;
    return { atMs, offset };
  });
  const kept: KeptGeneration = {
    ...generation,
    state: "current",
    durableOffset: offset,
    first: moments[0],
    last: moments.at(-1),
  };
  writeFileSync(filesOf(kept).log, Buffer.concat([HEADER, ...commands]));
  writeFileSync(filesOf(kept).base, snapshotOf(version, keys));
  const catalogue = {
    path: dir.path,
    generations: [kept],
    earliestMs: () => moments[0]?.atMs,
    momentBefore: (_: number, atMs: number) => moments.findLast((one) => one.atMs <= atMs),
    momentOf: (_: number, wanted: number) => moments.find((one) => one.offset >= wanted),
    momentsFrom: (_: number, wanted: number) => moments.filter((one) => one.offset >= wanted),
    *segments() {},
  } as unknown as Catalogue;
  return { log: new ShardLog(catalogue, kept), generation: kept, catalogue };
}

/** The beginning of a snapshot with a few keys, of a Redis of some version. */
function snapshotOf(version: string, keys: number): Buffer {
  const text = (word: string) => Buffer.concat([Buffer.from([word.length]), Buffer.from(word)]);
  const aux = [text("redis-ver"), text(version)];
  return Buffer.concat([
    Buffer.from("REDIS0009"),
    Buffer.from([0xfa]),
    ...aux,
    // The first database, and how many keys it has.
    Buffer.from(keys === 0 ? [] : [0xfe, 0, 0xfb, keys, 0]),
    Buffer.from([0xff]),
    Buffer.alloc(8),
  ]);
}
