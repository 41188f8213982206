import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openS3 } from "../../../src/archive/store/open-store.ts";
import type { ObjectUpload } from "../../../src/archive/store/s3-upload.ts";
import { Random } from "../../../src/demo/random.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY, type S3Effect } from "../../support/fault-s3.ts";
import { StoreClock } from "../../support/store-clock.ts";
import { until } from "../../support/wait.ts";

const MIB = 1024 * 1024;
const PART = 8 * MIB;
const KEY = "folder/dump of today.rdb";
const signal = new AbortController().signal;
const environment = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
const nobody = () => Promise.reject(new Error("there are none"));

let server: FaultS3;

beforeEach(async () => {
  server = await FaultS3.start();
});
afterEach(() => server.stop());

async function begin(replaces = false): Promise<ObjectUpload> {
  const clock = new StoreClock();
  const seams = { clock, environment, credentials: nobody };
  const store = openS3("s3://bucket/folder", { endpoint: server.endpoint }, seams);
  return await store.upload("dump of today.rdb", replaces, clock, signal);
}

/** Bytes of which no part is like another. */
function bytesOf(length: number): Buffer {
  const bytes = Buffer.alloc(length, "some bytes that aren't repeated at any multiple of two ");
  for (let at = 0; at + 4 < length; at += 65_536) bytes.writeUInt32LE(at, at);
  return bytes;
}

async function writeAll(upload: ObjectUpload, bytes: Uint8Array, seed = 1): Promise<void> {
  const random = new Random(seed);
  for (let at = 0; at < bytes.length;) {
    const to = at + 1 + random.below(3 * MIB);
    await upload.write(bytes.subarray(at, to));
    at = to;
  }
}

const there = () => server.objects.get(KEY)?.bytes;

/** Expects that nothing of the upload stays. */
async function expectNothing(upload: ObjectUpload): Promise<void> {
  expect(await upload.abort()).toBeUndefined();
  expect([server.uploads.size, there()]).toEqual([0, undefined]);
}

describe("an object in parts", () => {
  test.each([1, 1_000_000, PART - 1, PART, PART + 1, 3 * PART + 5])(
    "is there with all of its %d bytes once it is complete, and not before",
    async (length) => {
      const bytes = bytesOf(length);
      const upload = await begin();
      await writeAll(upload, bytes, length);
      expect(there()).toBeUndefined();
      await upload.complete();
      expect(there()!.equals(bytes)).toBe(true);
      expect([server.uploads.size, server.count("PART")]).toEqual([0, Math.ceil(length / PART)]);
      // Nothing is left to give up.
      expect(await upload.abort()).toBeUndefined();
      expect(there()).toBeDefined();
    },
  );

  test("replaces no object unless it shall", async () => {
    server.objects.set(KEY, { bytes: Buffer.from("earlier"), atMs: 0 });
    const refused = await rejectionOf(async () => await begin());
    expect(refused).toMatchObject({ code: "USAGE", message: expect.stringContaining("--force") });
    expect([server.count("BEGIN"), String(there())]).toEqual([0, "earlier"]);
    const upload = await begin(true);
    await upload.write(Buffer.from("later"));
    expect(String(there())).toBe("earlier");
    await upload.complete();
    expect(String(there())).toBe("later");
  });

  test.each([true, false])(
    "replaces none that somebody stores meanwhile, whether the store heeds conditions: %p",
    async (heeds) => {
      server.heedsConditions = heeds;
      const upload = await begin();
      await upload.write(Buffer.from("mine"));
      server.objects.set(KEY, { bytes: Buffer.from("theirs"), atMs: 0 });
      const error = await rejectionOf(async () => await upload.complete());
      expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT", retry: "never" });
      expect(await upload.abort()).toBeUndefined();
      expect([server.uploads.size, String(there())]).toEqual([0, "theirs"]);
    },
  );

  test("replaces none that somebody stores at the last moment", async () => {
    const upload = await begin();
    await upload.write(Buffer.from("mine"));
    server.fail({
      operation: "COMPLETE",
      effect: { kind: "error", status: 412, code: "PreconditionFailed" },
    });
    const error = await rejectionOf(async () => await upload.complete());
    expect(error.code).toBe("ARCHIVE_CONFLICT");
    await expectNothing(upload);
  });

  test("is stored by a store that knows no conditions", async () => {
    server.knowsConditions = false;
    const upload = await begin();
    await upload.write(Buffer.from("bytes"));
    await upload.complete();
    expect(String(there())).toBe("bytes");
  });

  const slow: S3Effect = { kind: "error", status: 503, code: "SlowDown" };
  test.each<[string, S3Effect]>([
    ["is told to slow down", slow],
    ["has an error in an answer of 200", { kind: "error", status: 200, code: "InternalError" }],
    ["is cut amid the request", { kind: "cut", at: "request" }],
    ["is cut before the answer", { kind: "cut", at: "answer" }],
    ["is cut amid the answer", { kind: "cut", at: "body" }],
    ["gets another checksum", { kind: "wrong checksum" }],
  ])("is stored whole where each request %s at first", async (_, effect) => {
    const bytes = bytesOf(PART + 77);
    for (const operation of ["BEGIN", "PART", "COMPLETE"] as const)
      server.fail({ operation, times: 1, effect });
    const upload = await begin();
    await writeAll(upload, bytes);
    await upload.complete();
    expect(there()!.equals(bytes)).toBe(true);
    // A beginning whose answer was lost is an upload without parts.
    for (const { parts } of server.uploads.values()) expect(parts.size).toBe(0);
  });

  test("fails with what a part fails with, and leaves nothing", async () => {
    const upload = await begin();
    server.fail({
      operation: "PART",
      times: 100,
      effect: { kind: "error", status: 403, code: "AccessDenied" },
    });
    const error = await rejectionOf(async () => {
      await writeAll(upload, bytesOf(5 * PART));
      await upload.complete();
    });
    expect(error).toMatchObject({
      code: "ARCHIVE_FORBIDDEN",
      message: expect.stringContaining("grant s3:PutObject"),
    });
    await expectNothing(upload);
  });

  test("leaves nothing where it is given up while parts hang", async () => {
    const upload = await begin();
    server.fail({ operation: "PART", times: 100, effect: { kind: "hang", at: "answer" } });
    await writeAll(upload, bytesOf(2 * PART));
    await until(() => server.hanging === 2, { what: "two parts to hang" });
    await expectNothing(upload);
  });

  test("has no more than three parts in memory", async () => {
    const upload = await begin();
    server.fail({ operation: "PART", times: 100, effect: { kind: "hang", at: "answer" } });
    await upload.write(bytesOf(3 * PART));
    let isTaken = false;
    const writing = upload.write(Buffer.from("more")).then(() => (isTaken = true));
    writing.catch(() => undefined);
    await until(() => server.hanging === 3, { what: "three parts to hang" });
    expect(isTaken).toBe(false);
    await upload.abort();
  });

  test("tells where somebody else has ended it", async () => {
    const upload = await begin();
    await upload.write(Buffer.from("bytes"));
    server.uploads.clear();
    const error = await rejectionOf(async () => await upload.complete());
    expect(error.code).toBe("ARCHIVE_FAILED");
    await expectNothing(upload);
  });

  test("tells what may stay where it can't be given up", async () => {
    const upload = await begin();
    await upload.write(Buffer.from("bytes"));
    server.fail({
      operation: "ABORT",
      times: 100,
      effect: { kind: "error", status: 403, code: "AccessDenied" },
    });
    const left = await upload.abort();
    expect(left?.message).toContain("s3:AbortMultipartUpload");
  });
});
