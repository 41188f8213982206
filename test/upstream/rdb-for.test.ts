import { expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { parseReplicationId } from "../../src/base/history.ts";
import { driverOptions } from "../../src/upstream/driver-options.ts";
import { SnapshotForm, withForm } from "../../src/upstream/rdb-for.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { PrimaryLogin } from "../../src/upstream/link/primary-login.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";
import { errorOf } from "../support/error-of.ts";

const REPLID = parseReplicationId("a".repeat(40));
const RESUME = { replid: REPLID, offset: 100 };
const settings = (given: Record<string, string>) =>
  loadSettings({ flags: new Map(Object.entries(given)) });

/** INFO of a Valkey with so many keys that have expiring fields, whose backlog begins at a byte. */
const info = (keys: number, firstByte: number) =>
  [
    "# Replication",
    `master_replid:${REPLID}`,
    "repl_backlog_active:1",
    `repl_backlog_first_byte_offset:${firstByte}`,
    "repl_backlog_histlen:1000",
    "# Keyspace",
    `db3:keys=9,expires=0,avg_ttl=0,keys_with_volatile_items=${keys}`,
  ].join("\r\n");

test("--rdb-for tells Valkey the version of the server; a Redis is told as the first that loads what it gets", () => {
  const wanted = (text: string) => {
    const given = settings({ "rdb-for": text });
    const login = new PrimaryLogin(parsePrimaryUrl("redis://h"), given);
    const { announcedVersion, olderForm } = driverOptions("follow", { login }, given, undefined);
    return [announcedVersion, olderForm];
  };
  expect(wanted("8.1")).toEqual(["8.1.0", "8.1"]);
  expect(wanted("valkey-8.0.5")).toEqual(["8.0.0", "valkey-8.0.5"]);
  expect(wanted("redis-8.0")).toEqual(["7.2.0", "redis-8.0"]);
  // Its own form is what it writes by itself.
  expect(wanted("valkey-9.1")).toEqual(["9.1.0", undefined]);
});

test("no snapshot is asked for that the primary can't write; one that it can, and a partial resync, are", () => {
  const form = new SnapshotForm(settings({ "rdb-for": "8.1" }));
  const error = errorOf(() => form.weigh(undefined)!(info(3, 1)));
  expect(error).toMatchObject({ code: "PRIMARY_REFUSED", retry: "backoff" });
  expect(error.message).toStartWith(
    "the primary is asked for no snapshot: it can't write its data in the form that --rdb-for 8.1 asks for: 3 keys there have hash fields with an expiry, ",
  );
  form.weigh(undefined)!(info(0, 1));
  form.weigh(undefined)!(undefined);
  form.weigh(RESUME)!(info(3, 1));
  // The backlog begins too late.
  expect(errorOf(() => form.weigh(RESUME)!(info(3, 500))).code).toBe("PRIMARY_REFUSED");
  // It doesn't say what its backlog holds: it may continue.
  form.weigh(RESUME)!(
    "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,keys_with_volatile_items=1\r\n",
  );
});

test("INFO is asked for an older form alone, with leave, and not again where it has broken an attempt", () => {
  for (const given of [{}, { "rdb-for": "9.0" }, { "rdb-for": "8.1", "ask-primary": "no" }])
    expect(new SnapshotForm(settings(given)).weigh(undefined)).toBeUndefined();
  const form = new SnapshotForm(settings({ "rdb-for": "8.1" }));
  const broken = new ReplicaError("TIMED_OUT", { message: "silent" });
  expect(form.weigh(undefined)).toBeDefined();
  form.failed(broken, { at: "connecting" });
  expect(form.weigh(undefined)).toBeDefined();
  form.failed(broken, { at: "receive-version", asked: "info" });
  expect(form.weigh(undefined)).toBeUndefined();
  // Who asks for it anyway is told.
  const seen: unknown[] = [];
  form.weigh(undefined, (text) => seen.push(text))!(info(0, 1));
  expect(seen).toEqual([info(0, 1)]);
});

test("a link that broke amid a snapshot of an older form may have broken for that", () => {
  const given = settings({ "rdb-for": "8.1" });
  const lost = new ReplicaError("LINK_LOST", { message: "the primary closed the link" });
  const grant = { by: "sync" } as const;
  const at = { at: "receive-bulk-header", waits: "line", grant } as const;
  expect(withForm(lost, at, given).message).toBe(
    "the primary closed the link; with --rdb-for 8.1 a Valkey breaks off like this if hash fields there have an expiry",
  );
  expect(withForm(lost, { at: "receive-pong" }, given)).toBe(lost);
  expect(withForm(lost, at, settings({}))).toBe(lost);
  const full = new ReplicaError("DISK_FULL", { message: "full" });
  expect(withForm(full, at, given)).toBe(full);
});
