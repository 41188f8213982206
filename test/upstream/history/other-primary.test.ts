import { ReplicaError } from "../../../src/base/errors.ts";
import { expect, test } from "bun:test";
import { parseReplicationId, type ReplicationId } from "../../../src/base/history.ts";
import { parsePrimarySource } from "../../../src/config/primary-source.ts";
import { parsePrimaryUrl } from "../../../src/config/primary-url.ts";
import {
  OtherPrimary,
  type OtherPrimaryOptions,
} from "../../../src/upstream/history/other-primary.ts";
import { errorOf } from "../../support/error-of.ts";

const BROKEN = new ReplicaError("TIMED_OUT", { message: "silent" });
const [KEPT, EARLIER, NEW] = ["a", "b", "c"].map((one) => parseReplicationId(one.repeat(40))) as [
  ReplicationId,
  ReplicationId,
  ReplicationId,
];
const NONE = "0".repeat(40);

interface Case {
  readonly url?: string;
  readonly source?: string;
  readonly isOrdered?: boolean;
  readonly adopt?: boolean;
  readonly askPrimary?: boolean;
  readonly replid?: ReplicationId | undefined;
  readonly isEmpty?: boolean;
  /** The newest first. */
  readonly names?: readonly string[];
}

function guard(given: Case = {}): OtherPrimary {
  const {
    url = "redis://10.0.0.9:6379",
    isOrdered = false,
    adopt = false,
    isEmpty = false,
  } = given;
  const names = given.names ?? ["redis://reader@db.internal:6379"];
  const current = isEmpty ? undefined : { id: 4, primaryName: names[0]! };
  const directory = {
    path: "/var/lib/replica",
    current,
    replid: "replid" in given ? given.replid : KEPT,
    holdings: {
      primaryName: names[0],
      primaryNames: () => (isEmpty ? [] : names),
      knows: (replid: string) => !isEmpty && (replid === KEPT || replid === EARLIER),
    },
  } as unknown as OtherPrimaryOptions["directory"];
  const source = parsePrimarySource(given.source ?? url);
  const primary = { source, target: parsePrimaryUrl(url), isOrdered };
  return new OtherPrimary({
    directory,
    settings: { adopt, askPrimary: given.askPrimary ?? true },
    primary,
  });
}

const bySync = { by: "sync" } as const;
const grantOf = (replid: ReplicationId) =>
  ({ by: "psync", position: { replid, offset: 7 } }) as const;
const info = (replid: string, second: string = NONE) =>
  `# Replication\r\nmaster_replid:${replid}\r\nmaster_replid2:${second}\r\n`;

test("INFO with no id in common ends the attempt before PSYNC; the error names both, and what to do", () => {
  const weigh = guard({ url: "redis://:secret@10.0.0.9:6379" }).weigh(undefined);
  const error = errorOf(() => weigh?.(info(NEW)));
  expect(error).toMatchObject({ code: "USAGE", retry: "never" });
  expect(error.message).toBe(
    `/var/lib/replica holds the history of redis://reader@db.internal:6379 (${KEPT}), and redis://10.0.0.9:6379 has another one (${NEW}): follow redis://10.0.0.9:6379 with a --dir of its own; if it is to take the place of redis://reader@db.internal:6379 here, give --adopt (generation 4 then stays, sealed, as long as --keep and --keep-for say)`,
  );
});

test.each([
  ["its own id", info(KEPT)],
  ["an earlier one", info(EARLIER)],
  ["its second id", info(NEW, KEPT)],
])("%s is kept: whatever it grants is taken", (_what, text) => {
  const other = guard();
  other.weigh(undefined)!(text);
  other.refuse(grantOf(NEW));
});

test("without INFO, what is granted decides", () => {
  for (const told of [undefined, "# Server\r\nredis_version:2.8.0\r\n"]) {
    const other = guard();
    other.weigh(undefined)!(told);
    other.refuse(grantOf(EARLIER));
    const unsure = told === undefined ? ", as far as can be told without its INFO: " : `(${NEW}): `;
    expect(errorOf(() => other.refuse(grantOf(NEW))).message).toContain(unsure);
  }
});

test("who names no history has none in common; nor has what was kept without one", () => {
  const bySyncOnly = errorOf(() => guard().refuse(bySync)).message;
  expect(bySyncOnly).toContain("has another one (which it doesn't name)");
  const kept = errorOf(() => guard({ replid: undefined }).refuse(grantOf(NEW))).message;
  expect(kept).toContain("(which it doesn't name), and redis://10.0.0.9:6379");
});

test.each<[string, Case]>([
  ["--adopt", { adopt: true }],
  ["REPLICAOF", { isOrdered: true }],
  ["Sentinel names it", { source: "redis+sentinel://10.0.0.1/main" }],
  ["nothing is kept", { isEmpty: true }],
  ["the same address by another user", { url: "redis://me@DB.internal:6379" }],
  [
    "the address of an older generation",
    { names: ["redis://x:1", "redis://10.0.0.9:6379"], url: "redis://10.0.0.9:6379" },
  ],
  ["the same socket", { url: "unix:///run/a.sock", names: ["unix:///run/a.sock"] }],
])("%s: INFO isn't asked for it, and nothing is refused", (_what, given) => {
  const other = guard(given);
  expect(other.weigh(undefined)).toBeUndefined();
  other.refuse(grantOf(NEW));
  other.refuse(bySync);
  const look = () => undefined;
  expect(other.weigh(look)).toBe(look);
});

test("who else looks at INFO gets it; with --ask-primary no, nobody asks", () => {
  const seen: (string | undefined)[] = [];
  guard().weigh((text) => seen.push(text))!(info(KEPT));
  expect(seen).toEqual([info(KEPT)]);
  expect(guard({ askPrimary: false }).weigh(undefined)).toBeUndefined();
});

test("an attempt that INFO has broken isn't repeated: the next one goes on without", () => {
  const other = guard();
  expect(other.weigh(undefined)).toBeDefined();
  // One that failed before INFO was asked says nothing of that.
  other.failed(BROKEN, { at: "connecting" });
  expect(other.weigh(undefined)).toBeDefined();
  other.failed(BROKEN, { at: "receive-version", asked: "info" });
  expect(other.weigh(undefined)).toBeUndefined();
  expect(errorOf(() => other.refuse(grantOf(NEW))).message).toContain("without its INFO");
});

test.each([
  ["loads", "loading:1\r\nrole:master"],
  ["isn't supplied yet", "role:slave\r\nmaster_link_status:down"],
])("an id of a server that %s is none to judge by", (_, state) => {
  const text = `${state}\r\nmaster_replid:${NEW}\r\n`;
  expect(() => guard().weigh(undefined)!(text)).not.toThrow();
});

test("nor is that of a replica that keeps nothing", () => {
  expect(() =>
    guard().weigh(undefined)!(`role:master\r\nmaster_replid:${"0".repeat(40)}\r\n`),
  ).not.toThrow();
});

test("what one attempt was told doesn't count for the next", () => {
  const other = guard();
  other.weigh(undefined)!(info(KEPT));
  other.weigh(undefined)!(undefined);
  expect(errorOf(() => other.refuse(grantOf(NEW))).code).toBe("USAGE");
});
