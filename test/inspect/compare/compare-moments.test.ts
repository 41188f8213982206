import { expect, test } from "bun:test";
import {
  compareMoments,
  type ComparedMoments,
} from "../../../src/inspect/compare/compare-moments.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { type RestorePoint, restorePoint } from "../../../src/store/restore/restore-point.ts";
import { Glob } from "../../../src/base/glob.ts";
import { Random } from "../../support/fill.ts";
import { follow } from "../../support/following.ts";
import { drawPatterns, KeyLoad } from "../../support/key-load.ts";
import {
  availableServers,
  type RealServer,
  type ServerKind,
  startServer,
} from "../../support/servers.ts";
import { amount, outermost, seedOf } from "../../support/sweep.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { choosing, programOf, wholeAt } from "../chosen/equality.ts";

const COMMANDS = amount("COMPARED_COMMANDS", { sample: 300, full: 3_000 });
/** Two moments lie within so much of the log in half of the draws, so that not everything has changed. */
const NEAR_BYTES = 3_000;
const MOMENTS = amount("COMPARED_MOMENTS", { sample: 2, full: 24 });
const TIME_LIMIT_MS = 1_800_000;

const KINDS = outermost(availableServers().filter((kind) => !/^redis-[2-6]\b/.test(kind)));

async function knows(server: RealServer, command: string): Promise<boolean> {
  const known = await server.send("COMMAND", "INFO", command);
  return Array.isArray(known) && known[0] !== null;
}

async function load(server: RealServer, keyLoad: KeyLoad, commands: number): Promise<void> {
  await using client = await server.connect();
  for (let left = commands; left > 0; left -= 20) {
    await client.exchange(Array.from({ length: Math.min(20, left) }, () => keyLoad.next()).flat());
  }
}

/** Follows a primary through a load, with a new generation in the middle of it. */
async function keepHistory(kind: ServerKind, dir: TempDir, random: Random): Promise<void> {
  await using primary = await startServer(kind);
  const can = {
    fieldExpiry: await knows(primary, "HPEXPIRE"),
    msetex: await knows(primary, "MSETEX"),
  };
  const keyLoad = new KeyLoad(random, can);
  await load(primary, keyLoad, COMMANDS / 2);
  await using following = follow(primary.url(), realDisk, dir);
  await following.connected();
  await load(primary, keyLoad, COMMANDS);
  following.replica.renewal.begin("the test");
  const idOf = () => following.status.generation?.id ?? 0;
  await until(() => idOf() > 1, { what: "a new generation" });
  await load(primary, keyLoad, COMMANDS);
  const end = await primary.offset();
  await until(() => following.status.cursors.durable >= end, { what: "all to be durable" });
  await following.stop();
}

/** A key as a server has it. */
interface State {
  readonly expiresAtMs: number | undefined;
  /** The server's digest of its value, which says whether the key expires, but not when a field does, nor of groups. */
  readonly digest: string;
  /** What else counts; undefined where the server hides it, because the key or a field has expired since. */
  readonly more: string | undefined;
}

type States = ReadonlyMap<string, State>;

async function statesAt(
  catalogue: Catalogue,
  point: RestorePoint,
  kind: ServerKind,
  dir: TempDir,
): Promise<States> {
  await using whole = await wholeAt(catalogue, point, kind, dir);
  const hasFieldExpiry = await knows(whole.server, "HPEXPIRETIME");
  const states = new Map<string, State>();
  for (const { db, name, expiresAtMs } of whole.keys) {
    const said = await valueOf(whole.server, db, Buffer.from(name, "latin1"), hasFieldExpiry);
    states.set(`${db} ${name}`, { expiresAtMs, ...said });
  }
  return states;
}

async function valueOf(
  server: RealServer,
  db: number,
  key: Uint8Array,
  hasFieldExpiry: boolean,
): Promise<Omit<State, "expiresAtMs">> {
  await server.send("SELECT", db);
  const digest = String(await server.send("DEBUG", "DIGEST-VALUE", key));
  const type = String(await server.send("TYPE", key));
  if (type === "none") return { digest, more: undefined };
  if (type === "stream") {
    const about = await server.send("XINFO", "STREAM", key, "FULL", "COUNT", 0);
    return { digest, more: JSON.stringify(withoutSeen(about)) };
  }
  if (type !== "hash" || !hasFieldExpiry) return { digest, more: type };
  const fields = ((await server.send("HKEYS", key)) as string[]).toSorted();
  if (fields.length === 0) return { digest, more: undefined };
  const times = await server.send("HPEXPIRETIME", key, "FIELDS", fields.length, ...fields);
  const isHidden = fields.length !== (await server.send("HLEN", key));
  return { digest, more: isHidden ? undefined : JSON.stringify([fields, times]) };
}

