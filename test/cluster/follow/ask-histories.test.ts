import { expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { askHistories } from "../../../src/cluster/follow/ask-histories.ts";
import type { ShardView } from "../../../src/cluster/topology/topology.ts";

const NONE = "0".repeat(40);
const [A, B, C] = ["a", "b", "c"].map((one) => one.repeat(40)) as [string, string, string];

function view(port: number, health: "ok" | "failed" = "ok"): ShardView {
  const nothing = { primaryId: undefined, isLoading: false, configEpoch: 0, slots: [], open: [] };
  const primary = { ...nothing, id: `${port}`, role: "primary" as const, health };
  return {
    shardId: undefined,
    primary: { ...primary, address: { host: "h", port } },
    replicas: [],
    slots: [],
  };
}

test("finds who keeps a history, now or once; who doesn't answer has none", async () => {
  const says = new Map([
    [1, `role:master\r\nmaster_replid:${A}\r\nmaster_replid2:${NONE}\r\n`],
    [2, `role:master\r\nmaster_replid:${C}\r\nmaster_replid2:${B}\r\n`],
    [3, "role:master\r\n"],
  ]);
  const views = [view(1), view(2), view(3), view(4), view(5, "failed")];
  const kept = [
    { number: 1, replids: [A] },
    { number: 2, replids: [A, B] },
  ];
  const asked: number[] = [];
  const found = await askHistories(
    views,
    kept,
    async ({ port }) => {
      asked.push(port);
      const said = says.get(port);
      if (said === undefined) throw new ReplicaError("CONNECT_FAILED", { message: "refused" });
      return said;
    },
    realClock,
  );
  // Shard 2 was in history A once, shard 1 is in it.
  expect(views.map((one) => found.get(one))).toEqual([
    { current: 1, previous: undefined },
    { current: undefined, previous: 2 },
    undefined,
    undefined,
    undefined,
  ]);
  expect(asked).toEqual([1, 2, 3, 4]);
});

test("a history that two shards were in once is nobody's", async () => {
  const one = view(1);
  const kept = [1, 2].map((number) => ({ number, replids: [A, number === 1 ? B : C] }));
  const found = await askHistories([one], kept, async () => `master_replid:${A}\r\n`, realClock);
  expect(found.get(one)).toEqual({ current: undefined, previous: undefined });
});

test("a node that is silent holds up nobody for long", async () => {
  const [fast, silent] = [view(1), view(2)];
  const never = new Promise<string>(() => undefined);
  const found = await askHistories(
    [fast, silent],
    [{ number: 7, replids: [A] }],
    ({ port }) => (port === 1 ? Promise.resolve(`master_replid:${A}\r\n`) : never),
    { sleep: () => Bun.sleep(1) },
  );
  expect([found.get(fast)?.current, found.has(silent)]).toEqual([7, false]);
});
