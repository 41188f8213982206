import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { snapshots } from "bun-replica";
import { endWithProcess, endingWithParent } from "../support/children.ts";
import { programEnvironment, runReplica } from "../support/replica-process.ts";
import {
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { userFolder } from "./user-program.ts";

setDefaultTimeout(150_000);

const KIND: ServerKind = "redis-8.0";
const text = await Bun.file(join(import.meta.dir, "../../docs/LIBRARY.md")).text();
/** The programs that LIBRARY.md marks as run, by the name it gives them. */
const programs = new Map(
  Array.from(text.matchAll(/<!-- run: ([\w-]+) -->\n\n```ts\n([\s\S]*?)```/g), (match) => [
    match[1]!,
    match[2]!,
  ]),
);

const dir = tempDir("library-document");
const folder = userFolder(dir);
let primary: RealServer;
let moment = "";

/** A file that is there isn't emptied by being somebody's output. */
let outputs = 0;

/** Starts a program as it stands in the document, but for places and the moment. */
function start(name: string) {
  const program = programs.get(name);
  if (program === undefined) throw new Error(`LIBRARY.md has no program named ${name}`);
  const here = program
    .replaceAll("/var/lib/replica", dir.file("data"))
    .replaceAll("/var/lib/reader.json", dir.file("reader.json"))
    .replaceAll("/var/backups/", `${dir.path}/`)
    .replaceAll("/mnt/archive", dir.file("archive"))
    .replaceAll("/srv/", `${dir.path}/`)
    .replaceAll("redis://10.0.0.5:6379", primary.url())
    .replaceAll(
      'keepFor: "7d"',
      `keepFor: "7d", archive: "file://${dir.file("archive")}", archiveEvery: "100ms"`,
    )
    .replaceAll("2026-01-31T11:59:00Z", moment);
  const path = join(folder, `${name}.ts`);
  writeFileSync(path, here);
  const output = dir.file(`${name}.${outputs++}`);
  const child = Bun.spawn(endingWithParent([process.execPath, path]), {
    cwd: folder,
    env: programEnvironment(),
    stdin: "ignore",
    stdout: Bun.file(output),
    stderr: Bun.file(`${output}.errors`),
  });
  endWithProcess(child);
  const printed = async () => await Bun.file(output).text();
  const ended = async () => {
    const exitCode = await child.exited;
    expect([exitCode, await Bun.file(`${output}.errors`).text()]).toEqual([0, ""]);
    return await printed();
  };
  return { child, printed, ended };
}

/** What `follow` prints while the primary is written to. */
let followed = "";

beforeAll(async () => {
  mkdirSync(folder, { recursive: true });
  primary = await startServer(KIND);
  for (let n = 0; n < 20; n++) await primary.send("SET", `user:${n}`, "x".repeat(n));
  await primary.send("RPUSH", "user:list", "one", "two");
  expect((await runReplica(["backup", primary.url(), dir.file("dump.rdb")])).exitCode).toBe(0);
  const following = start("follow");
  await until(async () => /durable up to/.test(await following.printed()), { what: "an event" });
  await primary.send("SET", "user:one", "1");
  await primary.send("SET", "other", "1");
  await primary.acknowledgedBy(1);
  // Marks are a second apart.
  await Bun.sleep(2_100);
  moment = new Date().toISOString();
  await primary.send("FLUSHALL");
  await primary.send("SET", "user:two", "2");
  const end = await primary.offset();
  const archived = async () => (await snapshots(`file://${dir.file("archive")}`)).at(-1);
  await until(async () => ((await archived())?.toOffset ?? 0) >= end, { what: "the archive" });
  following.child.kill("SIGTERM");
  followed = await following.ended();
});
afterAll(async () => {
  await primary[Symbol.asyncDispose]();
  dir.remove();
});

test("follows until it is stopped, and tells what happens", () => {
  expect(followed).toContain("the link is in state connected\n");
  expect(followed).toMatch(/^a snapshot at offset \d+$/m);
  expect(followed).toMatch(/^durable up to offset \d+$/m);
});

test("reads the log, and goes on where it was", async () => {
  expect(await start("log").ended()).toBe("SET user:one\nFLUSHALL\nSET user:two\n");
  expect(await start("log").ended()).toBe("");
});

test("reads the keys of an RDB", async () => {
  const printed = await start("keys").ended();
  expect(printed).toMatch(/string: \d+/);
  expect(printed).toMatch(/list: \d+/);
});

test("restores the moment before FLUSHALL", async () => {
  expect(await start("restore").ended()).toMatch(/--appendonly yes starts as of offset \d+\n$/);
  await using server = await bootCopyOfDir(KIND, dir.file("restored"), {
    args: ["--appendonly", "yes"],
  });
  expect(await server.send("DBSIZE")).toBe(23);
});

test("lists and checks an archive", async () => {
  const printed = await start("snapshots").ended();
  expect(printed).toMatch(/^\S+ open 20\S+Z 20\S+Z\nall of it is sound\n$/);
});

test("every program that LIBRARY.md marks as run is run here", async () => {
  const source = await Bun.file(import.meta.path).text();
  const run = Array.from(source.matchAll(/start\("([\w-]+)"\)/g), (match) => match[1]!);
  expect([...new Set(run)].toSorted()).toEqual([...programs.keys()].toSorted());
  expect(programs.size).toBe(5);
});
