import { expect, test } from "bun:test";
import { lineageAround } from "../../../src/cluster/archive/shard-lineage.ts";
import { never, openArchive, openFolder } from "../../archive/reader/rig.ts";
import { rdbOf } from "../../store/rdb.ts";
import {
  type GenerationPlan,
  REPLID,
  STARTED_MS,
  streamOf,
  writeArchive,
  writeGeneration,
} from "../../support/written-archive.ts";

const LATER = "b".repeat(40);
const LATER_FROM = 5_800;
const { stream } = streamOf(1, 200);
const second = streamOf(2, 50).stream;

/**
 * Which of two generations lie around the end of each: a failover came amid the first one's log.
 * @param next the history, and the offset, of the second one's snapshot.
 */
async function lineagesOf(next: { readonly replid: string; readonly baseOffset: number }) {
  await using shelf = await openFolder();
  const plan: GenerationPlan = {
    rdb: rdbOf(10_000),
    stream,
    cuts: [300, 1_000, stream.length],
    histories: [{ replid: LATER, fromOffset: LATER_FROM }],
  };
  const startedMs = STARTED_MS + 60_000;
  await writeArchive(shelf.store);
  await writeGeneration(shelf.store, plan);
  const { rdb } = plan;
  const cuts = [second.length];
  await writeGeneration(shelf.store, { rdb, stream: second, cuts, startedMs, seed: 2, ...next });
  const archive = await openArchive(shelf);
  const all = await archive.generations(never);
  const within = { sinceMs: STARTED_MS - 1, untilMs: startedMs + 3_600_000 };
  const found = await Promise.all(
    all.map(async (generation) => {
      const point = { generation, offset: generation.log.chain.end.offset };
      return await lineageAround(archive, point, within, never);
    }),
  );
  const names = all.map(({ name }) => name);
  return found.map((lineage) =>
    lineage.map(({ generation, upTo }) => [names.indexOf(generation.name), upTo]),
  );
}

test.each([
  ["the history before", { replid: REPLID, baseOffset: LATER_FROM - 300 }],
  ["the moment of", { replid: REPLID, baseOffset: LATER_FROM }],
  ["the history behind", { replid: LATER, baseOffset: LATER_FROM + 300 }],
])("the stream of a shard goes on in a snapshot of %s a failover", async (_, next) => {
  const end = 5_000 + stream.length;
  const last = [1, next.baseOffset + second.length];
  expect<unknown>(await lineagesOf(next)).toEqual([
    [[0, end], last],
    [[0, next.baseOffset], last],
  ]);
});

test.each([
  ["an old primary that went on beside the new one", REPLID],
  ["another history altogether", "c".repeat(40)],
])("the snapshot of %s is of another stream, at the same offsets too", async (_, replid) => {
  const baseOffset = LATER_FROM + 300;
  expect<unknown>(await lineagesOf({ replid, baseOffset })).toEqual([
    [[0, 5_000 + stream.length]],
    [[1, baseOffset + second.length]],
  ]);
});
