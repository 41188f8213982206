import { expect, test } from "bun:test";
import { usageError } from "../../src/base/errors.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { noCounts } from "../../src/monitor/port-counts.ts";
import type { ClusterContext } from "../../src/port/call.ts";
import { Client } from "../../src/port/clients/client.ts";
import { LoginThrottle } from "../../src/port/clients/logins.ts";
import { PubSub } from "../../src/port/clients/pubsub.ts";
import { COMMANDS, forCluster } from "../../src/port/command-table.ts";
import { answer } from "../../src/port/dispatch.ts";
import { fakeCluster } from "../support/fake-cluster-status.ts";

/** A port that answers for two shards, of which none runs. */
function rig(mayChange = true) {
  const did: string[] = [];
  const parts = {
    cluster: {
      status: fakeCluster([undefined, undefined]),
      hasPassword: true,
      username: "me",
      bgsave: (by: string) => did.push(`bgsave ${by}`),
      accept: (shard: number | undefined) => {
        if (shard === 3) throw usageError("there is no shard 3");
        did.push(`accept ${shard ?? "all"}`);
      },
    },
    shutdown: () => void did.push("shutdown"),
  };
  const { commands } = forCluster(parts);
  const clients = new Set<Client>();
  const context: ClusterContext = {
    ...parts,
    commands,
    pubsub: new PubSub(),
    clients,
    maxClients: 10,
    logins: new LoginThrottle(),
    mayChange,
    ownPassword: undefined,
    settings: loadSettings({ flags: new Map(), env: {} }),
    version: "1.2.3",
    port: 6380,
    counts: noCounts(),
    now: () => 1_700_000_000_000,
    sentinelGoneAtMs: () => -Infinity,
    alarm: () => undefined,
  };
  const client = new Client(
    { id: 1, address: "127.0.0.1:1", localAddress: "127.0.0.1:6380", nowMs: 0, needsLogin: false },
    { send: () => 0, offer: () => 0, proceed: () => undefined, end: () => undefined },
  );
  clients.add(client);
  const ask = (...words: string[]) =>
    Buffer.from(
      answer(
        context,
        client,
        words.map((word) => Buffer.from(word)),
      ) ?? [],
    ).toString();
  return { ask, did, commands };
}

test("every command of a replica's port is there, and says what it means for a cluster", () => {
  const { ask, commands } = rig();
  expect([...COMMANDS.keys()].filter((name) => !commands.has(name))).toEqual([]);
  for (const words of [
    ["PSYNC", "?", "-1"],
    ["SYNC"],
    ["REPLICAOF", "127.0.0.1", "6379"],
    ["SLAVEOF", "NO", "ONE"],
    ["WAIT", "1", "0"],
    ["REPLCONF", "listening-port", "6380"],
  ]) {
    expect(ask(...words)).toStartWith("-ERR this port answers for all shards of a cluster");
  }
  expect(ask("GET", "key")).toStartWith("-ERR this replica keeps its data on disk");
  expect(ask("DBSIZE")).toStartWith("-ERR this replica keeps its data on disk");
  expect(ask("PING")).toBe("+PONG\r\n");
});

test("INFO has a section for the shards, and CONFIG GET the cluster's directory", () => {
  const { ask } = rig();
  expect(ask("INFO", "shards")).toContain("shard0002:state=failed,ready=0,slots=8192-16383\r\n");
  expect(ask("INFO", "server")).toContain("replica_version:1.2.3");
  expect(ask("ROLE")).toBe("*5\r\n$5\r\nslave\r\n$0\r\n\r\n:0\r\n$7\r\nconnect\r\n:-1\r\n");
  expect(ask("CONFIG", "GET", "dir")).toContain("/data");
  expect(ask("CONFIG", "GET", "masteruser")).toContain("me");
  expect(ask("CONFIG", "SET", "masterauth", "secret")).toStartWith(
    "-ERR the settings of a cluster",
  );
  expect(ask("LASTSAVE")).toBe(":0\r\n");
});

test("BGSAVE is for all shards, REPLICA ACCEPT for one or all", () => {
  const { ask, did } = rig();
  expect(ask("BGSAVE")).toBe("+Background saving started\r\n");
  expect(ask("BGSAVE", "NOW")).toBe("-ERR syntax error\r\n");
  expect(ask("REPLICA", "ACCEPT")).toBe("+OK\r\n");
  expect(ask("REPLICA", "ACCEPT", "2")).toBe("+OK\r\n");
  expect(ask("REPLICA", "ACCEPT", "3")).toBe("-ERR there is no shard 3\r\n");
  expect(ask("REPLICA", "ACCEPT", "x")).toStartWith("-ERR");
  ask("SHUTDOWN");
  expect(did).toEqual(["bgsave BGSAVE from 127.0.0.1:1", "accept all", "accept 2", "shutdown"]);
});

test("who may only look changes nothing", () => {
  const { ask, did } = rig(false);
  for (const words of [
    ["BGSAVE"],
    ["REPLICA", "ACCEPT"],
    ["SHUTDOWN"],
    ["CONFIG", "SET", "a", "b"],
  ])
    expect(ask(...words)).toStartWith("-DENIED ");
  expect(did).toEqual([]);
  expect(ask("INFO", "replica")).toContain("ready:0");
});
