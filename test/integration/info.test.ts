import { expect, test } from "bun:test";
import { REPLID, smallRdb } from "./bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { freePort } from "../support/ports.ts";
import { startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

type Fields = Map<string, string>;

/** The fields of INFO replication, by name. */
function fieldsOf(info: string): Fields {
  const lines = info.split("\r\n").filter((line) => line.includes(":"));
  return new Map(
    lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  );
}

/** The kind of a value, for a tool that parses it. */
function kindOf(value: string): string {
  if (/^-?\d+\.\d+$/.test(value)) return "number";
  if (/^[0-9a-f]{40}$/.test(value)) return "replication id";
  if (/^-?\d+$/.test(value)) return "whole number";
  return "text";
}

const kinds = (fields: Fields) =>
  Object.fromEntries([...fields].map(([name, value]) => [name, kindOf(value)]).toSorted());

async function grantFull(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 100 });
  await peer.send(bulkPayload(smallRdb("a value")));
}

/** For each state of a replica: a primary that brings it about, and how INFO shows it. */
const states: Record<
  string,
  { play: (peer: FakePeer) => Promise<void>; is: (seen: Fields) => boolean }
> = {
  "never connected": {
    play: async (peer) => await peer.closed,
    is: (seen) => seen.get("master_link_down_since_seconds") === "-1",
  },
  "receiving a payload": {
    play: async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 100 });
      await peer.send(bulkPayload(smallRdb("a value", 100_000)).subarray(0, 50_000));
      await peer.closed;
    },
    is: (seen) =>
      seen.get("master_sync_in_progress") === "1" && seen.get("master_sync_read_bytes") !== "0",
  },
  connected: {
    play: grantFull,
    is: (seen) => seen.get("master_link_status") === "up",
  },
  "no longer connected": {
    play: async (peer) => {
      if (peer.index > 0) return await peer.closed;
      await grantFull(peer);
      await peer.readAck(100);
      await peer.close();
    },
    is: (seen) =>
      seen.get("master_link_status") === "down" &&
      Number(seen.get("master_link_down_since_seconds")) >= 0,
  },
};

test.each(Object.entries(states))(
  "INFO replication has the fields of a real replica: %s",
  async (name, state) => {
    await using real = fakePrimary(state.play);
    await using server = await startServer("redis-7.0", {
      args: ["--replicaof", "127.0.0.1", new URL(real.url.replace("redis:", "http:")).port],
    });
    await using primary = fakePrimary(state.play);
    using dir = tempDir("info");
    const port = freePort();
    const flags = ["--dir", dir.file("data"), "--port", String(port), "--retry-max", "100ms"];
    await using replica = startReplica(["follow", primary.url, ...flags]);
    await replica.waitForLine(/serving/);
    await using client = await RespClient.connect({ port });
    const ours = await until(
      async () => {
        const seen = fieldsOf(String(await client.send("INFO", "replication")));
        return state.is(seen) ? seen : undefined;
      },
      { what: `our replica to be ${name}` },
    );
    const theirs = await until(
      async () => {
        const seen = new Map(Object.entries(await server.info("replication")));
        return state.is(seen) ? seen : undefined;
      },
      { what: `the real one to be ${name}` },
    );
    expect(kinds(ours)).toEqual(kinds(theirs));
    // The fields by which tools tell the roles apart.
    for (const field of [
      "role",
      "master_link_status",
      "master_sync_in_progress",
      "slave_read_only",
    ]) {
      expect([field, ours.get(field)]).toEqual([field, theirs.get(field)]);
    }
    expect(ours.get("slave_priority")).toBe("0");
  },
);
