import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { realClock } from "../../src/base/clock.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);

test("a link that ends at the full disk again and again is noted once, and again after it held", async () => {
  using dir = tempDir("flapping");
  let attempts = 0;
  await using primary = fakePrimary(async (peer) => {
    const psyncReply = attempts++ === 0 ? undefined : "+CONTINUE";
    const answer = psyncReply === undefined ? {} : { psyncReply };
    await standardHandshake(peer, { replid: REPLID, offset: 100, ...answer });
    if (psyncReply === undefined) await peer.send(bulkPayload(smallRdb("a value")));
    await peer.send(SET);
  });
  const disk = new FaultyDisk();
  const state = { ms: 0 };
  const clock = { ...realClock, monotonicMs: () => realClock.monotonicMs() + state.ms };
  const settings = { "retry-max": "10ms", timeout: "1h" };
  await using replica = follow(primary.url, disk, dir, settings, undefined, clock);
  await replica.connected();
  const { resyncs, links } = replica.replica;
  const flaps = async (count: number) => {
    const before = resyncs.partial;
    await until(() => resyncs.partial >= before + count, { what: `${count} attempts` });
  };
  const events = () => {
    using database = new Database(join(replica.path, "replica.db"), { readonly: true });
    const rows = database
      .query<{ kind: string }, []>("SELECT kind FROM events ORDER BY rowid")
      .all();
    return rows.map(({ kind }) => kind);
  };
  disk.fail({ operation: "write", code: "ENOSPC", half: true });
  await primary.peers[0]!.send(SET);
  await flaps(5);
  const told = ["full-resync", "break", "cut-back", "partial-resync"];
  await flaps(20);
  expect(events()).toEqual(told);
  expect(links.counts.get("DISK_FULL")).toBe(1);
  disk.heal();
  await replica.connected();
  await primary.peers.at(-1)!.send(SET);
  await until(() => (replica.replica.log?.durableOffset ?? 0) >= 100 + 2 * SET.length, {
    what: "a mark",
  });
  // It has held for a while.
  state.ms += 11_000;
  disk.fail({ operation: "write", code: "ENOSPC", half: true });
  await primary.peers.at(-1)!.send(SET);
  await flaps(5);
  expect(events()).toEqual([...told, ...told.slice(1)]);
  expect(links.counts.get("DISK_FULL")).toBe(2);
});