/** Without what a replay sets to its own time, and how the server keeps it in memory. */
function withoutSeen(about: unknown): unknown {
  if (!Array.isArray(about)) return about;
  const left = ["seen-time", "active-time", "radix-tree-keys", "radix-tree-nodes"];
  return about
    .filter((_, at) => !left.includes(String(about[at])) && !left.includes(String(about[at - 1])))
    .map(withoutSeen);
}

type Expected = "same" | "came" | "went" | "other value" | "other expiry" | "open";

function expectedOf(before: State | undefined, after: State | undefined): Expected {
  if (before === undefined) return "came";
  if (after === undefined) return "went";
  const bothExpire = (before.expiresAtMs === undefined) === (after.expiresAtMs === undefined);
  if (!bothExpire) return "open";
  // The digest leaves out what is hidden, and more may have been when the second one was read.
  if (before.more === undefined || after.more === undefined) return "open";
  if (before.digest !== after.digest) return "other value";
  if (before.more !== after.more) return "other value";
  return before.expiresAtMs === after.expiresAtMs ? "same" : "other expiry";
}

/** Expects of every key what the servers on two whole restores say of it. @returns how many of them were open. */
async function expectDifference(
  states: readonly [States, States],
  wanted: { readonly patterns: readonly string[]; readonly db: number | undefined },
  compare: () => Promise<Awaited<ReturnType<typeof compareMoments>>>,
): Promise<number> {
  const globs = wanted.patterns.map((text) => new Glob(Buffer.from(text).toString("latin1")));
  const names = [...new Set(states.flatMap((some) => [...some.keys()]))].filter((name) => {
    const space = name.indexOf(" ");
    const isIn = wanted.db === undefined || String(wanted.db) === name.slice(0, space);
    return isIn && globs.some((glob) => glob.matches(name.slice(space + 1)));
  });
  await using comparison = await compare();
  const found = new Map<string, Expected>();
  let last: { readonly db: number; readonly key: Uint8Array } | undefined;
  for (const { db, key, before, after, isOtherValue } of comparison.differences()) {
    if (last !== undefined) expect(last.db - db || Buffer.compare(last.key, key)).toBeLessThan(0);
    last = { db, key };
    const what =
      before === undefined
        ? "came"
        : after === undefined
          ? "went"
          : isOtherValue
            ? "other value"
            : "other expiry";
    found.set(`${db} ${Buffer.from(key).toString("latin1")}`, what);
  }
  const [before, after] = states;
  let open = 0;
  for (const name of names) {
    const expected = expectedOf(before.get(name), after.get(name));
    if (expected === "open") open++;
    else expect(`${name}: ${found.get(name) ?? "same"}`).toBe(`${name}: ${expected}`);
  }
  expect([...found.keys()].filter((name) => !names.includes(name))).toEqual([]);
  const { came, went, changed } = comparison.counts;
  expect(came + went + changed).toBe(found.size);
  return open;
}

test.each(KINDS)(
  "%s: keys that came, went and changed are those by which two whole restores differ",
  async (kind) => {
    using dir = tempDir("compared");
    const random = new Random(seedOf("COMPARED_SEED"));
    await keepHistory(kind, dir, random);
    using catalogue = new Catalogue(dir.file("data"));
    const first = catalogue.generations[0]!;
    const last = catalogue.generations.at(-1)!;
    expect(last.id).toBeGreaterThan(first.id);
    // What the oldest primary wrote may be replayed by any later server, which writes other forms.
    const server = await programOf(dir, kind === KINDS[0] ? availableServers().at(-1)! : kind);
    let open = 0;
    let all = 0;
    for (let draw = 0; draw < MOMENTS; draw++) {
      const begin = first.baseOffset + random.below(last.durableOffset - first.baseOffset);
      const isNear = random.below(2) === 0;
      const room = last.durableOffset - begin + 1;
      const end = begin + random.below(isNear ? Math.min(room, NEAR_BYTES) : room);
      const offsets = random.below(3) === 0 ? [end, begin] : [begin, end];
      const points = offsets.map((offset) =>
        restorePoint(catalogue, { generation: undefined, atMs: undefined, offset }),
      ) as [RestorePoint, RestorePoint];
      const states = [
        await statesAt(catalogue, points[0], kind, dir),
        await statesAt(catalogue, points[1], kind, dir),
      ] as const;
      for (const patterns of [["*"], drawPatterns(random)]) {
        const wanted = { patterns, db: random.below(4) === 0 ? random.below(3) : undefined };
        open += await expectDifference(states, wanted, async () =>
          compareMoments(momentsOf(catalogue, points), wanted, choosing(server)),
        );
        all += Math.max(states[0].size, states[1].size);
      }
    }

    expect(open).toBeLessThan(all / 2);
  },
  TIME_LIMIT_MS,
);

function momentsOf(
  catalogue: Catalogue,
  [before, after]: readonly [RestorePoint, RestorePoint],
): ComparedMoments {
  return {
    before: async (use) => await use(catalogue, before),
    after: async (use) => await use(catalogue, after),
    together:
      before.generation.id === after.generation.id ? { catalogue, before, after } : undefined,
  };
}
