import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { CostlyPhase } from "../../../src/upstream/link/breaks.ts";
import { describeChange, type Evidence, explainBreak } from "../../../src/upstream/link/causes.ts";
import type { PrimaryFacts } from "../../../src/upstream/link/primary-facts.ts";

const MIB = 1024 * 1024;
const lost = new ReplicaError("LINK_LOST", { message: "the primary closed the link" });
const silent = new ReplicaError("TIMED_OUT", { message: "silent" });

/** A primary that has been up for an hour. */
const facts: PrimaryFacts = {
  runId: "a".repeat(40),
  role: "master",
  uptimeSeconds: 3_600,
  upstream: undefined,
  offset: 1_000,
  lastSaveFailed: false,
  isSaving: false,
  lastForkMs: 1,
  backlogBytes: MIB,
  bufferDisconnections: undefined,
  keyspace: undefined,
  fieldExpiries: 0,
  isClusterNode: false,
  goodReplicas: undefined,
  replicas: [],
};
const limit = { hardBytes: 256 * MIB, softBytes: 64 * MIB, softSeconds: 60 };
/** Broke after 10 s, at offset 1000. */
const seen = { offset: 1_000, transfer: undefined, seconds: 10, pausedSeconds: 0 };

interface Scene {
  readonly phase?: CostlyPhase;
  readonly error?: ReplicaError;
  readonly before?: Partial<PrimaryFacts>;
  readonly after?: Partial<PrimaryFacts>;
  readonly limit?: Evidence["limit"];
  readonly seconds?: number;
  readonly now?: Evidence["now"];
  readonly olderForm?: string;
}

function said(scene: Scene): string {
  const { phase = "transfer", error = lost, before = {}, after = {}, seconds = 10 } = scene;
  return explainBreak(
    { phase, error, seen: { ...seen, seconds } },
    {
      before: { facts: { ...facts, ...before }, agoMs: 5_000 },
      now: scene.now ?? { kind: "facts", facts: { ...facts, ...after } },
      limit: "limit" in scene ? scene.limit : limit,
      olderForm: scene.olderForm,
    },
  );
}

test("names a restart by another run id that is younger than the link, else another server", () => {
  const other = { ...facts, runId: "b".repeat(40) };
  expect(said({ after: { ...other, uptimeSeconds: 3 } })).toBe(
    "the primary was restarted: it has been up for 3 s",
  );
  expect(said({ after: other })).toBe(
    "another server answers at the primary's address now: it has been up for 1 h 0 min",
  );
  expect(describeChange(facts, facts, 1)).toBeUndefined();
  expect(describeChange({ ...facts, runId: "" }, other, 1)).toBeUndefined();
  // Nothing was known before: its uptime tells.
  const evidence = { before: undefined, limit: undefined };
  const broken = { phase: "transfer", error: lost, seen } as const;
  const young = { kind: "facts", facts: { ...facts, uptimeSeconds: 4 } } as const;
  expect(explainBreak(broken, { ...evidence, now: young })).toContain("was restarted");
  const old = { kind: "facts", facts: { ...facts, uptimeSeconds: 40 } } as const;
  expect(explainBreak(broken, { ...evidence, now: old })).toContain("was not restarted");
});

describe("names the output buffer limit", () => {
  const raise = "raise client-output-buffer-limit replica there";

  test("where the primary counted one more, and as much waited", () => {
    const counted = { before: { bufferDisconnections: 1 } };
    const much = { bufferDisconnections: 2, offset: 1_000 + 300 * MIB };
    expect(said({ ...counted, after: much })).toBe(
      `300.0 MiB of the stream waited there, and it closed a client for its output buffer: ${raise}`,
    );
    // It was another client.
    expect(said({ ...counted, after: { bufferDisconnections: 2 } })).not.toContain("raise");
    // None was closed, however much has come since.
    const none = { bufferDisconnections: 1, offset: 1_000 + 300 * MIB };
    expect(said({ ...counted, after: none })).toBe(
      "the primary was not restarted, and it closed no client for its output buffer: its log says why it closed the link",
    );
  });

  test("where it counts none, as Redis 7.0, by the amount", () => {
    expect(said({ after: { offset: 1_000 + 256 * MIB } })).toBe(
      `256.0 MiB of the stream waited there, past its limit of 256.0 MiB: ${raise}`,
    );
    const soft = { after: { offset: 1_000 + 70 * MIB } };
    expect(said(soft)).not.toContain("raise");
    expect(said({ ...soft, seconds: 60 })).toContain("past its limit of 64.0 MiB for 60 s");
    expect(said({ ...soft, seconds: 60, limit: undefined })).not.toContain("raise");
  });

  test("with the backlog's size where that is larger", () => {
    const small = { hardBytes: MIB, softBytes: 0, softSeconds: 0 };
    const after = { offset: 1_000 + 8 * MIB, backlogBytes: 16 * MIB };
    expect(said({ after, limit: small })).toBe(
      "the primary was not restarted, and at most 8.0 MiB of the stream waited there (its limit is 16.0 MiB): its log says why it closed the link",
    );
    expect(said({ after, limit: { ...small, hardBytes: 0 } })).not.toContain("limit");
  });
});

