import * as fs from "node:fs";
import { expect, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { filesIn, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import {
  bulkPayload,
  eofPayload,
  fakePrimary,
  standardHandshake,
} from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const MIB = 1024 * 1024;
const SET = encodeCommand(["SET", "key", "value"]);
const FIRST = smallRdb("the first");
const LARGE = smallRdb("v".repeat(3 * MIB));

function bytesIn(dir: string): number {
  if (!fs.existsSync(dir)) return 0;
  return fs.readdirSync(dir).reduce((sum, name) => sum + fs.statSync(`${dir}/${name}`).size, 0);
}

/**
 * A replica with room for 2 MiB and a clock of the test's; its primary's data has grown since the first snapshot.
 * @param payload how the primary sends the next ones.
 */
async function grown(payload: (rdb: Uint8Array) => Uint8Array) {
  const dir = tempDir("large");
  let links = 0;
  const primary = fakePrimary(async (peer: FakePeer) => {
    const isFirst = links++ === 0;
    const offset = isFirst ? 100 : 100 + SET.length;
    await standardHandshake(peer, { replid: REPLID, offset });
    await peer.send(isFirst ? bulkPayload(FIRST) : payload(LARGE));
    if (isFirst) await peer.send(SET);
  });
  const disk = new FaultyDisk();
  const state = { free: 2 * MIB, ms: 0 };
  // What is half received takes room.
  disk.freeBytes = () => state.free - bytesIn(dir.file("data", "generations", "0000000002"));
  const clock = { ...realClock, monotonicMs: () => realClock.monotonicMs() + state.ms };
  const replica = follow(
    primary.url,
    disk,
    dir,
    { "min-free": "0", io: "buffered" },
    undefined,
    clock,
  );
  await replica.connected();
  await until(() => replica.replica.log?.writtenOffset === 100 + SET.length, {
    what: "the first command",
  });
  const { renewal } = replica.replica;
  /** Why no new snapshot came; undefined where one did. */
  const renew = async () => {
    try {
      renewal.begin("the test");
    } catch (error) {
      return String(error);
    }
    await renewal.ended;
    return renewal.failure;
  };
  return {
    state,
    primary,
    renew,
    replica,
    async [Symbol.asyncDispose]() {
      await replica[Symbol.asyncDispose]();
      await primary.stop();
      dir.remove();
    },
  };
}

test.each([
  ["of known size", bulkPayload],
  ["of unknown size", eofPayload],
])("a snapshot %s that doesn't fit is asked for again once there is room", async (_, payload) => {
  await using rig = await grown(payload);
  const before = filesIn(rig.replica.path);
  expect(await rig.renew()).toMatch(/doesn't fit on the disk, which has room for/);
  expect(rig.primary.peers).toHaveLength(2);
  for (let time = 0; time < 3; time++) {
    expect(await rig.renew()).toMatch(/a new snapshot of about .* MiB doesn't fit on the disk/);
    expect(rig.primary.peers).toHaveLength(2);
  }
  expect(filesIn(rig.replica.path)).toEqual(before);
  expect(rig.replica.replica.state.at).toBe("connected");
  rig.state.free = 10 * MIB;
  expect(await rig.renew()).toBeUndefined();
  expect(rig.primary.peers).toHaveLength(3);
});

test("a snapshot that doesn't fit is asked for again at pauses that double: the data may have shrunk", async () => {
  await using rig = await grown(bulkPayload);
  for (const [links, pauseMs] of [
    [2, 5_000],
    [3, 10_000],
    [4, 20_000],
  ] as const) {
    expect(await rig.renew()).toMatch(/doesn't fit/);
    expect(rig.primary.peers).toHaveLength(links);
    rig.state.ms += pauseMs - 1_000;
    expect(await rig.renew()).toMatch(/doesn't fit/);
    expect(rig.primary.peers).toHaveLength(links);
    rig.state.ms += 1_000;
  }
});
