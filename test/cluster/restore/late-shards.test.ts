import { expect, test } from "bun:test";
import type { OpenSlot } from "../../../src/cluster/ledger/layouts.ts";
import { planRestore } from "../../../src/cluster/restore/plan.ts";
import { hasSlot } from "../../../src/cluster/slots/slot-ranges.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { keySlot } from "../../support/key-slot.ts";
import { tempDir } from "../../support/temp.ts";
import { madeUpHistory, type Seen } from "./made-up.ts";
import { type Heard, madeUpShard } from "./made-up-shard.ts";

const SLOT = keySlot("{a}");
const AT_MS = 1_000_000;
const JOB = "f".repeat(40);
/** All slots are shard 1's, but for slot 0, which shard 2 has; and then SLOT, too. */
const BEFORE: Seen = [0, { 1: [[1, 16_383]], 2: [[0, 0]] }];
const after = (atMs: number): Seen => [
  atMs,
  {
    1: [
      [1, SLOT - 1],
      [SLOT + 1, 16_383],
    ],
    2: [
      [0, 0],
      [SLOT, SLOT],
    ],
  },
];

interface Given {
  readonly seen: readonly Seen[];
  readonly open?: readonly OpenSlot[];
  readonly source: readonly Heard[];
  readonly target: readonly Heard[];
  /** What a third shard hears. */
  readonly third?: readonly Heard[];
}

/** For the moment: whose the slot is, each shard's appendix, the source's last offset, and the notes. */
async function planned({ seen, open = [], source, target, third = [] }: Given) {
  using dir = tempDir("late-shards");
  const began: Heard = [AT_MS - 60_000, "PING"];
  const logs = new Map([
    [1, madeUpShard(dir, "source", [began, ...source])],
    [2, madeUpShard(dir, "target", [began, ...target])],
    [3, madeUpShard(dir, "third", [began, ...third])],
  ]);
  const shards = new Map([...logs].map(([number, { catalogue }]) => [number, catalogue]));
  const plan = await planRestore({ history: madeUpHistory(seen, open), shards }, AT_MS, {
    nowMs: AT_MS + 60_000,
    disk: realDisk,
    signal: new AbortController().signal,
  });
  const appendices = new Map<number, string>();
  for (const { number, appendix } of plan.shards) {
    let text = "";
    for await (const piece of appendix()) text += Buffer.from(piece).toString("latin1");
    appendices.set(number, text);
  }
  const owner = plan.shards.find(({ slots }) => hasSlot(slots, SLOT))!.number;
  const sourceEnd = plan.shards.find(({ number }) => number === 1)!.point.offset;
  return { owner, appendices, sourceEnd, notes: plan.notes };
}

const REMOVED: readonly Heard[] = [
  [AT_MS - 9_000, "SET {b}1 1"],
  [AT_MS - 3_500, "DEL {a}1"],
  [AT_MS - 100, "SET {b}2 1"],
  [AT_MS + 3_000, "SET {b}3 1"],
];
const LATE: readonly Heard[] = [
  [AT_MS - 4_000, "PING"],
  [AT_MS + 3_500, "RESTORE-ASKING {a}1 0 payload"],
  [AT_MS + 8_000, "PING"],
];
const OPEN = { slot: SLOT, source: 1, target: 2, fromMs: AT_MS - 4_000, untilMs: undefined };

test("keys that came late to an open slot's target stay in their source", async () => {
  const { owner, appendices } = await planned({
    seen: [BEFORE],
    open: [OPEN],
    source: REMOVED,
    target: LATE,
  });
  expect(owner).toBe(1);
  expect(appendices.get(1)).toContain("payload");
  expect(appendices.get(2)).not.toContain("payload");
});

test("keys that came behind the first thing that was heard of a late target are found too", async () => {
  const target: readonly Heard[] = [
    [AT_MS - 4_000, "PING"],
    [AT_MS + 1_500, "SET {b}4 1"],
    // What a link brings once it is back takes its time on a busy machine.
    [AT_MS + 2_600, "RESTORE-ASKING {a}1 0 payload"],
    [AT_MS + 8_000, "PING"],
  ];
  const given = { seen: [BEFORE], open: [OPEN], source: REMOVED };
  const { appendices } = await planned({ ...given, target });
  expect(appendices.get(1)).toContain("payload");
  expect(appendices.get(2)).not.toContain("payload");
  // What came within two seconds of the moment is brought by who looks at these, and by nobody else.
  const sooner = target.with(2, [AT_MS + 1_900, "RESTORE-ASKING {a}1 0 payload"]);
  const soon = (await planned({ ...given, target: sooner })).appendices;
  expect([...soon.values()].join().split("payload").length - 1).toBe(1);
});

test("keys that came late to the slot's new owner are there", async () => {
  const open = [{ ...OPEN, untilMs: AT_MS - 3_200 }];
  const seen = [BEFORE, after(AT_MS - 3_000)];
  const { owner, appendices } = await planned({ seen, open, source: REMOVED, target: LATE });
  expect(owner).toBe(2);
  expect(appendices.get(2)).toContain("payload");
});

