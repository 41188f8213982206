import { expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import { parseReplicationId } from "../../../src/base/history.ts";
import { parsePrimaryUrl } from "../../../src/config/primary-url.ts";
import {
  type ChangedHistory,
  judge,
  type Words,
} from "../../../src/upstream/history/other-history.ts";

const [KEPT, EARLIER, NEW] = ["a", "b", "c"].map((one) => parseReplicationId(one.repeat(40)));
const LAST_MS = Date.parse("2026-01-31T12:00:00Z");
const NOW_MS = LAST_MS + 60_000;

function judged(
  url: string,
  words: Record<string, string> | ReplicaError,
  more: Partial<ChangedHistory> = {},
) {
  const changed: ChangedHistory = {
    before: { name: "redis://reader@db.internal:6379", replid: KEPT!, offset: 700 },
    generation: 4,
    lastMs: LAST_MS,
    target: parsePrimaryUrl(url),
    replid: NEW!,
    knows: (replid) => replid === KEPT || replid === EARLIER,
    ...more,
  };
  const said: Words = words instanceof ReplicaError ? words : new Map(Object.entries(words));
  return judge(changed, said, NOW_MS);
}

test("another primary: names both, says what to do, and that the generation stays", () => {
  const { kind, text } = judged("redis://:secret@10.0.0.9:6379", {
    master_replid2: "0".repeat(40),
  });
  expect(kind).toBe("another");
  expect(text).toBe(
    `another primary's history replaces the one that was kept: generation 4 came from redis://reader@db.internal:6379 (${KEPT}), this full resync comes from redis://10.0.0.9:6379 (${NEW}); if that isn't meant, stop this replica and follow redis://10.0.0.9:6379 with a --dir of its own; generation 4 stays, sealed, as long as --keep and --keep-for say`,
  );
});

test("another primary that gives no INFO: says that it could not be asked", () => {
  const message = "INFO is refused: NOPERM";
  const refused = new ReplicaError("PRIMARY_REFUSED", { message });
  const { kind, text } = judged("redis://10.0.0.9:6379", refused);
  expect(kind).toBe("another");
  expect(text).toStartWith(
    "another primary's history replaces the one that was kept, as far as can be told (INFO is refused: NOPERM): generation 4",
  );
});

test.each([
  ["another port", "redis://db.internal:6380", "another"],
  ["another host", "redis://db.internal.example:6379", "another"],
  ["a socket", "unix:///run/redis.sock", "another"],
  ["another user", "redis://somebody@db.internal:6379", "same-address"],
  ["capitals", "redis://DB.internal:6379", "same-address"],
  ["TLS", "rediss://db.internal:6379", "same-address"],
])("%s: %s is %s", (_what, url, kind) => {
  expect(judged(url, {}).kind).toBe(kind as "another");
});

test("a socket is an address too", () => {
  const before = { name: "unix:///run/a%20b.sock", replid: KEPT!, offset: 1 };
  expect(judged("unix:///run/a%20b.sock", {}, { before }).kind).toBe("same-address");
  expect(judged("unix:///run/c.sock", {}, { before }).kind).toBe("another");
  expect(judged("redis://db.internal:6379", {}, { before }).kind).toBe("another");
});

test("a name that can't be read is no address: another", () => {
  const before = { name: "model", replid: KEPT!, offset: 1 };
  expect(judged("redis://db.internal:6379", {}, { before }).kind).toBe("another");
});

test.each([KEPT, EARLIER])(
  "promoted: its second replication id is one that the kept stream was in",
  (second) => {
    const { kind, text } = judged("redis://10.0.0.9:6379", { master_replid2: second! });
    expect(kind).toBe("descendant");
    expect(text).toBe(
      `redis://10.0.0.9:6379 was promoted, or restarted with its data: its history (${NEW}) comes from the one kept up to offset 700 (${KEPT}), by its second replication id`,
    );
  },
);

test("gone back to a history that the kept stream was in before", () => {
  const { kind, text } = judged("redis://10.0.0.9:6379", {}, { replid: EARLIER! });
  expect(kind).toBe("descendant");
  expect(text).toContain(
    `is in a history (${EARLIER}) that the one kept up to offset 700 (${KEPT}) comes from`,
  );
});

const began = (ms: number) => String((NOW_MS - LAST_MS - ms) / 1000);
test.each([
  [
    "after the last byte",
    began(2_000),
    /up for 58 s, so it was restarted without its history, or another server/,
  ],
  [
    "before the last byte",
    began(-2_000),
    /up for 1 min, since before the last byte that is kept, so it began a new one itself \(REPLICAOF, /,
  ],
  [
    "at about the last byte",
    began(0),
    /up for 1 min: it was restarted without its history, began a new one itself \(.*\), or another/,
  ],
  [
    "nobody knows when",
    "",
    /: it was restarted without its history, began a new one itself \(.*\), or another/,
  ],
  [
    "at a time that can't be read",
    "many",
    /: it was restarted without its history, began a new one itself \(.*\), or another/,
  ],
])("the same address, up since %s", (_when, uptime, what) => {
  const { kind, text } = judged("redis://db.internal:6379", { uptime_in_seconds: uptime });
  expect(kind).toBe("same-address");
  expect(text).toStartWith(
    `redis://db.internal:6379 has another history (${NEW}) than the one kept up to offset 700 (${KEPT}): it `,
  );
  expect(text).toMatch(what);
});