test("names a failed snapshot while one was being made, unless it had failed before", () => {
  const failed = { lastSaveFailed: true };
  const cause = "its snapshot failed there (rdb_last_bgsave_status:err): its log says why";
  expect(said({ phase: "receive-bulk-header", after: failed })).toBe(cause);
  expect(said({ phase: "transfer", after: failed })).toBe(cause);
  expect(said({ phase: "transfer", before: failed, after: failed })).not.toBe(cause);
  expect(said({ phase: "connected", after: failed })).not.toBe(cause);
});

test("after silence, says whether the primary answers elsewhere, and how long its fork took", () => {
  const away = new ReplicaError("TIMED_OUT", { message: "no answer within 5000 ms" });
  expect(said({ error: silent, now: { kind: "away", error: away } })).toBe(
    "on another link it doesn't answer either: no answer within 5000 ms",
  );
  expect(said({ error: silent })).toBe(
    "on another link the primary answers: raise --timeout if it needs this long",
  );
  expect(said({ error: silent, phase: "receive-psync", after: { lastForkMs: 6_000 } })).toBe(
    "its last fork took 6.0 s: raise --sync-timeout",
  );
  expect(said({ error: silent, phase: "receive-psync" })).not.toContain("fork");
});

test("says what happens to another link, and what can't be known", () => {
  const refused = new ReplicaError("CONNECT_FAILED", { message: "connection refused" });
  expect(said({ now: { kind: "away", error: refused } })).toBe(
    "no other link to it can be opened now either: connection refused",
  );
  for (const now of [undefined, { kind: "refused" }] as const) {
    const text = explainBreak(
      { phase: "transfer", error: lost, seen },
      { before: undefined, now, limit },
    );
    expect(text).toStartWith("the primary's log may say why");
  }
});

describe("names the form that --rdb-for asks for", () => {
  const olderForm = "8.1";

  test.each(["receive-bulk-header", "transfer"] as const)(
    "where data that it can't hold is there, in %s",
    (phase) => {
      expect(said({ phase, olderForm, after: { fieldExpiries: 1 } })).toBe(
        "it can't write its data in the form that --rdb-for 8.1 asks for: 1 key there has hash fields with an expiry, which only the form of Valkey 9.0 and later holds: leave out --rdb-for, or remove those expiries (HPERSIST)",
      );
    },
  );

  test("but not where there is none, none was asked for, or the stream had begun", () => {
    const none = "the primary was not restarted";
    expect(said({ olderForm, limit: undefined })).toStartWith(none);
    expect(said({ after: { fieldExpiries: 2 }, limit: undefined })).toStartWith(none);
    const late = { phase: "connected", after: { fieldExpiries: 2 }, limit: undefined } as const;
    expect(said({ ...late, olderForm })).toStartWith(none);
  });

  test("as a doubt where the primary doesn't say", () => {
    const refused = { kind: "refused" } as const;
    expect(said({ olderForm, now: refused })).toEndWith(
      "; with --rdb-for 8.1 a Valkey breaks off like this if hash fields there have an expiry",
    );
    expect(said({ olderForm, now: refused, phase: "connected" })).not.toContain("--rdb-for");
    expect(said({ now: refused })).not.toContain("--rdb-for");
  });
});
