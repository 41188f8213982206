import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { basename } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Encryption } from "../../src/archive/format/encryption.ts";
import { FileStore } from "../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { realClock } from "../../src/base/clock.ts";
import { APPEND_DIR, RESTORED, SINGLE_FILE } from "../../src/store/restore/restore.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import {
  randomCuts,
  STARTED_MS,
  streamOf,
  writeArchive,
  type WrittenGeneration,
  writeGeneration,
} from "../support/written-archive.ts";
import { rdbOf } from "../store/rdb.ts";

const dir = tempDir("archive-source");
const { stream, ends } = streamOf(21, 500);
const END = 5_000 + stream.length;
const root = dir.file("archive");
const url = `file://${root}`;
const identity = dir.file("identity.txt");
let server: FaultS3;
let written: WrittenGeneration;
let encrypted: string;
let targets = 0;

beforeAll(async () => {
  server = await FaultS3.start();
  const plan = { rdb: rdbOf(150_000), stream, cuts: randomCuts(22, stream.length, 9) };
  const store = new FileStore(root, realFolderDisk, realClock);
  await writeArchive(store);
  written = await writeGeneration(store, plan);
  const key = await generateX25519Identity();
  fs.writeFileSync(identity, `${key}\n`);
  const encryption = new Encryption([await identityToRecipient(key)]);
  const secret = new FileStore(dir.file("secret"), realFolderDisk, realClock);
  await writeArchive(secret);
  await writeGeneration(secret, { ...plan, encryption });
  encrypted = `file://${dir.file("secret")}`;
});
afterAll(async () => {
  dir.remove();
  await server.stop();
});

const newTarget = () => dir.file(`target-${targets++}`);

function logIn(target: string): Buffer {
  return fs.readFileSync(`${target}/${APPEND_DIR}/${RESTORED.log}`);
}

/** What is in the folder beside what the test put there. */
function left(): string[] {
  return fs.readdirSync(dir.path).filter((name) => name.startsWith("."));
}

