import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type Snapshot, ReplicaError, restore, snapshots, verify } from "bun-replica";
import { fillAllTypes } from "../support/fill.ts";
import { folderDigest } from "../support/folder-digest.ts";
import { rejectionOf } from "../support/error-of.ts";
import { currentFiles } from "../support/generation-files.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { bootCopyOfDir, type ServerKind, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

setDefaultTimeout(150_000);

const KIND: ServerKind = "redis-8.0";
const dir = tempDir("sources");
const data = dir.file("data");
const archive = `file://${dir.file("archive")}`;
/** Of the data at the end, and in the middle. */
let digest = "";
let middle = { offset: 0, digest: "" };

/** The one that goes farthest: in an archive, those that began within one second have no order. */
async function newestOf(source: string): Promise<Snapshot | undefined> {
  return (await snapshots(source)).toSorted((one, other) => one.toOffset - other.toOffset).at(-1);
}

/** Two generations, and an archive of both. */
beforeAll(async () => {
  await using primary = await startServer(KIND);
  await fillAllTypes(primary, { keys: 600 });
  const args = ["--dir", data, "--port", "0", "--archive", archive, "--archive-every", "100ms"];
  await using replica = startReplica(["follow", primary.url(), ...args]);
  await replica.waitForLine(/connected by full resync/);
  for (let n = 0; n < 50; n++) await primary.send("RPUSH", "list", `item ${n}`);
  replica.signal("SIGUSR1");
  await replica.waitForLine(/generation 2 replaces generation 1/);
  await primary.send("SET", "middle", "1");
  middle = { offset: await primary.offset(), digest: await primary.digest() };
  await primary.send("FLUSHALL");
  await primary.send("SET", "after", "1");
  digest = await primary.digest();
  await primary.acknowledgedBy(1);
  const end = await primary.offset();
  const archivedTo = async () => (await newestOf(archive))?.toOffset ?? 0;
  await until(async () => (await archivedTo()) >= end, { what: "the end in the archive" });
  expect((await replica.stop()).exitCode).toBe(0);
});
afterAll(() => dir.remove());

/** What a stock server has that starts from a restored folder. */
async function loaded(folder: string): Promise<string> {
  await using server = await bootCopyOfDir(KIND, folder, { args: ["--appendonly", "yes"] });
  return await server.digest();
}

/** As `--json` says it. */
function asJson(snapshot: Snapshot) {
  const { encrypted } = snapshot;
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  return {
    id: snapshot.id,
    state: snapshot.state,
    sealed_reason: snapshot.sealedReason ?? null,
    primary: snapshot.primary ?? null,
    primary_version: snapshot.primaryVersion ?? null,
    rdb_format: snapshot.rdbFormat ?? null,
    rdb_version: snapshot.rdbVersion ?? null,
    from_time: time(snapshot.fromMs),
    to_time: time(snapshot.toMs),
    from_offset: snapshot.fromOffset,
    to_offset: snapshot.toOffset,
    durable_offset: snapshot.toOffset,
    rdb_bytes: snapshot.rdbBytes,
    rdb_crc64: snapshot.rdbCrc64 ?? null,
    log_bytes: snapshot.logBytes,
    replication_ids: snapshot.replicationIds.map((one) => ({
      replid: one.replid,
      from_offset: one.fromOffset,
    })),
    ...(encrypted === undefined ? {} : { encrypted }),
  };
}

describe.each(["directory", "archive"] as const)("of a %s", (kind) => {
  const source = kind === "directory" ? data : archive;

  test("lists what the command lists", async () => {
    const { stdout } = await runReplica(["snapshots", source, "--json"]);
    const listed = await snapshots(source);
    expect(listed).toHaveLength(2);
    expect(listed.map(asJson)).toEqual(JSON.parse(stdout).generations);
  });

  test("checks what the command checks", async () => {
    const seen = new Set<string>();
    const found = await verify(source, { onProgress: (file) => seen.add(file) });
    expect(found).toMatchObject({ kind, source, ok: true, damages: [], notes: [] });
    const { stdout } = await runReplica(["verify", source, "--json"]);
    const generations = JSON.parse(stdout).generations as Record<string, unknown>[];
    expect(
      found.generations.map(({ id, fromOffset, toOffset }) => ({
        id,
        from_offset: fromOffset,
        to_offset: toOffset,
      })),
    ).toEqual(
      generations.map(({ id, from_offset, to_offset }) => ({
        id,
        from_offset,
        to_offset,
      })) as never,
    );
    expect(found.generations.map(({ rdb }) => rdb?.checked)).toEqual([true, true]);
    expect(seen.size).toBeGreaterThanOrEqual(2);
  });

  test("restores the end, and any offset", async () => {
    const target = dir.file(`${kind}-end`);
    const end = await restore(source, target);
    expect(end).toMatchObject({ dir: target, generation: (await newestOf(source))!.id });
    expect(await loaded(target)).toBe(digest);
    const byTime = await restore(source, dir.file(`${kind}-time`), { at: new Date() }).catch(
      (error: unknown) => error,
    );
    if (kind === "directory") {
      expect(byTime).toMatchObject({ offset: end.offset });
    } else {
      // What lies behind the last mark there is unknown.
      expect(byTime).toMatchObject({ code: "USAGE" });
    }
    const { offset } = middle;
    const before = await restore(source, dir.file(`${kind}-middle`), {
      offset,
      layout: "multipart",
    });
    expect(before.offset).toBe(offset);
    expect(await loaded(dir.file(`${kind}-middle`))).toBe(middle.digest);
    const command = ["restore", source, dir.file(`${kind}-command`), "--offset", String(offset)];
    expect((await runReplica(command)).exitCode).toBe(0);
    expect(folderDigest(dir.file(`${kind}-middle`))).toEqual(
      folderDigest(dir.file(`${kind}-command`)),
    );
  });

  test("a restore that is aborted rejects with the reason and leaves nothing", async () => {
    const reason = new Error("enough");
    for (const isEarly of [true, false]) {
      const stopping = new AbortController();
      if (isEarly) stopping.abort(reason);
      const target = dir.file(`${kind}-aborted`);
      const stopped = restore(source, target, {
        signal: stopping.signal,
        onProgress: () => stopping.abort(reason),
      });
      expect(await stopped.catch((error: unknown) => error)).toBe(reason);
      expect(existsSync(target)).toBe(false);
      const left = readdirSync(dir.path).filter((name) => name.includes("aborted"));
      expect(left).toEqual([]);
    }
  });

  test("a generation that isn't there is refused by what is", async () => {
    const generation = kind === "directory" ? 77 : "20200101";
    const error = await rejectionOf(() => restore(source, dir.file("none"), { generation }));
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain(String(generation));
  });
});

