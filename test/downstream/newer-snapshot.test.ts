import { expect, spyOn, test } from "bun:test";
import { newerThanCapability } from "../../src/base/capabilities.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { currentBase, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { follow } from "../support/following.ts";
import { type Downstream, fullSync, relaying } from "../support/relaying.ts";
import { encodeCommand } from "../support/resp.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const FIRST = smallRdb("a value");
const SECOND = smallRdb("another");
/** Enough of the stream that a new snapshot is worth its fork. */
const LONG = encodeCommand(["SET", "key", "v".repeat(100_000)]).toString();
const END = 100 + LONG.length;

function reply(rdb: Uint8Array, offset: number): string {
  return `+FULLRESYNC ${REPLID} ${offset}\r\n$${rdb.length}\r\n${Buffer.from(rdb).toString("latin1")}`;
}

/** Asks for a snapshot alone, as the second link of another `replica` does that has the one of this offset. */
async function wish(downstream: Downstream, newerThan: number | undefined): Promise<void> {
  const capability = newerThan === undefined ? "eof" : newerThanCapability(newerThan);
  expect(await downstream.ask("REPLCONF", "capa", capability)).toBe("+OK");
  expect(await downstream.ask("REPLCONF", "rdb-only", 1)).toBe("+OK");
  downstream.say("PSYNC", "?", -1);
}

async function gets(downstream: Downstream, what: string): Promise<void> {
  await until(() => downstream.came.endsWith(what), { what: "its snapshot" });
}

test("who wants a newer snapshot waits for one, with newlines; all that wait get the same", async () => {
  const { promise: granted, resolve: grant } = Promise.withResolvers<void>();
  const second = async (peer: FakePeer) => {
    await granted;
    await fullSync(peer, SECOND, END);
  };
  await using relay = await relaying({}, [fullSync, second]);
  await relay.streamOn(0, LONG);
  await using waiting = await relay.connect();
  await wish(waiting, 100);
  await using too = await relay.connect();
  await wish(too, 100);
  await until(() => waiting.came.endsWith("+OK\r\n\n"), { what: "a newline" });
  // A backup gets what is there.
  await using backup = await relay.connect();
  await wish(backup, undefined);
  await gets(backup, reply(FIRST, 100));
  // It may go away meanwhile.
  await using gone = await relay.connect();
  await wish(gone, 100);
  gone.reset();
  grant();
  await gets(waiting, reply(SECOND, END));
  await gets(too, reply(SECOND, END));
  expect(relay.primary.peers).toHaveLength(2);
  // Now there is one that spares most of the log.
  await relay.streamOn(0, LONG.slice(0, LONG.length / 2));
  await using later = await relay.connect();
  await wish(later, 100);
  await gets(later, reply(SECOND, END));
  expect(relay.primary.peers).toHaveLength(2);
});

test("gets it, too, where a newline is sent in the same moment", async () => {
  await using relay = await relaying();
  const { promise: renewing, resolve: renewed } = Promise.withResolvers<void>();
  relay.replica.upkeep.demand.ask = () => renewing;
  await using waiting = await relay.connect();
  using timers = spyOn(globalThis, "setInterval");
  await wish(waiting, 100);
  const newline = () => timers.mock.calls.find(([, ms]) => ms === 1_000)?.[0];
  await until(() => newline() !== undefined, { what: "the newlines to begin" });
  (newline() as () => void)();
  renewed();
  await gets(waiting, `\n${reply(FIRST, 100)}`);
});

test("gets what is there where no other can be taken, and none is asked for again at once", async () => {
  await using relay = await relaying({}, [fullSync, (peer) => peer.close()]);
  await relay.streamOn(0, LONG);
  for (let time = 0; time < 2; time++) {
    await using downstream = await relay.connect();
    await wish(downstream, 100);
    await gets(downstream, reply(FIRST, 100));
  }
  expect(relay.primary.peers).toHaveLength(2);
  expect(relay.replica.state.at).toBe("connected");
});

test.each([
  ["the log is short", {}, "SET key value\r\n"],
  ["--snapshot-ratio 0 takes none", { "snapshot-ratio": "0" }, LONG],
])("gets what is there where %s", async (_, settings, stream) => {
  await using relay = await relaying(settings, [fullSync]);
  await relay.streamOn(0, stream);
  await using downstream = await relay.connect();
  await wish(downstream, 100);
  await gets(downstream, reply(FIRST, 100));
  expect(relay.primary.peers).toHaveLength(1);
});

test("in a chain the wish goes up to the primary, which forks once, and the links stay", async () => {
  await using relay = await relaying({}, [fullSync, (peer) => fullSync(peer, SECOND, END)]);
  using dirs = {
    middle: tempDir("middle"),
    last: tempDir("last"),
    [Symbol.dispose]: () => undefined,
  };
  await using middle = follow(`redis://127.0.0.1:${relay.port}`, realDisk, dirs.middle);
  await middle.connected();
  await using last = follow(`redis://127.0.0.1:${middle.port}`, realDisk, dirs.last);
  await last.connected();
  await relay.streamOn(0, LONG);
  await until(() => last.replica.log!.writtenOffset === END, { what: "the stream" });
  last.replica.renewal.begin("the test");
  await last.replica.renewal.ended;
  expect(last.replica.renewal.failure).toBeUndefined();
  for (const { path, replica } of [relay, middle, last]) {
    expect(currentBase(path).equals(SECOND)).toBe(true);
    expect(replica.resyncs.full).toBe(1);
    expect(replica.state.at).toBe("connected");
  }
  expect(relay.primary.peers).toHaveLength(2);
  await relay.streamOn(0, "PING\r\n");
  await until(() => last.replica.log!.writtenOffset === END + 6, { what: "the stream" });
});