describe("an archive as SOURCE", () => {
  test("is listed with the window of each generation", async () => {
    const { exitCode, stdout } = await runReplica(["snapshots", url]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(written.name);
    expect(stdout).toContain("2026-11-30T05:00:00.000Z  2026-11-30T05:00:20.000Z");
    const json = await runReplica(["snapshots", url, "--json"]);
    const listing = JSON.parse(json.stdout) as { generations: object[] };
    expect(listing).toMatchObject({
      archive: url,
      warnings: [],
      generations: [{ id: written.name, state: "open", from_offset: 5_000, to_offset: END }],
    });
  });

  test("is restored as of a time, byte for byte", async () => {
    const target = newTarget();
    const { timeMs, offset } = written.marks[7]!;
    const at = new Date(timeMs).toISOString();
    const { exitCode, stdout, stderr } = await runReplica(["restore", url, target, "--at", at]);
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining("--at")]);
    const safe = ends.findLast((end) => 5_000 + end <= offset)!;
    expect(logIn(target).equals(written.log.subarray(0, written.selectBytes + safe))).toBe(true);
    expect(stdout).toContain(
      `generation ${written.name} up to offset ${5_000 + safe}, as of ${at}`,
    );
    expect(left()).toEqual([]);
    // Nobody else could read it while it was fetched, either.
    expect(fs.statSync(target).mode & 0o777).toBe(0o700);
  });

  test("is restored into a folder that is there, in either layout, with its mode", async () => {
    for (const layout of ["multipart", "single"]) {
      const target = newTarget();
      fs.mkdirSync(target);
      const args = ["restore", url, target, "--layout", layout, "--mode", "640", "--json"];
      const { exitCode, stdout } = await runReplica(args);
      expect(exitCode).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({
        generation: written.name,
        offset: END,
        commands: 500,
      });
      const base = fs.readFileSync(
        `${target}/${APPEND_DIR}/${RESTORED.base}`.replace(
          `${APPEND_DIR}/${RESTORED.base}`,
          layout === "single" ? SINGLE_FILE : `${APPEND_DIR}/${RESTORED.base}`,
        ),
      );
      expect(base.subarray(0, written.rdb.length).equals(written.rdb)).toBe(true);
      if (layout === "single")
        expect(base.subarray(written.rdb.length).equals(written.log)).toBe(true);
      expect(fs.readdirSync(target)).toHaveLength(1);
    }
  });

  test("is restored from a generation by the beginning of its id, up to an offset", async () => {
    const target = newTarget();
    const args = [
      "restore",
      url,
      target,
      "--generation",
      "2026",
      "--offset",
      String(5_000 + ends[99]!),
    ];
    const { exitCode } = await runReplica(args);
    expect(exitCode).toBe(0);
    expect(logIn(target).length).toBe(written.selectBytes + ends[99]!);
  });

  test("refuses a moment that was not archived, with the window", async () => {
    const at = new Date(STARTED_MS + 60_000).toISOString();
    const { exitCode, stderr } = await runReplica(["restore", url, newTarget(), "--at", at]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(
      "is not in the archive: it can be restored as of 2026-11-30T05:00:00.000Z to 2026-11-30T05:00:20.000Z",
    );
    const odd = await runReplica(["restore", url, newTarget(), "--at", "yesterday"]);
    expect(odd.exitCode).toBe(2);
    expect(odd.stderr).toContain("it can be restored as of 2026-11-30T05:00:00.000Z");
  });

  test("is read with the identity alone where it is encrypted", async () => {
    const without = await runReplica(["restore", encrypted, newTarget()]);
    expect(without.exitCode).toBe(2);
    expect(without.stderr).toContain("is encrypted: name the file of the age identity");
    const listed = await runReplica(["snapshots", encrypted]);
    expect([listed.exitCode, listed.stdout]).toEqual([0, expect.stringContaining("unknown")]);
    const target = newTarget();
    const args = ["restore", encrypted, target, "--archive-identity", identity];
    const { exitCode } = await runReplica(args);
    expect(exitCode).toBe(0);
    expect(logIn(target).equals(written.log)).toBe(true);
    const missing = await runReplica(["verify", encrypted, "--archive-identity", dir.file("none")]);
    expect(missing.exitCode).toBe(2);
    expect(missing.stderr).toContain("which can't be read");
    expect(left()).toEqual([]);
  });

  test("in a bucket is reached with the keys of the environment", async () => {
    for (const name of fs.readdirSync(root, { recursive: true, encoding: "utf8" })) {
      const path = `${root}/${name}`;
      if (!fs.statSync(path).isFile()) continue;
      server.objects.set(`here/${name}`, { bytes: fs.readFileSync(path), atMs: Date.now() });
    }
    const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
    const place = ["s3://bucket/here", "--archive-endpoint", server.endpoint];
    const target = newTarget();
    const { exitCode } = await runReplica(["restore", place[0]!, target, ...place.slice(1)], {
      env,
    });
    expect(exitCode).toBe(0);
    expect(logIn(target).equals(written.log)).toBe(true);
    const wrong = await runReplica(["snapshots", ...place], {
      env: { ...env, AWS_SECRET_ACCESS_KEY: "another" },
    });
    expect(wrong.exitCode).toBe(1);
    expect(wrong.stderr).not.toContain("another");
    expect(server.count("PUT") + server.count("DELETE")).toBe(0);
  });

  test("is verified: 0 where it is sound, 3 with the object's name where it isn't", async () => {
    const sound = await runReplica(["verify", url]);
    expect([sound.exitCode, sound.stdout]).toEqual([
      0,
      expect.stringContaining(`${url}: no damage found`),
    ]);
    const quick = await runReplica(["verify", url, "--quick", "--json"]);
    expect(JSON.parse(quick.stdout)).toMatchObject({ path: url, ok: true, quick: true });
    const damaged = `${root}/${written.segments[3]!}`;
    const before = fs.readFileSync(damaged);
    fs.writeFileSync(damaged, before.subarray(0, before.length - 9));
    const found = await runReplica(["verify", url]);
    expect(found.exitCode).toBe(3);
    expect(found.stdout).toMatch(
      new RegExp(
        `damaged: ${url}/${written.segments[3]!}: it .*; of this generation, everything up to offset \\d+ can be restored`,
      ),
    );
    const restored = await runReplica(["restore", url, newTarget()]);
    expect(restored.exitCode).toBe(3);
    expect(restored.stderr).toContain(written.segments[3]!);
    fs.writeFileSync(damaged, before);
    expect(left()).toEqual([]);
  });

  test("leaves nothing of a restore that is stopped while the store hangs, nor of one that was killed", async () => {
    const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
    const target = newTarget();
    const killed = dir.file(`.${basename(target)}.fetching-999999999`);
    fs.mkdirSync(killed);
    server.fail({ within: "/base/", times: 1_000, effect: { kind: "hang", at: "body" } });
    await using replica = startReplica(
      ["restore", "s3://bucket/here", target, "--archive-endpoint", server.endpoint],
      { env },
    );
    await until(() => server.hanging > 0 || undefined, { what: "a request to hang" });
    replica.signal("SIGINT");
    expect((await replica.ended()).exitCode).toBe(1);
    server.heal();
    expect(left()).toEqual([]);
    expect(fs.existsSync(target)).toBe(false);
  });

  test("that is none is refused, and so is --quick for anything else", async () => {
    fs.mkdirSync(dir.file("data", "generations", "0000000001"), { recursive: true });
    const none = await runReplica(["snapshots", `file://${dir.file("data")}`]);
    expect(none.exitCode).toBe(2);
    expect(none.stderr).toContain("is no archive: it has no archive.json");
    const quick = await runReplica(["verify", dir.file("data"), "--quick"]);
    expect([quick.exitCode, quick.stderr]).toEqual([
      2,
      expect.stringContaining("is for an archive"),
    ]);
    const key = ["--archive-identity", "AGE-SECRET-KEY-1QQQQ"];
    const secret = await runReplica(["snapshots", url, ...key]);
    expect([secret.exitCode, secret.stderr]).toEqual([2, expect.not.stringContaining("QQQQ")]);
    const inside = await runReplica(["restore", url, `${root}/target`]);
    expect(inside.exitCode).toBe(2);
    expect(inside.stderr).toContain(`lies in the archive ${root}`);
  });
});