test("damage is a result of verify, and an error of restore", async () => {
  using copy = tempDir("sources");
  await Bun.$`cp -a ${data} ${copy.file("data")}`.quiet();
  const { base } = currentFiles(copy.file("data"));
  const bytes = readFileSync(base);
  bytes[150]! ^= 1;
  rmSync(base);
  writeFileSync(base, bytes);
  const found = await verify(copy.file("data"));
  expect(found).toMatchObject({ ok: false, generations: [{ damages: [] }, { rdb: undefined }] });
  expect(found.damages).toMatchObject([{ file: base, what: expect.any(String) }]);
  const error = await rejectionOf(() => restore(copy.file("data"), copy.file("target")));
  expect(error).toMatchObject({ code: "DIRECTORY_DAMAGED", retry: "never" });
  expect(await verify(base)).toMatchObject({ kind: "rdb", ok: false, rdb: undefined });
  rmSync(copy.file("data/replica.db"));
  const warnings: string[] = [];
  await snapshots(copy.file("data"), { onWarning: (text) => warnings.push(text) });
  expect(warnings.join()).toContain("replica.db");
});

describe("refuses", () => {
  const target = dir.file("unused");
  const cases: [string, () => Promise<unknown>, RegExp][] = [
    ["no source", () => snapshots(undefined as never), /source is undefined/],
    ["an empty source", () => verify(""), /source is ""/],
    ["a source that isn't there", () => verify("/nowhere"), /no such file/],
    ["a folder of something else", () => snapshots(dir.path), /isn't a replica data directory/],
    ["a device", () => verify("/dev/zero"), /neither a file nor a directory/],
    ["a file as a history", () => restore(import.meta.path, target), /is a file/],
    ["an archive that is none", () => verify(`file://${data}`), /is no archive/],
    [
      "a key in place of an identity",
      () => verify(archive, { archiveIdentity: "AGE-SECRET-KEY-1" }),
      /path of the file/,
    ],
    [
      "a quick check of a directory",
      () => verify(data, { quick: true }),
      /quick is for an archive/,
    ],
    ["a URL as the target", () => restore(data, "s3://bucket/x"), /not a folder/],
    ["no target", () => restore(data, undefined as never), /target is undefined/],
    ["a target that is taken", () => restore(data, dir.path), /not empty/],
    ["a moment that is none", () => restore(data, target, { at: new Date(NaN) }), /takes a Date/],
    ["a moment that isn't kept", () => restore(data, target, { at: 1000 }), /1970-.* is not kept/],
    ["an offset that is none", () => restore(data, target, { offset: 1.5 }), /whole number/],
    ["an offset that isn't kept", () => restore(data, target, { offset: 2 ** 50 }), /is not kept/],
    ["both", () => restore(data, target, { offset: 1, at: 1 }), /not both/],
    ["a layout", () => restore(data, target, { layout: "flat" as never }), /multipart or single/],
    ["a server", () => restore(data, target, { for: "mysql" }), /redis-8.0/],
    ["a server that is too old", () => restore(data, target, { for: "redis-7.0" }), /Redis 7.0/],
    ["a mode", () => restore(data, target, { mode: 644 }), /0o600/],
  ];
  test.each(cases)("%s", async (_, act, said) => {
    const error = await rejectionOf(act);
    expect(error).toBeInstanceOf(ReplicaError);
    expect(error).toMatchObject({ code: "USAGE", retry: "never" });
    expect(error.message).toMatch(said);
    expect(error.message).not.toContain("\n");
    expect(existsSync(target)).toBe(false);
  });
});
