import { expect, test } from "bun:test";
import { parseReplicationId, type ReplicationIdFrom } from "../../../src/base/history.ts";
import { ShardLog } from "../../../src/cluster/restore/shard-log.ts";
import type { Catalogue } from "../../../src/store/restore/catalogue.ts";
import type { KeptGeneration } from "../../../src/store/restore/kept-generation.ts";

const from = (letter: string, fromOffset: number): ReplicationIdFrom => ({
  replid: parseReplicationId(letter.repeat(40)),
  fromOffset,
});

function generation(
  id: number,
  baseOffset: number,
  durableOffset: number,
  replicationIds: readonly ReplicationIdFrom[],
): KeptGeneration {
  return {
    id,
    dir: `generation-${id}`,
    state: "sealed",
    sealedReason: undefined,
    primaryName: undefined,
    baseOffset,
    streamDb: 0,
    logHeaderBytes: 0,
    rdbBytes: 0,
    rdbCrc64: undefined,
    rdbChecked: true,
    durableOffset,
    first: undefined,
    last: undefined,
    replicationIds,
  };
}

/** Which generation each offset of a shard's stream is restored from. */
function placesOf(generations: readonly KeptGeneration[], offsets: readonly number[]): number[] {
  const log = new ShardLog({ path: "shard", generations } as unknown as Catalogue, generations[0]!);
  return offsets.map((offset) => log.pointAt(offset).generation.id);
}

test("a stream goes on in the generation whose snapshot was taken within it, also behind a failover", () => {
  const first = generation(1, 100, 1_000, [from("a", 100), from("b", 800)]);
  expect(
    placesOf([first, generation(2, 600, 1_200, [from("a", 600), from("b", 800)])], [500, 700]),
  ).toEqual([1, 2]);
  expect(placesOf([first, generation(2, 900, 1_200, [from("b", 900)])], [850, 950])).toEqual([
    1, 2,
  ]);
});

test("an old primary that went on beside the new one is another stream, though both know its id", () => {
  const first = generation(1, 100, 1_000, [from("a", 100), from("b", 800)]);
  const fork = generation(2, 900, 1_200, [from("a", 900)]);
  expect(placesOf([first, fork], [850, 950])).toEqual([1, 1]);
});
