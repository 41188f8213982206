import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { eventsOf } from "../faults/network-rig.ts";
import { DATABASE } from "../../src/store/generation/layout.ts";
import { ACCESS_KEY, FaultS3, type S3Effect, SECRET_KEY } from "../support/fault-s3.ts";
import { expositionComplaints, type Sample } from "../support/exposition.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { SkippingClock } from "../support/skipping-clock.ts";
import { Reporting } from "../support/supplied.ts";
import { until } from "../support/wait.ts";

/** Some stores repeat what they were sent. */
const message = `${ACCESS_KEY} with ${SECRET_KEY} may not`;
const FORBIDDEN: S3Effect = { kind: "error", status: 403, code: "AccessDenied", message };
/** Shorter than the difference of clocks that a store takes. */
const MINUTES_MS = 10 * 60_000;
let primary: RealServer;
let bucket: FaultS3;

beforeAll(async () => {
  primary = await startServer("valkey-9");
  bucket = await FaultS3.start();
  await primary.cli("DEBUG", "POPULATE", "1000", "key", "100");
});
afterAll(async () => {
  await primary.stop();
  await bucket.stop();
});

/** A replica that archives to a place of its own in the bucket. */
function archiving(name: string, more: Record<string, string> = {}) {
  const clock = new SkippingClock();
  const url = `s3://${bucket.bucket}/${name}`;
  const archive = { archive: url, "archive-endpoint": bucket.endpoint, "archive-every": "1s" };
  // Time passes at once: the primary isn't silent for that.
  const replica = new Reporting(primary.url(), { ...archive, timeout: "1h", ...more }, clock);
  return { clock, url, replica };
}

/** Waits until the archive lacks nothing that the primary has written. */
async function caughtUp(replica: Reporting): Promise<Map<string, string>> {
  await replica.readyzSays("ready");
  await primary.send("SET", "known", crypto.randomUUID());
  const end = await primary.offset();
  return await until(
    async () => {
      const info = await replica.info();
      // The lag is as of the last second.
      const isThere = Number(info.get("archive_offset")) >= end;
      const hasBase = info.get("archive_lag_snapshot_bytes") === "0";
      return isThere && hasBase ? new Map(info) : undefined;
    },
    { what: `offset ${end} in the archive` },
  );
}

/** A metric's series by their last label. */
const byLabel = (samples: readonly Sample[], name: string) =>
  Object.fromEntries(
    samples
      .filter((sample) => sample.name === name)
      .map(({ labels, value }) => [[...labels.values()].at(-1) ?? "", value]),
  );

