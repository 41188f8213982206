import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { type FollowEvent, follow, ReplicaError, restore, snapshots, verify } from "bun-replica";
import { EmbeddedPrimary } from "../../src/demo/primary.ts";
import { rejectionOf, thrownBy } from "../support/error-of.ts";
import { folderDigest } from "../support/folder-digest.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { runProgram } from "./user-program.ts";

setDefaultTimeout(150_000);

const OPTIONS = {
  seed: 21,
  keys: 500,
  valueBytes: 200,
  payloadForm: "eof",
  backlogBytes: 1024 * 1024,
  writesPerSecond: 100,
} as const;

let primary: EmbeddedPrimary;
beforeAll(async () => {
  primary = await EmbeddedPrimary.start(OPTIONS);
});
afterAll(async () => await primary.stop());

/** The open descriptors of this process but for the test's own connections. */
function open(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const what = readlinkSync(`/proc/self/fd/${fd}`);
      return what.startsWith("socket:") ? [] : [what];
    } catch {
      return []; // it was the listing's own
    }
  });
}

/** Waits until nothing in a folder is open. What another thread is just syncing or reading is closed once that is done. */
async function nothingIn({ path }: { readonly path: string }): Promise<void> {
  await until(() => open().every((one) => !one.startsWith(path)), { what: "all to be closed" });
}

/** Reads events until one is as wanted. */
async function eventOf<T extends FollowEvent>(
  events: AsyncIterable<FollowEvent>,
  isWanted: (event: FollowEvent) => event is T,
): Promise<T> {
  for await (const event of events) if (isWanted(event)) return event;
  throw new Error("it ended before that came");
}

const isMoved = (event: FollowEvent) => event.type === "moved";
const isEvent = (event: FollowEvent) => event.type === "event";
/** Of a directory that keeps something, the cursors are told before that. */
const isConnected = (event: FollowEvent): event is Extract<FollowEvent, { type: "state" }> =>
  event.type === "state" && event.state === "connected";

test("tells what happens, in order, and how it stands", async () => {
  using dir = tempDir("library");
  const stopping = new AbortController();
  const following = follow(
    { url: primary.url, dir: dir.file("data"), fsync: "always", retryMax: "100ms" },
    { signal: stopping.signal },
  );
  expect(following.status()).toBeUndefined();
  const events: FollowEvent[] = [];
  for await (const event of following) {
    events.push(event);
    if (event.type === "moved" && event.durable > primary.masterReplOffset - 500) {
      if (events.filter(isMoved).length > 2) stopping.abort();
    }
  }
  await following.ended;
  const states = events.flatMap((event) => (event.type === "state" ? [event.state] : []));
  expect(states.slice(0, 3)).toEqual(["none", "connect", "connecting"]);
  expect(states.indexOf("transfer")).toBeLessThan(states.indexOf("connected"));
  const generation = events.find((event) => event.type === "generation");
  expect(generation).toMatchObject({ id: 1, rdbBytes: expect.any(Number) });
  expect(events).toContainEqual(
    expect.objectContaining({ type: "event", kind: "full-resync", text: expect.any(String) }),
  );
  for (const { received, written, durable } of events.filter(isMoved)) {
    expect(durable).toBeLessThanOrEqual(written);
    expect(written).toBeLessThanOrEqual(received);
  }
  const last = events.findLast(isMoved)!;
  expect(following.status()).toMatchObject({
    dir: dir.file("data"),
    primary: { name: primary.url, host: "127.0.0.1", port: primary.port },
    state: "none",
    cursors: { received: last.received, durable: last.received },
    generation: { id: 1 },
    fullSyncs: 1,
    partialSyncs: 0,
    lastBreak: undefined,
    archive: undefined,
    port: undefined,
  });
  const [kept] = await snapshots(dir.file("data"));
  expect(kept).toMatchObject({ id: 1, state: "current", toOffset: last.received });
  expect(await verify(dir.file("data"))).toMatchObject({ ok: true });
});

test("goes on by partial resync, and leaves nothing open", async () => {
  using dir = tempDir("library");
  const options = { url: primary.url, dir: dir.file("data"), retryMax: "100ms" };
  // What is loaded and made once stays.
  await using first = follow(options);
  await eventOf(first, isMoved);
  const busy = await rejectionOf(async () => await follow(options).ended);
  expect(busy).toMatchObject({ code: "DIRECTORY_IN_USE" });
  expect(busy).toBeInstanceOf(ReplicaError);
  await first.stop();
  await nothingIn(dir);
  const before = open();
  for (let round = 0; round < 3; round++) {
    await using following = follow(options);
    expect(await eventOf(following, isEvent)).toMatchObject({ kind: "partial-resync" });
    expect(following.status()).toMatchObject({ fullSyncs: 0, partialSyncs: 1 });
  }
  await nothingIn(dir);
  expect(open()).toEqual(before);
});

test("a signal that is aborted already begins nothing", async () => {
  using dir = tempDir("library");
  const options = { url: primary.url, dir: dir.file("data") };
  const following = follow(options, { signal: AbortSignal.abort() });
  for await (const event of following) throw new Error(`it began: ${event.type}`);
  await following.stop();
  expect(existsSync(dir.file("data"))).toBe(false);
});

