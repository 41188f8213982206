import { describe, expect, test } from "bun:test";
import type { ArchiveLag, ArchiverFacts } from "../../src/archive/writer/archiver-status.ts";
import { ReplicaError } from "../../src/base/errors.ts";
import { ArchiveReport } from "../../src/replica/archive-status.ts";
import { SkippingClock } from "../support/skipping-clock.ts";

const MIB = 1024 * 1024;
const none = { objects: 0, bytes: 0 };
const away = new ReplicaError("ARCHIVE_FAILED", { message: "storing s3://b/p/x: 503" });
const conflict = new ReplicaError("ARCHIVE_CONFLICT", { message: "it is there already" });
const failing = { error: away, failingSinceMs: Date.UTC(2026, 10, 30, 12) };

/** A report on an archiver that is well but for what is given. */
function report(facts: Partial<ArchiverFacts> = {}, lag: Partial<ArchiveLag> | Error = {}) {
  const clock = new SkippingClock();
  const told = {
    asked: 0,
    lag: lag as Partial<ArchiveLag> | Error,
    facts: {
      url: "s3://b/p",
      everyMs: 10_000,
      generation: 2,
      archivedOffset: 100,
      sent: { document: none, piece: none, segment: none },
      lastSuccessMs: undefined,
      failures: new Map(),
      error: undefined,
      failingSinceMs: undefined,
      lastFailure: undefined,
      stopped: new Map(),
      ...facts,
    } satisfies ArchiverFacts,
  };
  const view = {
    get facts() {
      return told.facts;
    },
    lag(): ArchiveLag {
      told.asked++;
      if (told.lag instanceof Error) throw told.lag;
      return { lagBytes: 0, lagBaseBytes: 0, lagMs: 0, stoppedCurrent: undefined, ...told.lag };
    },
  };
  return { clock, told, report: new ArchiveReport(view, clock) };
}

type Case = [what: string, Partial<ArchiverFacts>, Partial<ArchiveLag> | Error, string];

describe("says in words", () => {
  const cases: Case[] = [
    ["that it archives", {}, { lagBytes: 100, lagMs: 12_000 }, "archiving"],
    ["that nothing is kept", { generation: undefined }, {}, "waiting for a generation"],
    [
      "that a snapshot is being sent",
      { archivedOffset: undefined },
      { lagBaseBytes: 3 * MIB, lagMs: 12_000 },
      "archiving: 3.0 MiB of snapshots are still to be sent",
    ],
    [
      "that it is behind",
      {},
      { lagBytes: 2 * MIB, lagMs: 90_000 },
      "behind by 1 min: 2.0 MiB of log are still to be sent",
    ],
    [
      "that it is behind with a snapshot",
      {},
      { lagBytes: 2 * MIB, lagBaseBytes: MIB, lagMs: 20_001 },
      "behind by 20 s: 2.0 MiB of log and 1.0 MiB of snapshots are still to be sent",
    ],
    [
      "that it fails, however far it is behind",
      failing,
      { lagBytes: 2 * MIB, lagMs: 90_000 },
      "failing since 2026-11-30T12:00:00.000Z: storing s3://b/p/x: 503",
    ],
    [
      "that the current generation was given up",
      { stopped: new Map([[3, conflict]]) },
      { lagBytes: 10, lagMs: 90_000, stoppedCurrent: 3 },
      "stopped for generation 3: it is there already",
    ],
    [
      "that old ones were given up",
      {
        stopped: new Map([
          [1, conflict],
          [2, conflict],
        ]),
      },
      {},
      "archiving; given up: generations 1, 2",
    ],
    [
      "that the database fails",
      {},
      new Error("reading replica.db: EIO"),
      "how far the archive is behind is not known: reading replica.db: EIO",
    ],
  ];
  test.each(cases)("%s", (_, facts, lag, text) => {
    expect(report(facts, lag).report.status.text).toBe(text);
  });
});

describe("is up", () => {
  const cases: [string, Partial<ArchiverFacts>, Partial<ArchiveLag> | Error, boolean][] = [
    ["while all is well", {}, {}, true],
    ["also while it is behind", {}, { lagMs: 90_000, lagBytes: 1 }, true],
    ["not while it fails", failing, {}, false],
    ["not while the current generation is given up", {}, { stoppedCurrent: 3 }, false],
    ["also with an old one given up", { stopped: new Map([[1, conflict]]) }, {}, true],
  ];
  test.each(cases)("%s", (_, facts, lag, isUp) => {
    expect(report(facts, lag).report.status.isUp).toBe(isUp);
  });
});

describe("counts as not ready", () => {
  const MOST_MS = 60_000;
  const late = "the archive lacks what became durable 1 min ago";
  const cases: [string, Partial<ArchiverFacts>, Partial<ArchiveLag> | Error, string | undefined][] =
    [
      ["not while it is only as late as it may be", {}, { lagMs: MOST_MS }, undefined],
      ["not while it fails without being late", failing, { lagMs: 1_000 }, undefined],
      ["where it is too late", {}, { lagMs: 60_001, lagBytes: 1 }, late],
      [
        "with what fails",
        failing,
        { lagMs: 60_001, lagBytes: 1 },
        `${late}; it is failing since 2026-11-30T12:00:00.000Z: storing s3://b/p/x: 503`,
      ],
      [
        "with what was given up",
        { stopped: new Map([[3, conflict]]) },
        { lagMs: 60_001, stoppedCurrent: 3 },
        `${late}; it is stopped for generation 3: it is there already`,
      ],
      [
        "with the snapshot without which nothing can be restored",
        { archivedOffset: undefined },
        { lagMs: 60_001, lagBaseBytes: 5 * MIB },
        `${late}: 5.0 MiB of snapshots are still to be sent`,
      ],
      [
        "where nobody knows",
        {},
        new Error("reading replica.db: EIO"),
        "how far the archive is behind is not known: reading replica.db: EIO",
      ],
    ];
  test.each(cases)("%s", (_, facts, lag, why) => {
    expect(report(facts, lag).report.whyNotReady(MOST_MS)).toBe(why!);
  });
});

test("asks the database once a second, however often it is asked, whether that fails or not", () => {
  const { report: tested, told, clock } = report();
  for (let n = 0; n < 1000; n++) void tested.status;
  expect(told.asked).toBe(1);
  told.lag = new Error("EIO");
  clock.skip(1000);
  for (let n = 0; n < 1000; n++) expect(tested.status.lag).toBeUndefined();
  expect(told.asked).toBe(2);
  told.lag = { lagBytes: 7 };
  clock.skip(1000);
  expect(tested.status.lag?.lagBytes).toBe(7);
});
