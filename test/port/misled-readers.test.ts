import { describe, expect, test } from "bun:test";
import { realDisk } from "../../src/store/disk/disk.ts";
import { isMisled, isSentinel } from "../../src/port/refuse-unknown.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";

const SENTINEL = "sentinel-0123abcd-cmd";
const NO_KEYS = "ERR this replica keeps its data on disk and answers no key commands";

test("tells a Sentinel's connections by their names", () => {
  for (const name of [SENTINEL, "sentinel-0123abcd-pubsub"])
    expect(isSentinel({ name })).toBe(true);
  for (const name of ["", "sentinel", "my-sentinel-0123abcd-cmd", "sentinel-0123abcd-cmd2"]) {
    expect(isSentinel({ name })).toBe(false);
  }
});

describe("a client may have been sent here by a Sentinel that has not asked yet", () => {
  interface Times {
    began: number;
    gone?: number;
    came?: number;
    name?: string;
    /** So short a time ago that a tool is disconnected too, which may be no reader. */
    isShort?: boolean;
  }
  const cases: [string, Times, boolean][] = [
    ["there is none", { began: 50_000 }, false],
    ["it came shortly after the client", { began: 50_000, came: 50_150 }, true],
    ["it came shortly before the client", { began: 50_000, came: 49_500 }, true],
    ["it came seconds before the client", { began: 50_000, came: 46_000, isShort: false }, true],
    ["it came long before the client", { began: 50_000, came: 40_000 }, false],
    ["it came long after the client", { began: 50_000, came: 60_000 }, false],
    ["it has just gone", { began: 50_000, gone: 49_900 }, true],
    ["it has gone long ago", { began: 50_000, gone: 10_000 }, false],
    ["another client came at the same time", { began: 50_000, came: 50_000, name: "tool" }, false],
  ];
  test.each(cases)(
    "%s",
    (_what, { began, gone, came, name = SENTINEL, isShort = true }, expected) => {
      const context = {
        clients: new Set(came === undefined ? [] : [{ beganAtMs: came, name }]),
        settings: { announce: false },
        sentinelGoneAtMs: () => gone ?? -Infinity,
      };
      const client = { beganAtMs: began };
      expect(isMisled(context, client, "get", ["key"])).toBe(expected);
      expect(isMisled(context, client, "client", ["SetInfo", "LIB-NAME", "redis-py"])).toBe(
        expected && isShort,
      );
      // Monitors, tools and replicas are answered all the same.
      for (const words of ["client setname tool", "info", "ping", "psync ? -1", "frob"]) {
        const [verb = "", ...args] = words.split(" ");
        expect(isMisled(context, client, verb, args)).toBe(false);
      }
      const announced = { ...context, settings: { announce: true } };
      expect(isMisled(announced, client, "get", ["key"])).toBe(false);
    },
  );
});

/** What a new client is told: the replies, and whether its connection is then closed. */
async function told(port: number): Promise<readonly unknown[]> {
  await using client = await RespClient.connect({ port });
  const replies = ["PING", "GET a", "PING"].map((line) =>
    client
      .send(...(line.split(" ") as [string]))
      .catch((error: Error) => (client.isClosed ? "closed" : error.message)),
  );
  return await Promise.all(replies);
}

test.each(["no", "yes"] as const)(
  "with --announce %s, a key command of a client that came with a Sentinel",
  async (announce) => {
    using dir = tempDir("misled");
    await using primary = fakePrimary(async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 100 });
      await peer.send(bulkPayload(smallRdb("a value")));
    });
    await using replica = follow(primary.url, realDisk, dir, { announce });
    await replica.connected();
    const { port } = replica;
    const refused = ["PONG", NO_KEYS, "PONG"];
    const closed = ["PONG", "closed", "closed"];
    expect(await told(port)).toEqual(refused);
    {
      await using sentinel = await RespClient.connect({ port });
      await sentinel.send("CLIENT", "SETNAME", SENTINEL);
      const info = String(await sentinel.send("INFO", "replication"));
      expect(info).toContain(`\r\nreplica_announced:${announce === "yes" ? 1 : 0}\r\n`);
      const [name, value] = (await sentinel.send("CONFIG", "GET", "replica-announced")) as string[];
      expect([name, value]).toEqual(["replica-announced", announce]);
      expect(await told(port)).toEqual(announce === "yes" ? refused : closed);
    }
    expect(await told(port)).toEqual(announce === "yes" ? refused : closed);
  },
);
