import { describe, expect, test } from "bun:test";
import { newestGeneration } from "../../../src/archive/reader/newest.ts";
import {
  type GenerationPlan,
  STARTED_MS,
  streamOf,
  writeArchive,
  writeGeneration,
} from "../../support/written-archive.ts";
import { rdbOf } from "../../store/rdb.ts";
import { never, openArchive, openFolder, type Shelf } from "./rig.ts";

const HOUR_MS = 3_600_000;
const { stream } = streamOf(51, 50);

/** A generation that begins so many hours later, and is kept for so many seconds. */
async function write(
  shelf: Shelf,
  hour: number,
  seconds: number,
  more: Partial<GenerationPlan> = {},
): Promise<string> {
  const startedMs = STARTED_MS + hour * HOUR_MS;
  const marks = [{ timeMs: startedMs + seconds * 1_000, offset: 5_000 + stream.length }];
  const plan = { rdb: rdbOf(1_000), stream, cuts: [stream.length], marks, startedMs };
  const seed = hour + seconds;
  return (await writeGeneration(shelf.store, { ...plan, seed, ...more })).name;
}

async function chosen(shelf: Shelf, primary = "nobody"): Promise<string | undefined> {
  const archive = await openArchive(shelf);
  return (await newestGeneration(archive, (name) => name === primary, never))?.name;
}

describe("the generation to go on from", () => {
  test("is none where there is none", async () => {
    await using shelf = await openFolder();
    await writeArchive(shelf.store);
    expect(await chosen(shelf)).toBeUndefined();
  });

  test("is the one that reaches farthest, not the one that began last", async () => {
    await using shelf = await openFolder();
    await writeArchive(shelf.store);
    await write(shelf, 0, 10, { isSealed: true });
    const long = await write(shelf, 1, 9_000);
    await write(shelf, 2, 60);
    expect(await chosen(shelf)).toBe(long);
  });

  test("is the last of those that ended, where all did", async () => {
    await using shelf = await openFolder();
    await writeArchive(shelf.store);
    for (const hour of [0, 1]) await write(shelf, hour, 10, { isSealed: true });
    const last = await write(shelf, 2, 10, { isSealed: true });
    expect(await chosen(shelf)).toBe(last);
  });

  test("is of the primary that is meant, and of any other where there is none of it", async () => {
    await using shelf = await openFolder();
    await writeArchive(shelf.store);
    const meant = await write(shelf, 0, 10, { primary: "redis://meant:6379" });
    const other = await write(shelf, 1, 10, { primary: "redis://other:6379" });
    expect(await chosen(shelf, "redis://meant:6379")).toBe(meant);
    expect(await chosen(shelf, "redis://another:6379")).toBe(other);
  });
});
