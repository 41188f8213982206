import { describe, expect, test } from "bun:test";
import {
  keepPlan,
  type KeepRules,
  MOMENT_MS,
  type SealedOne,
} from "../../../src/store/keep/plan.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = 100 * DAY;

/** A generation by its kind and how long ago it was sealed: `worth`, `moment`, `small`, `blank`. */
type Made = readonly [kind: "worth" | "moment" | "small" | "blank", agoMs: number];

/** Sealed generations, the first one the oldest, with ids from 1 on. */
function sealed(made: readonly Made[]): SealedOne[] {
  return made
    .map(([kind, agoMs], at) => ({
      id: at + 1,
      currentLivedMs: NOW - agoMs - (kind === "moment" ? MOMENT_MS - 1 : HOUR),
      sealedLivedMs: NOW - agoMs,
      rdbBytes: 1_000,
      isBlank: kind === "blank",
      isSmall: kind === "small",
    }))
    .toReversed();
}

function plan(made: readonly Made[], rules: Partial<KeepRules> = {}) {
  return keepPlan(sealed(made), {
    keep: 2,
    keepForMs: DAY,
    nowMs: NOW,
    guards: new Map(),
    ...rules,
  });
}

const OPEN = { isWell: false };
const WELL = { isWell: true };

describe("what goes by age", () => {
  const cases: [string, readonly Made[], Partial<KeepRules>, readonly number[]][] = [
    [
      "nothing of the last day",
      [
        ["worth", DAY - 1],
        ["moment", 2],
        ["moment", 1],
      ],
      {},
      [],
    ],
    [
      "what is older, oldest first",
      [
        ["worth", 9 * DAY],
        ["worth", DAY],
        ["worth", 3],
        ["worth", 2],
      ],
      {},
      [1, 2],
    ],
    [
      "none among the newest --keep",
      [
        ["worth", 9 * DAY],
        ["worth", 8 * DAY],
        ["worth", 7 * DAY],
      ],
      {},
      [1],
    ],
    [
      "--keep 0 keeps what is young",
      [
        ["worth", 2 * DAY],
        ["worth", HOUR],
      ],
      { keep: 0 },
      [1],
    ],
    [
      "all with --keep 0 and without --keep-for",
      [
        ["worth", 2],
        ["worth", 1],
      ],
      { keep: 0, keepForMs: undefined },
      [1, 2],
    ],
    [
      "what was current for moments pushes out nothing",
      [
        ["worth", 3 * DAY],
        ["worth", 3 * DAY],
        ["moment", 2 * DAY],
        ["moment", 2 * DAY],
        ["moment", 2 * DAY],
      ],
      {},
      [3],
    ],
    [
      "what is small pushes out nothing",
      [
        ["worth", 3 * DAY],
        ["worth", 3 * DAY],
        ["small", 2 * DAY],
        ["small", 2 * DAY],
        ["small", 2 * DAY],
      ],
      {},
      [3],
    ],
    [
      "what is blank pushes out nothing",
      [
        ["worth", 3 * DAY],
        ["blank", 2 * DAY],
        ["blank", 2 * DAY],
        ["blank", 2 * DAY],
        ["blank", 2 * DAY],
      ],
      {},
      [2, 3],
    ],
    [
      "of blank ones in a row the first tells all, even within the day",
      [
        ["worth", HOUR],
        ["blank", 9],
        ["blank", 8],
        ["blank", 7],
        ["blank", 6],
        ["blank", 5],
      ],
      {},
      [3, 4],
    ],
    [
      "blank ones with something between them tell different things",
      [
        ["blank", 9],
        ["moment", 8],
        ["blank", 7],
        ["moment", 6],
        ["worth", 5],
      ],
      { keep: 0 },
      [],
    ],
    [
      "nothing guarded",
      [
        ["worth", 9 * DAY],
        ["worth", 8 * DAY],
        ["worth", 3],
        ["worth", 2],
      ],
      { guards: new Map([[1, OPEN]]) },
      [2],
    ],
    [
      "nothing guarded, well or not",
      [
        ["worth", 9 * DAY],
        ["worth", 8 * DAY],
        ["worth", 3],
        ["worth", 2],
      ],
      { guards: new Map([[2, WELL]]) },
      [1],
    ],
    [
      "none that seems to be sealed in the future",
      [
        ["worth", -9 * DAY],
        ["worth", 2 * DAY],
        ["worth", -DAY],
      ],
      { keep: 0 },
      [1, 2],
    ],
  ];
  test.each(cases)("%s", (_, made, rules, due) => {
    expect(plan(made, rules).due).toEqual([...due]);
  });

  test("a thousand blank ones a day leave four, and the one of worth", () => {
    const blanks = Array.from({ length: 1_000 }, (_, n): Made => ["blank", 1_000 - n]);
    const made: Made[] = [["worth", 2_000], ...blanks];
    const { due } = plan(made);
    const gone = new Set(due);
    expect(
      sealed(made)
        .filter(({ id }) => !gone.has(id))
        .map(({ id }) => id),
    ).toEqual([1_001, 1_000, 2, 1]);
  });
});

describe("what goes where the disk has no room", () => {
  const cases: [
    string,
    readonly Made[],
    Partial<KeepRules>,
    readonly number[],
    readonly number[],
  ][] = [
    [
      "the oldest first",
      [
        ["worth", 3],
        ["worth", 2],
        ["worth", 1],
      ],
      {},
      [1, 2, 3],
      [],
    ],
    [
      "blank ones, then small ones and those of moments, then the others",
      [
        ["worth", 9],
        ["moment", 8],
        ["blank", 7],
        ["small", 6],
        ["blank", 5],
        ["worth", 4],
      ],
      {},
      [3, 5, 2, 4, 1, 6],
      [],
    ],
    [
      "what nothing keeps, too, in the same order",
      [
        ["worth", 9 * DAY],
        ["moment", 8 * DAY],
        ["worth", 7 * DAY],
      ],
      { keep: 0 },
      [2, 1, 3],
      [],
    ],
    [
      "the guarded ones last, those that are back before the others",
      [
        ["worth", 9],
        ["worth", 8],
        ["moment", 7],
      ],
      {
        guards: new Map([
          [1, OPEN],
          [2, WELL],
        ]),
      },
      [3],
      [2, 1],
    ],
  ];
  test.each(cases)("%s", (_, made, rules, spare, last) => {
    const { spare: first, last: then } = plan(made, rules);
    expect([first, then]).toEqual([[...spare], [...last]]);
  });

  test("of two guarded ones, the smaller before the larger", () => {
    const [newer, older] = sealed([
      ["worth", 9],
      ["worth", 8],
    ]) as [SealedOne, SealedOne];
    const guards = new Map([
      [1, OPEN],
      [2, OPEN],
    ]);
    const rules = { keep: 2, keepForMs: DAY, nowMs: NOW, guards };
    const of = (rdbBytes: number) => keepPlan([newer, { ...older, rdbBytes }], rules).last;
    expect([of(999), of(1_001)]).toEqual([
      [1, 2],
      [2, 1],
    ]);
  });
});
