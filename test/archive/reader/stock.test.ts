import { describe, expect, test } from "bun:test";
import { archivePoint } from "../../../src/archive/reader/archive-point.ts";
import { fetchGeneration } from "../../../src/archive/reader/fetch-generation.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import { availableServers, bootCopyOfDir } from "../../support/servers.ts";
import { ownParts } from "../../support/stock.ts";
import { tempDir } from "../../support/temp.ts";
import { randomCuts, writeArchive, writeGeneration } from "../../support/written-archive.ts";
import { never, openArchive, openBucket, quiet } from "./rig.ts";

describe.each(availableServers().slice(-1))("%s", (kind) => {
  test("starts from what was fetched from a bucket, with all its data", async () => {
    const { base, log, digest, keys } = await ownParts(kind);
    await using shelf = await openBucket();
    using dir = tempDir("fetched");
    await writeArchive(shelf.store);
    const stream = Buffer.from(log);
    const cuts = randomCuts(11, stream.length, 20);
    await writeGeneration(shelf.store, { rdb: base, stream, cuts, pieceBytes: 50_000 });
    const archive = await openArchive(shelf);
    const wanted = { generation: undefined, atMs: undefined, offset: undefined };
    const { generation, offset } = await archivePoint(archive, wanted, never);
    await fetchGeneration(archive, generation, offset, dir.file("data"), quiet);
    using catalogue = new Catalogue(dir.file("data"));
    const point = { generation: catalogue.generations[0]!, offset };
    await restore(catalogue, point, dir.file("target"), { ...quiet, layout: "multipart" });
    await using server = await bootCopyOfDir(kind, dir.file("target"), {
      args: ["--appendonly", "yes"],
    });
    expect(await server.keysPerDatabase()).toEqual(keys);
    expect(await server.digest()).toBe(digest);
  });
});
