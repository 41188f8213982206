import { describe, expect, test } from "bun:test";
import {
  MAX_CHAIN,
  plainAddress,
  readBufferLimit,
  readFacts,
  readLinkAddresses,
} from "../../../src/upstream/link/primary-facts.ts";

import { describeRefusedWrites } from "../../../src/upstream/link/supply-words.ts";

const RUN_ID = "0123456789abcdef0123456789abcdef01234567";

test("reads a primary's INFO, and a replica's", () => {
  const primary = `# Server\r\nrun_id:${RUN_ID}\r\nuptime_in_seconds:12\r\nrole:master\r\nmaster_repl_offset:34\r\nrdb_last_bgsave_status:err\r\nrdb_bgsave_in_progress:1\r\nlatest_fork_usec:1500\r\nrepl_backlog_size:1048576\r\nclient_output_buffer_limit_disconnections:2\r\n`;
  expect(readFacts(primary)).toEqual({
    runId: RUN_ID,
    uptimeSeconds: 12,
    role: "master",
    upstream: undefined,
    offset: 34,
    lastSaveFailed: true,
    isSaving: true,
    lastForkMs: 1.5,
    backlogBytes: 1_048_576,
    bufferDisconnections: 2,
    keyspace: undefined,
    fieldExpiries: 0,
    isClusterNode: false,
    goodReplicas: undefined,
    replicas: [],
  });
  const replica =
    "role:slave\r\nmaster_host:10.0.0.5\r\nmaster_port:6379\r\nmaster_link_status:down\r\nmaster_link_down_since_seconds:7\r\nmaster_last_io_seconds_ago:-1\r\n";
  expect(readFacts(replica).upstream).toEqual({
    name: "10.0.0.5:6379",
    port: 6379,
    isUp: false,
    downSeconds: 7,
    silentSeconds: undefined,
    reason: "",
    runIds: [],
  });
  const alone = `${replica}state:none\r\nunsupplied_reason:\r\nupstream_run_ids:\r\n`;
  expect(readFacts(alone).upstream?.name).toBe("");
  expect(
    readFacts("role:slave\r\nmaster_host:/run/redis.sock\r\nmaster_port:0\r\n").upstream?.name,
  ).toBe("/run/redis.sock");
});

test("takes nothing from an INFO that is no such thing", () => {
  const unknown = {
    runId: "",
    role: "unknown",
    upstream: undefined,
    uptimeSeconds: undefined,
    offset: undefined,
    lastSaveFailed: false,
    lastForkMs: undefined,
    bufferDisconnections: undefined,
    keyspace: undefined,
    isClusterNode: false,
    goodReplicas: undefined,
    replicas: [],
  };
  const wrong = `run_id:${RUN_ID}x\r\nuptime_in_seconds:-1\r\nmaster_repl_offset:9999999999999999999\r\nlatest_fork_usec:x\r\n`;
  for (const text of ["", "garbage", "<html>", wrong, "role:active-replica\r\n", "role:\r\n"])
    expect(readFacts(text)).toMatchObject(unknown);
  const ids = Array.from({ length: 100 }, () => RUN_ID);
  const hostile = readFacts(
    `role:slave\r\nmaster_host:${"h".repeat(5_000)}\r\nunsupplied_reason:\u001b[2J${"x".repeat(5_000)}\r\nupstream_run_ids:no,${ids.join(",")}\r\n`,
  ).upstream!;
  expect(hostile.runIds).toHaveLength(MAX_CHAIN);
  expect(hostile.reason.length).toBeLessThan(400);
  expect(hostile.reason).not.toContain("\u001b");
  expect(hostile.name.length).toBeLessThan(400);
});

test("reads the limit for replicas, by either name", () => {
  const rest = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
  const limit = { hardBytes: 268_435_456, softBytes: 67_108_864, softSeconds: 60 };
  expect(readBufferLimit(rest)).toEqual(limit);
  expect(readBufferLimit(rest.replace("slave", "replica"))).toEqual(limit);
  for (const text of ["", "normal 0 0 0", "slave 1 2", "slave a b c"]) {
    expect(readBufferLimit(text)).toBeUndefined();
  }
});

test("finds a server's own end of the link to its primary", () => {
  const list =
    "id=5 addr=127.0.0.1:15250 laddr=127.0.0.1:55286 fd=8 name= flags=M db=0\nid=6 addr=127.0.0.1:1 laddr=127.0.0.1:2 flags=N db=0\n";
  expect(readLinkAddresses(list)).toEqual(["127.0.0.1:55286"]);
  // Before Redis 6.2.
  expect(readLinkAddresses("id=5 addr=127.0.0.1:15250 fd=8 flags=M db=0\n")).toEqual([]);
  for (const address of ["[::ffff:10.0.0.5]:1", "::ffff:10.0.0.5:1", "10.0.0.5:1"]) {
    expect(plainAddress(address)).toBe("10.0.0.5:1");
  }
  expect(plainAddress("[::1]:1")).toBe("[::1]:1");
});

describe("a primary that counts no replica for min-replicas-to-write", () => {
  const facts = (good: string, ...rows: string[]) =>
    readFacts(
      ["role:master", good, ...rows.map((row, at) => `slave${at}:ip=::1,${row},type=replica`)].join(
        "\r\n",
      ),
    );
  const none = "min_slaves_good_slaves:0";

  test("refuses writes until this one's snapshot is there, or while it isn't heard", () => {
    const waiting = facts(none, "port=6380,state=wait_bgsave,offset=0,lag=0");
    expect(waiting.goodReplicas).toBe(0);
    expect(waiting.replicas).toEqual([{ port: 6380, state: "wait_bgsave", lagSeconds: 0 }]);
    expect(describeRefusedWrites(waiting, [6380])?.text).toEndWith(
      "counts no replica (min_slaves_good_slaves:0); this one counts once its snapshot is here (state wait_bgsave)",
    );
    const silent = (lag: number) =>
      describeRefusedWrites(
        facts(none, `port=6380,state=online,offset=9,lag=${lag}`),
        [6380, 7000],
      );
    expect(silent(75)?.text).toEndWith(
      "min-replicas-max-lag, for 1 min: see the network, and the disk here",
    );
    expect(silent(75)?.why).toBe(silent(900)!.why);
  });

  test.each([
    ["others count", facts("min_slaves_good_slaves:1", "port=6380,state=online,offset=0,lag=99")],
    ["it needs none", facts("", "port=6380,state=wait_bgsave,offset=0,lag=0")],
    ["this one isn't among them", facts(none, "port=6381,state=online,offset=0,lag=99")],
    ["two may be this one", facts(none, ...Array(2).fill("port=6380,state=online,offset=0,lag=9"))],
    ["its row is no row", facts(none, "port=6380,state=online")],
  ])("not where %s", (_why, said) => {
    expect(describeRefusedWrites(said, [6380])).toBeUndefined();
  });
});
