import { expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { Demand } from "../../src/upstream/demand.ts";

const MIB = 1024 * 1024;

/** A replica whose snapshot has 24 MiB, at offset 0, with a log behind it. */
function rig({ logBytes = 10 * MIB } = {}) {
  const state = { ms: 0, begun: [] as number[], refusal: undefined as ReplicaError | undefined };
  const directory = { current: { id: 1, baseOffset: 0, rdbBytes: 24 * MIB } };
  const log = { writtenOffset: logBytes };
  let running: PromiseWithResolvers<void> | undefined;
  const renewal = {
    begin: () => {
      if (state.refusal !== undefined) throw state.refusal;
      state.begun.push(state.ms);
      running = Promise.withResolvers();
    },
    get runningSeconds() {
      return running && 0;
    },
    get ended() {
      return running?.promise ?? Promise.resolve();
    },
    counts: { ok: 0, failed: 0 },
    failure: "it failed",
  };
  const demand = new Demand({
    directory: directory as never,
    clock: { monotonicMs: () => state.ms, sleep: async (ms) => void (state.ms += ms) },
    settings: { snapshotRatio: 4 },
    keeper: { log },
    renewal,
  });
  /** The one under way ends. @param isRenewed undefined where it is given up. */
  const end = (isRenewed?: boolean) => {
    const { id, rdbBytes } = directory.current;
    if (isRenewed === false) renewal.counts.failed++;
    if (isRenewed === true)
      directory.current = { id: id + 1, rdbBytes, baseOffset: log.writtenOffset };
    running?.resolve();
    running = undefined;
  };
  const begun = async (count: number) => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    expect(state.begun).toHaveLength(count);
  };
  return { demand, directory, log, state, end, begun, renewal };
}

test("one is taken for all that wait, and the next one after a pause", async () => {
  const { demand, log, state, end, begun } = rig();
  const first = demand.ask(0, "a");
  expect(demand.ask(0, "b")).toBe(first!);
  await begun(1);
  end(true);
  await first;
  log.writtenOffset += 10 * MIB;
  const second = demand.ask(10 * MIB, "a");
  await begun(2);
  expect(state.begun).toEqual([0, 2_000]);
  end(true);
  await second;
});

test("one that is under way for another reason does as well", async () => {
  const { demand, end, begun, renewal } = rig();
  renewal.begin();
  const asked = demand.ask(0, "a");
  end(true);
  await asked;
  await begun(1);
});

test.each([
  [100, 0, 199, "there: less than half of its log is left", undefined],
  [100, 0, 201, "new: it would keep more than half of its log", 1],
  [100, 100, 300, "new: it has that one already", 1],
  [100, 120, 300, "new: its own is newer", 1],
  [100, 100, 101, "there: the log behind it is shorter than a 24th of it", undefined],
])(
  "snapshot of %p MiB, has %p, log up to %p: gets what is %s",
  async (base, has, end, _, forks) => {
    const { demand, directory, log } = rig();
    directory.current.baseOffset = base * MIB;
    log.writtenOffset = end * MIB - 1;
    expect(demand.ask(has * MIB, "a") === undefined).toBe(forks === undefined);
  },
);

test("one that can't begin costs the primary nothing, so the next may begin soon", async () => {
  const { demand, state, end, begun } = rig();
  state.refusal = new ReplicaError("NOT_FOLLOWING", { message: "the link is down" });
  for (let time = 0; time < 10; time++) await demand.ask(0, "a");
  state.refusal = undefined;
  const asked = demand.ask(0, "a");
  await begun(1);
  expect(state.ms).toBe(20_000);
  end(true);
  await asked;
});

test("one that is given up, as by REPLICAOF, is no failure", async () => {
  const { demand, state, end, begun } = rig();
  for (let count = 1; count <= 3; count++) {
    const asked = demand.ask(0, "a");
    await begun(count);
    end();
    await asked;
  }
  expect(state.begun).toEqual([0, 2_000, 4_000]);
});

test("after failures the pauses double up to 5 minutes, until one succeeds", async () => {
  const { demand, log, state, end, begun } = rig();
  /** One is asked for each second until it is begun. Returns how many seconds that took. */
  const renew = async (isRenewed: boolean) => {
    const fromMs = state.ms;
    const { length } = state.begun;
    let asked = demand.ask(0, "a");
    for (; asked === undefined; asked = demand.ask(0, "a")) state.ms += 1_000;
    await begun(length + 1);
    end(isRenewed);
    await asked;
    return (state.ms - fromMs) / 1000;
  };
  const pauses: number[] = [];
  for (let count = 0; count < 9; count++) pauses.push(await renew(false));
  expect(pauses).toEqual([0, 5, 10, 20, 40, 80, 160, 300, 300]);
  expect(await renew(true)).toBe(300);
  log.writtenOffset *= 3;
  expect(await renew(false)).toBe(2);
  expect(await renew(true)).toBe(5);
});

test("nothing is begun once it stops", async () => {
  const { demand, begun } = rig();
  await demand.stop();
  await demand.ask(0, "a");
  await begun(0);
});