test("an archive that is well is told of everywhere", async () => {
  const { replica: made, url } = archiving("well");
  await using replica = made;
  const info = await caughtUp(replica);
  expect(Object.fromEntries(info)).toMatchObject({
    archive_url: url,
    archive_state: "archiving",
    archive_up: "1",
    archive_generation: "1",
    archive_lag_snapshot_bytes: "0",
    archive_last_error: "",
    archive_last_error_code: "",
    archive_failures: "0",
    archive_failures_by_code: "",
    archive_generations_given_up: "0",
    archive_piece_objects: "1",
  });
  const sentSeconds = Number(info.get("archive_last_success_time"));
  expect(Math.abs(Date.now() / 1000 - sentSeconds)).toBeLessThan(60);
  // Nobody knows them.
  for (const name of ["archive_failing_since_time", "archive_last_error_time"])
    expect(info.has(name)).toBeFalse();
  const screen = await replica.screen();
  expect(screen).toContain(`\narchive       ${url}: archiving\n`);
  expect(screen).toMatch(/\narchived +offset [\d,]+, lacks .*; last sent .* ago\)\n/);
  expect(screen).toMatch(
    /\nsent +\d+ segments? \(.*\), 1 piece \(.*\), 3 documents \([\d.]+ \w+\)\n/,
  );
  const page = (await replica.get("/")).text;
  expect(page).toContain(`<th scope="row">archive<td>${url}: archiving`);
  expect(page).toMatch(
    /<th scope="row">archived<td>offset \d+, [\d.]+ \w+ behind, sent last \S+Z\n/,
  );
  const { text } = await replica.get("/metrics");
  expect(expositionComplaints(text)).toEqual([]);
  const samples = await replica.scrape();
  expect(byLabel(samples, "replica_archive_up")).toEqual({ "": 1 });
  expect(byLabel(samples, "replica_archive_lag_bytes")).toMatchObject({ snapshot: 0 });
  expect(await replica.metric("replica_archive_offset_bytes")).toBeGreaterThan(0);
  expect(await replica.metric("replica_archive_last_success_timestamp_seconds")).toBeGreaterThan(
    sentSeconds - 1,
  );
  const objects = byLabel(samples, "replica_archive_objects_total");
  const bytes = byLabel(samples, "replica_archive_sent_bytes_total");
  const stored = [...bucket.objects].filter(([key]) => key.startsWith("well/"));
  const size = (pattern: RegExp) =>
    stored.filter(([key]) => pattern.test(key)).reduce((sum, [, one]) => sum + one.bytes.length, 0);
  expect([objects["piece"], bytes["piece"]]).toEqual([1, size(/\/base\//)]);
  expect(objects["segment"]).toBeGreaterThan(0);
  expect(bytes["document"]).toBe(size(/\.json$/));
});

test("one that forbids is told of with the reason, once in the events, and never with a key", async () => {
  const { replica: made, url, clock } = archiving("forbids", { "ready-archive-lag": "5m" });
  await using replica = made;
  await caughtUp(replica);
  bucket.fail({ within: "forbids/", times: Infinity, effect: FORBIDDEN });
  await primary.send("SET", "not", "archived");
  const failures = async () => Number((await replica.info()).get("archive_failures"));
  await until(async () => (await failures()) >= 3, { what: "three failures" });
  expect(await replica.readyzSays("ready")).toBe("ready");
  clock.skip(MINUTES_MS);
  const why = await replica.readyzSays(
    /^not ready: the archive lacks what became durable 10 min ago/,
  );
  expect(why).toMatch(
    /; it is failing since \S+Z: storing s3:\/\/bucket\/forbids\/\S+ .*AccessDenied/,
  );
  const info = await replica.info();
  expect(info.get("not_ready_reason")).toBe(why.replace("not ready: ", ""));
  expect(info.get("archive_state")).toMatch(/^failing since \S+Z: storing /);
  expect(info.get("archive_up")).toBe("0");
  expect(info.get("archive_last_error_code")).toBe("ARCHIVE_FORBIDDEN");
  expect(info.get("archive_last_error")).toContain("AccessDenied");
  expect(info.get("archive_failures_by_code")).toMatch(/^ARCHIVE_FORBIDDEN=\d+$/);
  expect(Number(info.get("archive_lag_seconds"))).toBeGreaterThanOrEqual(600);
  expect(Number(info.get("archive_lag_bytes"))).toBeGreaterThan(0);
  const samples = await replica.scrape();
  expect(byLabel(samples, "replica_archive_up")).toEqual({ "": 0 });
  const failed = byLabel(samples, "replica_archive_failures_total");
  expect([failed["ARCHIVE_FORBIDDEN"]! >= 3, failed["ARCHIVE_FAILED"]]).toEqual([true, 0]);
  expect(await replica.metric("replica_archive_lag_seconds")).toBeGreaterThanOrEqual(600);
  const all = [await replica.screen(), String(await replica.send("INFO"))];
  for (const path of ["/", "/metrics", "/readyz"]) all.push((await replica.get(path)).text);
  all.push(...eventsOf(replica.following.path, "archive"));
  for (const text of all) {
    expect(text).not.toContain(SECRET_KEY);
    expect(text).not.toContain(ACCESS_KEY);
  }
  bucket.heal();
  await replica.readyzSays("ready");
  const after = await caughtUp(replica);
  expect([after.get("archive_state"), after.has("archive_failing_since_time")]).toEqual([
    "archiving",
    false,
  ]);
  expect(after.get("archive_last_error_code")).toBe("ARCHIVE_FORBIDDEN");
  expect(eventsOf(replica.following.path, "archive")).toEqual([
    expect.stringContaining(`${url} gets nothing at present`),
    expect.stringContaining(`${url} gets objects again`),
  ]);
});

describe("a snapshot that isn't whole in the archive", () => {
  test("restores nothing, which makes the replica not ready", async () => {
    bucket.fail({ within: "half/", times: Infinity, effect: FORBIDDEN });
    const { replica: made, clock } = archiving("half", { "ready-archive-lag": "5m" });
    await using replica = made;
    await replica.readyzSays("ready");
    clock.skip(MINUTES_MS);
    await replica.readyzSays(/^not ready: the archive lacks what became durable 10 min ago/);
    const info = await replica.info();
    expect(info.has("archive_offset")).toBeFalse();
    expect(Number(info.get("archive_lag_snapshot_bytes"))).toBeGreaterThan(1000);
    expect(await replica.screen()).toMatch(/\narchived +no snapshot yet, lacks .* of snapshots, /);
    const samples = await replica.scrape();
    expect(samples.some(({ name }) => name === "replica_archive_offset_bytes")).toBeFalse();
    bucket.heal();
    await caughtUp(replica);
    await replica.readyzSays("ready");
  });
});

describe("without an archive", () => {
  test("there is none of its metrics and rows, and INFO says that there is none", async () => {
    await using replica = new Reporting(primary.url());
    await replica.readyzSays("ready");
    const info = await replica.info();
    const named = [...info].filter(([name]) => name.startsWith("archive_"));
    expect(named).toEqual([["archive_url", ""]]);
    expect(await replica.screen()).not.toContain("archive");
    expect((await replica.get("/")).text).not.toContain("archive");
    const found = (await replica.scrape()).filter(({ name }) => name.includes("archive"));
    expect(found).toEqual([]);
  });
});

test("a database that fails leaves out what it alone knows, and breaks nothing", async () => {
  const { replica: made, clock } = archiving("closed");
  const replica = made;
  await caughtUp(replica);
  const { status } = replica.following;
  // This is what a failing database does to each question.
  const { path } = replica.following;
  using db = new Database(join(path, DATABASE));
  db.run("ALTER TABLE marks RENAME TO gone");
  try {
    clock.skip(2_000);
    expect(status.archive?.lag).toBeUndefined();
    const info = await replica.info();
    expect(info.has("archive_lag_bytes")).toBeFalse();
    expect(info.get("archive_state")).toMatch(/how far the archive is behind is not known: /);
    expect(info.get("archive_up")).toBe("1");
    expect(await replica.screen()).toMatch(/\narchived +offset [\d,]+, lag not known/);
    const names = (await replica.scrape()).map(({ name }) => name);
    expect(names).toContain("replica_archive_up");
    expect(names).not.toContain("replica_archive_lag_seconds");
    expect((await replica.get("/")).status).toBe(200);
  } finally {
    db.run("ALTER TABLE gone RENAME TO marks");
    await replica[Symbol.asyncDispose]();
  }
});