test("leaving its events stops nothing: they go on for the next who iterates", async () => {
  using dir = tempDir("library");
  await using following = follow({ url: primary.url, dir: dir.file("data") });
  for await (const event of following) if (event.type === "state") break;
  await eventOf(following, isMoved);
  expect(following.status()).toMatchObject({ state: "connected" });
});

test("can be stopped at any moment of its start", async () => {
  using dir = tempDir("library");
  for (let turns = 0; turns < 40; turns += 3) {
    const following = follow({ url: primary.url, dir: dir.file(`data-${turns}`) });
    for (let turn = 0; turn < turns; turn++) await new Promise((next) => setImmediate(next));
    await following.stop();
    await following.stop();
    for await (const _ of following);
  }
  await nothingIn(dir);
});

test("tells of breaks and comes back", async () => {
  using dir = tempDir("library");
  const away = await EmbeddedPrimary.start({ ...OPTIONS, writesPerSecond: 0 });
  await using following = follow({
    url: away.url,
    dir: dir.file("data"),
    retryMax: "20ms",
    syncTimeout: "2s",
  });
  await eventOf(following, isConnected);
  await away.stop();
  const broken = await eventOf(
    following,
    (event): event is Extract<FollowEvent, { type: "event" }> =>
      event.type === "event" && event.kind === "break",
  );
  expect(broken.text).toContain("the primary");
  await until(() => following.status()?.lastBreak?.code === "CONNECT_FAILED", {
    what: "an attempt that finds nobody",
  });
  expect(following.status()?.notReady).toContain("the link is in state");
});

describe("a port", () => {
  test("is there only if it was asked for, and gone afterwards", async () => {
    using dir = tempDir("library");
    const following = follow({
      url: primary.url,
      dir: dir.file("data"),
      port: 0,
      http: "127.0.0.1:0",
    });
    await eventOf(following, isMoved);
    const { port } = following.status()!;
    {
      await using client = await RespClient.connect({ port: port! });
      expect(await client.send("PING")).toBe("PONG");
    }
    await following.stop();
    expect(following.status()).toMatchObject({ port });
    expect(await thrownBy(RespClient.connect({ port: port! }))).toThrow();
  });

  test("takes SHUTDOWN as a stop", async () => {
    using dir = tempDir("library");
    const following = follow({ url: primary.url, dir: dir.file("data"), port: 0 });
    await eventOf(following, isMoved);
    const client = await RespClient.connect({ port: following.status()!.port! });
    await client.send("SHUTDOWN").catch(() => undefined);
    await following.ended;
  });
});

test("carries to an archive, from which all else can be read, and fills an empty directory from it", async () => {
  using dir = tempDir("library");
  const url = `file://${dir.file("archive")}`;
  const options = { url: primary.url, dir: dir.file("data"), archive: url, archiveEvery: "100ms" };
  const following = follow(options);
  await eventOf(following, isMoved);
  const reached = following.status()!.cursors.received;
  await until(() => (following.status()?.archive?.archivedOffset ?? 0) >= reached, {
    what: "the archive to have it",
  });
  expect(following.status()?.archive).toMatchObject({ url, isUp: true });
  await following.stop();
  const [archived] = await snapshots(url);
  expect(archived).toMatchObject({ state: "open", encrypted: false, primary: primary.url });
  expect(await verify(url)).toMatchObject({ kind: "archive", ok: true, damages: [] });
  const { toOffset: offset } = archived!;
  const fromArchive = await restore(url, dir.file("one"), { offset });
  const fromDirectory = await restore(dir.file("data"), dir.file("other"), { offset });
  expect(fromArchive).toMatchObject({ offset: fromDirectory.offset, generation: archived!.id });
  expect(folderDigest(dir.file("one"))).toEqual(folderDigest(dir.file("other")));
  rmSync(dir.file("data"), { recursive: true });
  {
    await using again = follow(options);
    await eventOf(again, isConnected);
    expect(again.status()).toMatchObject({ fullSyncs: 0, partialSyncs: 1 });
  }
  await nothingIn(dir);
});

test("leaves a program's signals, exit code and output alone, and lets it end", async () => {
  using dir = tempDir("library");
  const { exitCode, stdout, stderr } = await runProgram(
    dir,
    `
    import { follow } from "bun-replica";
    const before = process.eventNames().length;
    const stopping = new AbortController();
    const following = follow({ url: process.argv[2]!, dir: "data" }, stopping);
    let most = 0;
    for await (const event of following) {
      most = Math.max(most, process.eventNames().length);
      if (event.type === "moved") stopping.abort();
    }
    console.log(JSON.stringify({ before, most, exitCode: process.exitCode ?? null }));`,
    { args: [primary.url] },
  );
  expect([exitCode, stderr]).toEqual([0, ""]);
  const { before, most, exitCode: set } = JSON.parse(stdout);
  expect([most, set]).toEqual([before, null]);
});
