import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { follow, readKeys, readLog, ReplicaError, restore, snapshots, verify } from "bun-replica";
import { FOLLOWED, settingsOf } from "../../src/library/settings.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { rejectionOf } from "../support/error-of.ts";
import { tempDir } from "../support/temp.ts";

test("options are what the flags are", () => {
  const options = {
    dir: "/data",
    snapshotEvery: "2h",
    keepFor: 90,
    rdbSyncBytes: "1MiB",
    adopt: true,
    syncLinks: 1,
    archive: "s3://bucket/prefix",
    archiveRecipient: ["age1a", "age1b"],
    psyncCommand: undefined,
    http: "127.0.0.1:6395",
  };
  const flags = new Map([
    ["dir", "/data"],
    ["snapshot-every", "2h"],
    ["keep-for", "90s"],
    ["rdb-sync-bytes", "1048576"],
    ["adopt", "true"],
    ["sync-links", "1"],
    ["archive", "s3://bucket/prefix"],
    ["archive-recipient", "age1a,age1b"],
    ["http", "127.0.0.1:6395"],
  ]);
  expect(settingsOf(options, FOLLOWED)).toEqual(loadSettings({ flags, env: {} }));
});

test("no variable is read", async () => {
  process.env["REPLICA_FSYNC"] = "nonsense";
  try {
    expect(settingsOf({ dir: "x" }, FOLLOWED)).toMatchObject({ fsync: "everysec" });
  } finally {
    delete process.env["REPLICA_FSYNC"];
  }
});

describe("refuses, by the iteration and by what is awaited,", () => {
  const url = "redis://127.0.0.1:1";
  const dir = "/nowhere/data";
  const cases: [string, object, RegExp][] = [
    ["an unknown option", { url, dir, fsnc: "no" }, /^unknown option fsnc: did you mean fsync\?$/],
    [
      "a flag's spelling",
      { url, dir, "keep-for": "1d" },
      /unknown option keep-for: did you mean keepFor/,
    ],
    ["what only a program has", { url, dir, logLevel: "info" }, /unknown option logLevel/],
    ["a bad value", { url, dir, fsync: "maybe" }, /^the option fsync is "maybe": it takes always/],
    [
      "a value of another kind",
      { url, dir, keep: {} },
      /^the option keep is a object: it takes a whole/,
    ],
    ["no number", { url, dir, keep: NaN }, /the option keep is/],
    [
      "settings that don't fit",
      { url, dir, archiveEvery: "1s" },
      /archiveEvery needs --archive URL/,
    ],
    ["no directory", { url }, /^the option dir is undefined/],
    ["no primary", { dir }, /^the option url is undefined/],
    ["a bad URL", { url: "http://x", dir }, /http:\/\/x/],
    ["a whole cluster", { url: "redis+cluster://x", dir }, /names a whole cluster/],
    ["an open port", { url, dir, port: 0, bind: "0.0.0.0" }, /let anyone who can reach it/],
  ];
  test.each(cases)("%s", async (_what, options, said) => {
    const following = follow(options as never);
    const iterate = async () => {
      for await (const event of following) throw new Error(`it began: ${event.type}`);
    };
    for (const act of [iterate, () => following.ended, () => following.stop()]) {
      const error = await rejectionOf(act);
      expect(error).toBeInstanceOf(ReplicaError);
      expect(error).toMatchObject({ code: "USAGE", retry: "never" });
      expect(error.message).toMatch(said);
    }
    expect(following.status()).toBeUndefined();
    expect(existsSync(dir)).toBe(false);
  });
});

describe("what the types forbid is USAGE:", () => {
  const nowhere = "/nowhere/data";
  const dash = (options: unknown) => options as never;
  const cases: [string, () => unknown, RegExp][] = [
    [
      "a misspelled moment",
      () => restore(nowhere, "/x", dash({ att: 5 })),
      /unknown option att: did you mean at\?/,
    ],
    [
      "a misspelled filter",
      () => Array.fromAsync(readLog(nowhere, dash({ key: "a" }))),
      /unknown option key: did you mean keys\?/,
    ],
    [
      "a misspelled pattern",
      () => Array.fromAsync(readKeys(nowhere, dash({ mtch: "a" }))),
      /did you mean match\?/,
    ],
    [
      "another call's option",
      () => verify(nowhere, dash({ onWarning: () => 0 })),
      /unknown option onWarning/,
    ],
    ["a listing's option", () => snapshots(nowhere, dash({ at: 5 })), /unknown option at/],
    [
      "no function",
      () => snapshots(nowhere, dash({ onWarning: "x" })),
      /onWarning is a string: it takes a function/,
    ],
    ["no options", () => snapshots(nowhere, dash(null)), /the options are null/],
    [
      "no options of an iteration",
      () => Array.fromAsync(readLog(nowhere, dash(7))),
      /the options are 7/,
    ],
    [
      "no signal",
      () => verify(nowhere, dash({ signal: {} })),
      /the option signal is no AbortSignal/,
    ],
    ["nothing to follow", () => follow(dash(undefined)).ended, /the options are undefined/],
    [
      "no signal to follow by",
      () => follow({ url: "redis://h", dir: nowhere }, dash({ signal: 5 })).ended,
      /no AbortSignal/,
    ],
  ];
  test.each(cases)("%s", async (_what, act, said) => {
    const error = await rejectionOf(async () => await act());
    expect(error).toBeInstanceOf(ReplicaError);
    expect(error).toMatchObject({ code: "USAGE", retry: "never" });
    expect(error.message).toMatch(said);
  });
});

test("a password shows in no error", async () => {
  using dir = tempDir("options");
  const url = "redis://user:hunter2@127.0.0.1:1/x/y";
  const error = await rejectionOf(() => follow({ url, dir: dir.file("data") }).ended);
  expect(error).toMatchObject({ code: "USAGE" });
  expect(Bun.inspect(error)).not.toContain("hunter2");
});
