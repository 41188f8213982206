import { expect, test } from "bun:test";
import { LayoutRecorder } from "../../../src/cluster/follow/layout-recorder.ts";
import { ShardBook } from "../../../src/cluster/follow/shard-book.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import type { Believed } from "../../../src/cluster/topology/believe.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";

test("a gap is recorded once it has lasted for three seconds, whatever the wall clock says", () => {
  using dir = tempDir("layouts");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const book = new ShardBook(ledger);
  const recorder = new LayoutRecorder(ledger, false);
  const view: Believed = {
    from: { host: "h", port: 1 },
    topology: {
      myId: undefined,
      epoch: 1,
      isOk: true,
      slotsAssigned: 0,
      nodes: new Map(),
      shards: [],
    },
    open: new Map(),
  };
  const isNews = (atMs: number, passedMs: number) => recorder.record(view, book, atMs, passedMs);
  expect(isNews(1_000_000, 0)).toBe(false);
  // The clock is set forward, and back.
  expect(isNews(9_000_000, 2_999)).toBe(false);
  expect(isNews(500_000, 3_000)).toBe(true);
  ledger.close();
});
