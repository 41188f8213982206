import { describe, expect, spyOn, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { Position, ReplicationId } from "../../../src/base/history.ts";
import { logger } from "../../../src/base/logger.ts";
import { ShardNaming, type ShardNamingOptions } from "../../../src/cluster/follow/shard-naming.ts";
import type { NodeSelf } from "../../../src/cluster/topology/node-self.ts";
import { SnapshotGate } from "../../../src/cluster/follow/snapshot-gate.ts";
import type { ClusterNode, ShardView } from "../../../src/cluster/topology/topology.ts";
import type { PrimaryTarget } from "../../../src/config/primary-url.ts";
import { listenedSignal } from "../../support/listened-signal.ts";
import { until } from "../../support/wait.ts";

const never = new AbortController().signal;
const REPLID = "1".repeat(40) as ReplicationId;
const KEPT: Position = { replid: REPLID, offset: 100 };

function node(id: string, more: Partial<ClusterNode> = {}): ClusterNode {
  return {
    id,
    address: { host: `${id}.example`, port: 7000 },
    role: "primary",
    primaryId: undefined,
    health: "ok",
    isLoading: false,
    slots: [],
    configEpoch: 1,
    open: [],
    ...more,
  };
}

function view(primary: ClusterNode, replicas: readonly ClusterNode[] = []): ShardView {
  return { shardId: undefined, primary, replicas, slots: [[0, 9]] };
}

function primaryInfo(replid = REPLID): string {
  return `role:master\r\nmaster_replid:${replid}\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:1000\r\n`;
}

function replicaInfo(more: { link?: string; replid?: string; offset?: number } = {}): string {
  const { link = "up", replid = REPLID, offset = 1_000 } = more;
  return `role:slave\r\nmaster_link_status:${link}\r\nmaster_replid:${replid}\r\nmaster_repl_offset:${offset}\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:${offset}\r\n`;
}

/** A naming, and what it sees, which tests change. */
function naming(more: Partial<ShardNamingOptions> = {}) {
  const seen = {
    view: view(node("a"), [node("b", { role: "replica" })]) as ShardView | undefined,
    failure: undefined as ReplicaError | undefined,
    info: primaryInfo(),
    /** What replicas say in INFO. */
    replicaInfo: replicaInfo(),
    /** Whose replicas they say they are. */
    primaryId: "a",
    /** What a server says of itself in place of what its address tells. */
    selves: new Map<string, NodeSelf | ReplicaError>(),
    askedHosts: [] as string[],
    resume: KEPT as Position | undefined,
    gate: new SnapshotGate(1),
    nowMs: 1_000,
  };
  const made = new ShardNaming({
    number: 3,
    source: { kind: "cluster", tls: false, seeds: [], username: "u", password: "p" },
    readFrom: "primary",
    gate: seen.gate,
    clock: { monotonicMs: () => seen.nowMs, sleep: async () => await Promise.resolve() },
    look: async () => {
      if (seen.failure !== undefined) throw seen.failure;
      return await Promise.resolve(seen.view);
    },
    askSelf: async ({ host }) => {
      seen.askedHosts.push(host);
      const self = await Promise.resolve(seen.selves.get(host));
      if (self instanceof ReplicaError) throw self;
      if (self !== undefined) return self;
      const id = host.replace(".example", "");
      if (seen.view?.primary.id === id)
        return { kind: "node", id, primaryId: undefined, replication: seen.info };
      return { kind: "node", id, primaryId: seen.primaryId, replication: seen.replicaInfo };
    },
    resume: () => seen.resume,
    ...more,
  });
  return { made, seen };
}

async function complaint(act: Promise<unknown>): Promise<ReplicaError> {
  try {
    await act;
  } catch (error) {
    if (error instanceof ReplicaError) return error;
    throw error;
  }
  throw new Error("nothing was complained of");
}

const silence = () => new ReplicaError("PRIMARY_UNKNOWN", { message: "nobody answers" });

describe("the primary of a shard", () => {
  test("is whom the cluster names, with the cluster's login", async () => {
    const { made } = naming();
    expect(await made.locate(never)).toEqual({
      kind: "tcp",
      host: "a.example",
      port: 7000,
      username: "u",
      password: "p",
    });
  });

  test("is nobody where the shard isn't shown, has failed or has no address", async () => {
    const { made, seen } = naming();
    seen.view = undefined;
    expect((await complaint(made.locate(never))).message).toContain("shard 3 isn't in the cluster");
    seen.view = view(node("a", { health: "failed" }));
    expect((await complaint(made.locate(never))).message).toContain("no replica has taken over");
    seen.view = view(node("a", { address: undefined }));
    expect((await complaint(made.locate(never))).message).toContain("no address");
  });

  test("is nobody while the named one says that it is a replica", async () => {
    const { made, seen } = naming();
    seen.info = primaryInfo().replace("role:master", "role:slave");
    const error = await complaint(made.locate(never));
    expect(error.code).toBe("PRIMARY_UNKNOWN");
    expect(error.message).toContain("says that it is a replica now");
    seen.info = primaryInfo();
    seen.view = view(node("a", { role: "replica" }));
    expect((await complaint(made.locate(never))).message).toContain(
      "says that it is a replica now",
    );
  });

  test("is undefined once it is stopped, even while nobody answers", async () => {
    const stopping = new AbortController();
    const { made } = naming({ look: async () => await new Promise<undefined>(() => undefined) });
    const located = made.locate(stopping.signal);
    stopping.abort();
    expect(await located).toBeUndefined();
  });
});

describe("a look", () => {
  test("that shows another primary than the one it named ends the wait for the next attempt", async () => {
    const { made } = naming();
    const named = node("a");
    const heir = node("b");
    made.saw(view(heir));
    expect(made.changed.aborted).toBe(false);
    await made.locate(never);
    const { changed } = made;
    made.saw(view(named));
    made.saw(undefined);
    made.saw(view(node("b", { health: "failed" })));
    made.saw(view(node("b", { role: "replica" })));
    made.saw(view(node("b", { address: undefined })));
    expect(changed.aborted).toBe(false);
    made.saw(view(heir, [named]));
    expect(changed.aborted).toBe(true);
    // The next wait is another one.
    expect(made.changed.aborted).toBe(false);
  });

  test("that shows the replica which is followed changes nothing", async () => {
    const { made } = naming({ readFrom: "replica" });
    await made.locate(never);
    const { changed } = made;
    made.saw(view(node("c"), [node("b", { role: "replica" })]));
    expect(changed.aborted).toBe(false);
    made.saw(view(node("c"), [node("b", { role: "replica", health: "failed" })]));
    expect(changed.aborted).toBe(true);
  });
});

describe("where no node answers", () => {
  test("the last one goes on with what is kept, told once, and replaces nothing", async () => {
    const { made, seen } = naming();
    const followed = (await made.locate(never)) as PrimaryTarget;
    await made.refuseFull();
    seen.failure = silence();
    using warn = spyOn(logger, "warn");
    expect(await made.locate(never, followed)).toBe(followed);
    expect(await made.locate(never, followed)).toBe(followed);
    expect(warn.mock.calls.map(([message]) => message)).toEqual([
      "nobody answers; trying redis://u@a.example:7000 again, the node that was followed last, and only to go on with what is kept",
    ]);
    expect((await complaint(made.refuseFull())).message).toContain(
      "no full resync of shard 3, since no node",
    );
    seen.failure = undefined;
    await made.locate(never, followed);
    await made.refuseFull();
  });

  test("nobody is followed where nothing is kept, or none was followed", async () => {
    const { made, seen } = naming();
    const followed = (await made.locate(never)) as PrimaryTarget;
    seen.failure = silence();
    expect((await complaint(made.locate(never))).message).toBe("nobody answers");
    seen.resume = undefined;
    expect((await complaint(made.locate(never, followed))).message).toBe("nobody answers");
  });

  test("but whoever answers isn't believed, nobody is followed", async () => {
    const { made, seen } = naming();
    const followed = (await made.locate(never)) as PrimaryTarget;
    seen.failure = new ReplicaError("NOT_A_PRIMARY", { message: "older" });
    expect((await complaint(made.locate(never, followed))).message).toBe("older");
  });
});

test("a full resync is refused once the node has joined another shard", async () => {
  const { made, seen } = naming();
  await made.locate(never);
  await made.refuseFull();
  seen.view = view(node("c"));
  expect((await complaint(made.refuseFull())).code).toBe("PRIMARY_UNKNOWN");
  seen.view = view(node("a"));
  seen.info = primaryInfo().replace("role:master", "role:slave");
  expect((await complaint(made.refuseFull())).message).toContain("it is a replica now");
});

describe("a server that isn't the node which the cluster has there", () => {
  const other: NodeSelf = { kind: "node", id: "x", primaryId: undefined, replication: "" };
  const nameless: NodeSelf = { kind: "nameless", said: "ERR cluster is off", replication: "" };

  test.each([
    ["another node", other, "it is node x"],
    ["no node", nameless, "it says: ERR cluster is off"],
  ])("isn't followed: %s", async (_what, self, said) => {
    const { made, seen } = naming();
    seen.selves.set("a.example", self);
    const error = await complaint(made.locate(never));
    expect(error).toMatchObject({ code: "PRIMARY_UNKNOWN", retry: "backoff" });
    expect(error.message).toBe(
      `the server at a.example:7000 isn't node a, which the cluster has there for shard 3 (${said}): it isn't followed`,
    );
    seen.selves.clear();
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
  });

  test("replaces nothing, and neither does one that doesn't say who it is", async () => {
    const { made, seen } = naming();
    await made.locate(never);
    const away = new ReplicaError("TIMED_OUT", { message: "no answer" });
    for (const self of [other, nameless, { kind: "busy", replication: "" } as const, away]) {
      seen.selves.set("a.example", self);
      expect((await complaint(made.refuseFull())).code).toBe("PRIMARY_UNKNOWN");
    }
    seen.selves.clear();
    await made.refuseFull();
  });

  test("isn't followed where no node answers either", async () => {
    const { made, seen } = naming();
    const followed = (await made.locate(never)) as PrimaryTarget;
    seen.failure = silence();
    seen.selves.set("a.example", other);
    expect((await complaint(made.locate(never, followed))).message).toContain("it is node x");
  });

  test("is told apart from one that can't be asked: the attempt says what is wrong with that", async () => {
    const { made, seen } = naming();
    seen.selves.set("a.example", new ReplicaError("CONNECT_FAILED", { message: "refused" }));
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
    seen.selves.set("a.example", { kind: "busy", replication: "" });
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
  });
});

describe("--cluster-read-from replica", () => {
  test("names a healthy replica, and the primary where there is none, told once", async () => {
    const { made, seen } = naming({ readFrom: "replica" });
    expect(await made.locate(never)).toMatchObject({ host: "b.example" });
    seen.view = view(node("a"), [node("b", { role: "replica", health: "failed" })]);
    using warn = spyOn(logger, "warn");
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
    expect(warn.mock.calls.map(([message]) => message)).toEqual([
      "shard 3 has no healthy replica: its primary is followed until it has one",
    ]);
    seen.view = view(node("a"), [node("b", { role: "replica" })]);
    seen.replicaInfo = replicaInfo({ link: "down" });
    using info = spyOn(logger, "info");
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
    expect(info).not.toHaveBeenCalled();
    seen.replicaInfo = replicaInfo();
    seen.nowMs += 60_000;
    expect(await made.locate(never)).toMatchObject({ host: "b.example" });
    expect(info.mock.calls.map(([message]) => message)).toEqual([
      "shard 3 has a healthy replica again",
    ]);
  });

  test.each<[string, (seen: ReturnType<typeof naming>["seen"]) => void]>([
    [
      "whose link is down",
      (seen) => {
        seen.replicaInfo = replicaInfo({ link: "down" });
      },
    ],
    [
      "that was given to another shard",
      (seen) => {
        seen.primaryId = "c";
        seen.replicaInfo = replicaInfo({ replid: "2".repeat(40) });
      },
    ],
    [
      "that has less than what is kept",
      (seen) => {
        seen.replicaInfo = replicaInfo({ offset: 50 });
      },
    ],
    [
      "that may not be asked for INFO",
      (seen) => {
        seen.replicaInfo = "";
      },
    ],
    [
      "that is another server",
      (seen) => {
        seen.selves.set("b.example", { kind: "nameless", said: "ERR", replication: "" });
      },
    ],
  ])("follows no replica %s", async (_what, change) => {
    const { made, seen } = naming({ readFrom: "replica" });
    change(seen);
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
    expect(await made.findReplica(seen.view!)).toBeUndefined();
  });

  test("waits for a replica that is some bytes late", async () => {
    const clock = {
      monotonicMs: () => 0,
      sleep: async () => {
        seen.replicaInfo = replicaInfo({ offset: 100 });
        return await Promise.resolve();
      },
    };
    const { made, seen } = naming({ readFrom: "replica", clock });
    seen.replicaInfo = replicaInfo({ offset: 99 });
    expect(await made.locate(never)).toMatchObject({ host: "b.example" });
  });

  test("takes a snapshot of a replica only where its primary can't go on either", async () => {
    const { made, seen } = naming({ readFrom: "replica" });
    seen.replicaInfo = replicaInfo({ replid: "2".repeat(40) });
    expect(await made.locate(never)).toMatchObject({ host: "a.example" });
    seen.info = primaryInfo("2".repeat(40) as ReplicationId);
    expect(await made.locate(never)).toMatchObject({ host: "b.example" });
    await made.refuseFull();
    seen.primaryId = "c";
    expect((await complaint(made.refuseFull())).code).toBe("PRIMARY_UNKNOWN");
  });
});

test("a replica that can't be followed is left alone for a minute", async () => {
  const { made, seen } = naming({ readFrom: "replica" });
  const target = (await made.locate(never))!;
  expect(target).toMatchObject({ host: "b.example" });
  made.judge(target, false);
  expect(await made.locate(never)).toMatchObject({ host: "a.example" });
  seen.nowMs += 60_000;
  expect(await made.locate(never)).toMatchObject({ host: "b.example" });
});

describe("an attempt that may bring a snapshot waits for its turn", () => {
  test("where nothing is kept, until it has ended", async () => {
    const { made, seen } = naming();
    seen.resume = undefined;
    const free = (await seen.gate.enter(never))!;
    const located = made.locate(never);
    await until(() => seen.gate.waiting === 1, { what: "it to wait" });
    free();
    expect(await located).toBeDefined();
    // It holds its place until the attempt is judged.
    const next = seen.gate.enter(never);
    expect(seen.gate.waiting).toBe(1);
    made.judge((await located)!, true);
    expect(await next).toBeDefined();
  });

  test("and keeps nothing of the attempt once that is judged, however many fail", async () => {
    const { made, seen } = naming();
    seen.resume = undefined;
    const { signal, listeners } = listenedSignal();
    const target = (await made.locate(signal))!;
    expect(listeners.size).toBe(1);
    made.judge(target, false);
    expect(listeners.size).toBe(0);
  });

  test("and leaves it to others where it is broken off", async () => {
    const { made, seen } = naming();
    seen.resume = undefined;
    const breaking = new AbortController();
    expect(await made.locate(breaking.signal)).toBeDefined();
    const next = seen.gate.enter(never);
    breaking.abort();
    expect(await next).toBeDefined();
  });

  test("where the primary can't continue what is kept; one that can doesn't wait", async () => {
    const { made, seen } = naming();
    await seen.gate.enter(never);
    expect(await made.locate(never)).toBeDefined();
    seen.info = primaryInfo("2".repeat(40) as ReplicationId);
    const stopping = new AbortController();
    const located = made.locate(stopping.signal);
    await until(() => seen.gate.waiting === 1, { what: "it to wait" });
    stopping.abort();
    expect(await located).toBeUndefined();
    expect(seen.gate.waiting).toBe(0);
  });
});
