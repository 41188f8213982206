import { expect, spyOn, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import { logger } from "../../../src/base/logger.ts";
import type { Believed } from "../../../src/cluster/topology/believe.ts";
import { ClusterTrouble } from "../../../src/cluster/topology/cluster-trouble.ts";
import type { ClusterNode } from "../../../src/cluster/topology/topology.ts";

const timeout = new ReplicaError("TIMED_OUT", { message: "no answer" });
const pending = new ReplicaError("STOPPED", { message: "it has not answered yet" });

function viewOf(...nodes: Partial<ClusterNode>[]): Believed {
  const all = nodes.map((more, at): ClusterNode => ({
    id: `n${at}`,
    address: { host: `h${at}`, port: 1 },
    role: "primary",
    primaryId: undefined,
    health: "ok",
    isLoading: false,
    slots: [],
    configEpoch: 1,
    open: [],
    ...more,
  }));
  return {
    from: { host: "h0", port: 1 },
    topology: {
      myId: "n0",
      epoch: 1,
      isOk: true,
      slotsAssigned: 16_384,
      nodes: new Map(all.map((node) => [node.id, node])),
      shards: [],
    },
    open: new Map(),
  };
}

test("an address that never answered is told once after thirty seconds, and one that did is not", () => {
  let nowMs = 0;
  const trouble = new ClusterTrouble(
    { monotonicMs: () => nowMs },
    { kind: "cluster", tls: false, seeds: [], username: undefined, password: undefined },
  );
  const view = viewOf({}, {}, {}, { health: "failed" });
  using warn = spyOn(logger, "warn");
  const said = () => warn.mock.calls.map(([message]) => /at (h\d)/.exec(message)?.[1]);
  trouble.answered("h0:1");
  for (const name of ["h0:1", "h1:1", "h3:1"]) trouble.failed(name, timeout);
  // Nothing follows of a question that is still out.
  trouble.failed("h2:1", pending);
  for (nowMs = 0; nowMs < 30_000; nowMs += 10_000) trouble.tell(view, [], []);
  expect(said()).toEqual([]);
  nowMs = 30_000;
  trouble.tell(view, [], []);
  trouble.failed("h1:1", new ReplicaError("CONNECT_FAILED", { message: "refused now" }));
  trouble.tell(view, [], []);
  expect(said()).toEqual(["h1"]);
  // It is reached, and never told again.
  trouble.answered("h1:1");
  trouble.failed("h1:1", timeout);
  nowMs = 90_000;
  trouble.tell(view, [], []);
  expect(said()).toEqual(["h1"]);
});