test("a key that its owner hadn't removed by the moment isn't brought from later", async () => {
  const source: readonly Heard[] = [
    [AT_MS - 100, "SET {b}2 1"],
    [AT_MS + 3_000, "DEL {a}1"],
  ];
  const given = { seen: [BEFORE], open: [OPEN], source, target: LATE };
  const { appendices } = await planned(given);
  expect(appendices.get(1)).not.toContain("payload");
});

test("nor is one that was deleted, and made anew behind the moment before it moved", async () => {
  const source = REMOVED.toSpliced(
    3,
    1,
    [AT_MS + 2_500, "SET {a}1 2"],
    [AT_MS + 3_400, "DEL {a}1"],
  );
  const given = { seen: [BEFORE], open: [OPEN], target: LATE };
  expect((await planned({ ...given, source })).appendices.get(1)).not.toContain("payload");
  // One that came back by a migration had been on its way.
  const back = source.with(3, [AT_MS + 2_500, "RESTORE-ASKING {a}1 0 back"]);
  expect((await planned({ ...given, source: back })).appendices.get(1)).toContain("payload");
});

test("nor is one that was made anew in a third shard, to which the slot had moved", async () => {
  const given = { seen: [BEFORE], open: [OPEN, { ...OPEN, target: 3 }], source: REMOVED };
  const third: readonly Heard[] = [
    [AT_MS - 100, "PING"],
    [AT_MS + 2_500, "SET {a}1 2"],
    [AT_MS + 3_400, "DEL {a}1"],
  ];
  const made = await planned({ ...given, target: LATE, third });
  expect(made.appendices.get(1)).not.toContain("payload");
  const still = await planned({ ...given, target: LATE, third: third.slice(0, 1) });
  expect(still.appendices.get(1)).toContain("payload");
});

test("where nothing more came of the target, it is told which slots may lack keys", async () => {
  const target = LATE.slice(0, 1);
  const given = { seen: [BEFORE], open: [OPEN], source: REMOVED, target };
  const { notes } = await planned(given);
  expect(notes.join()).toContain(
    `nothing came of shard 0002 while slots ${SLOT} were moving to it from shard 0001`,
  );
  const still = await planned({ ...given, source: REMOVED.toSpliced(1, 1) });
  expect(still.notes.join()).not.toContain("nothing came");
});

test.each([AT_MS - 3_000, AT_MS - 1_000])(
  "the source keeps slots whose atomic migration ended late in its target's log, seen by %d",
  async (seenMs) => {
    const source = REMOVED.with(1, [AT_MS - 3_500, "UNLINK {a}1"]);
    const { owner, sourceEnd, notes } = await planned({
      seen: [BEFORE, after(seenMs)],
      source,
      target: [
        [AT_MS - 4_000, "PING"],
        [
          AT_MS + 3_500,
          `CLUSTER SYNCSLOTS ESTABLISH SOURCE ${JOB} NAME ${JOB} SLOTSRANGE ${SLOT} ${SLOT}`,
        ],
        [AT_MS + 3_500, `CLUSTER SYNCSLOTS FINISH STATE SUCCESS NAME ${JOB} MESSAGE done`],
      ],
    });
    expect(owner).toBe(1);
    using dir = tempDir("late-shards");
    const before: readonly Heard[] = [[0, "PING"], source[0]!];
    expect(sourceEnd).toBe(madeUpShard(dir, "before", before).generation.durableOffset);
    expect(notes.join()).toContain("shard 0001 ends before slots of it were gone");
  },
);

const [, SLOTS_BEFORE] = BEFORE;

test.each([
  ["a later one shows the new owner", [after(AT_MS + 30_000)]],
  ["none came any more", []],
])("a slot that moved while nobody looked keeps its keys, where %s", async (_, later) => {
  const { owner, appendices } = await planned({
    seen: [[0, SLOTS_BEFORE, AT_MS - 50_000], ...later],
    source: [
      [AT_MS - 40_000, "DEL {a}1"],
      [AT_MS - 100, "SET {b}2 1"],
      [AT_MS + 9_000, "PING"],
    ],
    target: [
      [AT_MS - 40_000, "RESTORE-ASKING {a}1 0 payload"],
      [AT_MS - 100, "SET {a}2 new"],
      [AT_MS + 9_000, "PING"],
    ],
  });
  expect(owner).toBe(1);
  expect(appendices.get(1)).toContain("payload");
  expect(appendices.get(1)).toContain("new");
});

test("a slot without keys that moved while nobody looked keeps what was written since", async () => {
  const { owner, appendices } = await planned({
    seen: [[0, SLOTS_BEFORE, AT_MS - 50_000], after(AT_MS + 30_000)],
    source: [
      [AT_MS - 100, "SET {b}2 1"],
      [AT_MS + 9_000, "PING"],
    ],
    target: [
      [AT_MS - 20_000, "SET {a}2 new"],
      [AT_MS + 9_000, "PING"],
    ],
  });
  expect(owner).toBe(1);
  expect(appendices.get(1)).toContain("new");
});
