import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as net from "node:net";
import type { CredentialSource } from "../../../src/archive/store/credentials.ts";
import type { ListPage, ObjectStore } from "../../../src/archive/store/object-store.ts";
import { openStore } from "../../../src/archive/store/open-store.ts";
import { Random } from "../../../src/demo/random.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { rejectionOf } from "../../support/error-of.ts";
import {
  ACCESS_KEY,
  FaultS3,
  SECRET_KEY,
  type S3Effect,
  type S3Operation,
} from "../../support/fault-s3.ts";
import { StoreClock } from "../../support/store-clock.ts";
import { certificates } from "../../support/tls.ts";
import { until } from "../../support/wait.ts";

const signal = new AbortController().signal;
const KEY = "generations/20261130T000000Z-abc/log/000-100-ff.aof.zst";
const keys = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
const nobody: CredentialSource = () => Promise.reject(new Error("there are none"));

let server: FaultS3;
let clock: StoreClock;
let store: ObjectStore;

beforeEach(async () => {
  server = await FaultS3.start();
  clock = new StoreClock();
  store = storeAt(server.endpoint);
});
afterEach(() => server.stop());

interface Place {
  readonly url?: string;
  readonly region?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly credentials?: CredentialSource;
}

function storeAt(endpoint: string, place: Place = {}): ObjectStore {
  const { url = "s3://bucket/prefix", region, environment = keys, credentials = nobody } = place;
  return openStore(
    url,
    { endpoint, ...(region === undefined ? {} : { region }) },
    { clock, disk: realFolderDisk, environment, credentials },
  );
}

function bytesOf(length: number, seed = 1): Uint8Array {
  const random = new Random(seed);
  return Uint8Array.from({ length }, () => random.below(256));
}

const get = (key = KEY, maxBytes = 4 << 20) => store.get(key, { maxBytes }, signal);

async function listed(folder: string): Promise<ListPage[]> {
  const pages: ListPage[] = [];
  for await (const page of store.list(folder, signal)) pages.push(page);
  return pages;
}

describe("an archive in a bucket", () => {
  test.each([0, 1, 1000, 262_144, 3_000_000])(
    "keeps %d bytes, and gives them back",
    async (length) => {
      const bytes = bytesOf(length);
      await store.put(KEY, bytes, signal);
      expect(server.objects.get(`prefix/${KEY}`)?.bytes.equals(bytes)).toBe(true);
      expect(Buffer.from((await get())!).equals(bytes)).toBe(true);
    },
  );

  test("tells the time of the server, or that it has none", async () => {
    server.clock = () => Date.now() - 600_000;
    const nowMs = (await store.now(signal))!;
    expect(Math.abs(Date.now() - 600_000 - nowMs)).toBeLessThan(60_000);
    server.clock = () => undefined;
    expect(await store.now(signal)).toBeUndefined();
    expect(server.seen.map(({ operation }) => operation)).toEqual(["LIST", "LIST"]);
  });

  test("signs, sums up and conditions what it stores", async () => {
    await store.put(KEY, bytesOf(10), signal);
    const { headers } = server.seen[0]!;
    expect(headers).toMatchObject({ "if-none-match": "*", "content-length": "10" });
    expect(headers["x-amz-checksum-sha256"]).toBeDefined();
    expect(headers["content-type"]).toBeUndefined();
    expect(headers["accept-encoding"]).toBe("identity");
    expect(headers["authorization"]).not.toContain("accept-encoding");
    expect(headers["transfer-encoding"]).toBeUndefined();
  });

  test("sends the SHA-256 that is known, without computing it", async () => {
    const known = new Bun.CryptoHasher("sha256").update("of other bytes").digest();
    const error = await rejectionOf(() => store.put(KEY, bytesOf(1000), signal, known));
    expect(error.code).toBe("ARCHIVE_FAILED");
    expect(server.objects.size).toBe(0);
  });

  test("gives what comes without a length, up to the most that it may have", async () => {
    const bytes = bytesOf(3_000_000);
    const [first, second] = [bytes.subarray(0, 100_000), bytes.subarray(100_000)];
    const streaming = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () =>
        new Response(
          new ReadableStream({
            start: (controller) => {
              controller.enqueue(first);
              controller.enqueue(second);
              controller.close();
            },
          }),
        ),
    });
    try {
      store = storeAt(`http://127.0.0.1:${streaming.port}`);
      expect(Buffer.from((await get(KEY, bytes.length))!).equals(bytes)).toBe(true);
      const error = await rejectionOf(() => get(KEY, bytes.length - 1));
      expect(error.code).toBe("ARCHIVE_DAMAGED");
    } finally {
      await streaming.stop(true);
    }
  });

  test("gives parts, and what there is of a part that ends behind the object", async () => {
    await store.put(KEY, Buffer.from("0123456789"), signal);
    const part = async (from: number, to: number) => {
      const bytes = await store.get(KEY, { range: { from, to }, maxBytes: 10 }, signal);
      return Buffer.from(bytes!).toString();
    };
    expect(await part(2, 5)).toBe("234");
    expect(await part(8, 20)).toBe("89");
    expect(await part(10, 20)).toBe("");
    expect(await part(3, 3)).toBe("");
  });

  test("has no object that was not stored, or was deleted", async () => {
    expect(await get()).toBeUndefined();
    await store.put(KEY, bytesOf(3), signal);
    await store.delete(KEY, signal);
    await store.delete(KEY, signal);
    expect(await get()).toBeUndefined();
  });

  test("takes equal bytes again, and no others", async () => {
    await store.put(KEY, bytesOf(100), signal);
    await store.put(KEY, bytesOf(100), signal);
    const puts = server.count("PUT");
    for (const other of [bytesOf(100, 2), bytesOf(99), bytesOf(101), new Uint8Array(0)]) {
      const error = await rejectionOf(() => store.put(KEY, other, signal));
      expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT", retry: "never" });
    }
    expect(server.count("PUT")).toBe(puts + 4);
    expect(Buffer.from((await get())!).equals(bytesOf(100))).toBe(true);
  });

  test("is kept by a store without conditional writes too, which is asked for them once", async () => {
    server.knowsConditions = false;
    await store.put(KEY, bytesOf(100), signal);
    await store.put(KEY, bytesOf(100), signal);
    const error = await rejectionOf(() => store.put(KEY, bytesOf(100, 2), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT" });
    expect(Buffer.from((await get())!).equals(bytesOf(100))).toBe(true);
    expect(server.count("PUT")).toBe(2);
  });

  test("lists a folder in pages, with names, sizes, folders and the store's time", async () => {
    server.pageKeys = 2;
    for (const name of ["a", "b c+d", "e/f", "e/g", "h%41"])
      await store.put(`x/${name}`, bytesOf(name.length), signal);
    await store.put("y", bytesOf(1), signal);
    const pages = await listed("x");
    expect(pages.map(({ objects }) => objects.map(({ name, bytes }) => [name, bytes]))).toEqual([
      [
        ["a", 1],
        ["b c+d", 5],
      ],
      [["h%41", 4]],
    ]);
    expect(pages.flatMap(({ folders }) => folders)).toEqual(["e"]);
    for (const { dateMs } of pages) expect(dateMs).toBeGreaterThan(Date.UTC(2020));
    expect((await listed("")).flatMap(({ folders }) => folders)).toEqual(["x"]);
    expect(await listed("nothing")).toMatchObject([{ objects: [], folders: [] }]);
  });

  test("is kept by a store that keeps no checksums, which finds equal bytes all the same", async () => {
    server.keepsChecksums = false;
    await store.put(KEY, bytesOf(100), signal);
    await store.put(KEY, bytesOf(100), signal);
    expect(Buffer.from((await get())!).equals(bytesOf(100))).toBe(true);
    const error = await rejectionOf(() => store.put(KEY, bytesOf(100, 2), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_CONFLICT" });
    const sha256 = "0".repeat(64);
    const other = await rejectionOf(() => store.get(KEY, { maxBytes: 100, sha256 }, signal));
    expect(other).toMatchObject({ code: "ARCHIVE_DAMAGED" });
  });

  test("lists all that stays while a page is deleted before the next is asked for", async () => {
    server.pageKeys = 2;
    for (const name of ["a", "b", "c", "d", "e"]) await store.put(`x/${name}`, bytesOf(1), signal);
    const found: string[] = [];
    for await (const { objects } of store.list("x", signal)) {
      found.push(...objects.map(({ name }) => name));
      for (const { name } of objects) await store.delete(`x/${name}`, signal);
    }
    expect(found).toEqual(["a", "b", "c", "d", "e"]);
  });

  test("lists what a stale list shows, and no more", async () => {
    await store.put("x/a", bytesOf(1), signal);
    await store.put("x/b", bytesOf(1), signal);
    server.unlisted.add("prefix/x/b");
    const [page] = await listed("x");
    expect(page!.objects.map(({ name }) => name)).toEqual(["a"]);
  });

  test("refuses an object that is larger than asked for, without reading it", async () => {
    await store.put(KEY, bytesOf(300_000), signal);
    const error = await rejectionOf(() => get(KEY, 1000));
    expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED" });
    expect(error.message).toContain("300000 bytes");
  });

  test("lies at the bucket's root without a prefix", async () => {
    store = storeAt(server.endpoint, { url: "s3://bucket" });
    await store.put("a/b", bytesOf(1), signal);
    expect([...server.objects.keys()]).toEqual(["a/b"]);
    expect((await listed("")).flatMap(({ folders }) => folders)).toEqual(["a"]);
  });
});

describe("a request is tried again", () => {
  const transient: [string, S3Effect][] = [
    ...[409, 429, 500, 502, 503, 504].map((status): [string, S3Effect] => [
      `after ${status}`,
      { kind: "error", status, code: "SlowDown" },
    ]),
    ["after a 503 of a proxy", { kind: "error", status: 503, code: "", isXml: false }],
    ["after a 400 for a slow body", { kind: "error", status: 400, code: "RequestTimeout" }],
    ["after a 200 with an error inside", { kind: "error", status: 200, code: "InternalError" }],
    ["after a cut amid the request", { kind: "cut", at: "request" }],
    ["after a cut in place of an answer", { kind: "cut", at: "answer" }],
    ["after a cut amid an answer", { kind: "cut", at: "body" }],
  ];
  const acts: [S3Operation, () => Promise<unknown>][] = [
    ["PUT", () => store.put(KEY, bytesOf(200_000), signal)],
    ["GET", () => get("there", 1 << 20)],
    ["LIST", () => listed("")],
    ["DELETE", () => store.delete("there", signal)],
  ];

  test.each(transient)("%s", async (_name, effect) => {
    for (const [operation, act] of acts) {
      if (
        effect.kind === "cut" &&
        effect.at === "body" &&
        operation !== "GET" &&
        operation !== "LIST"
      )
        continue;
      server.objects.set("prefix/there", { bytes: Buffer.from(bytesOf(100_000)), atMs: 0 });
      server.fail({ operation, effect });
      const [before, pauses] = [server.count(operation), clock.pauses.length];
      await act();
      expect(server.count(operation)).toBeGreaterThanOrEqual(before + 2);
      // A connection that was used before and is cut, Bun replaces by itself.
      if (effect.kind === "error") expect(clock.pauses).toHaveLength(pauses + 1);
      if (operation === "PUT") {
        const { bytes } = server.objects.get(`prefix/${KEY}`)!;
        expect(bytes.equals(bytesOf(200_000))).toBe(true);
      }
    }
  });

  test("no more than five times, and the error says what was answered", async () => {
    server.fail({ times: Infinity, effect: { kind: "error", status: 503, code: "SlowDown" } });
    const error = await rejectionOf(() => store.put(KEY, bytesOf(1), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "backoff" });
    expect(error.message).toMatch(
      /storing s3:\/\/bucket\/prefix\/gen.* 503 SlowDown .*after 5 tries/,
    );
    expect(server.count("PUT")).toBe(5);
    const [first, second, third, fourth] = clock.pauses;
    expect(clock.pauses).toHaveLength(4);
    for (const [pause, ceiling] of [
      [first!, 100],
      [second!, 200],
      [third!, 400],
      [fourth!, 800],
    ] as const) {
      expect(pause).toBeGreaterThanOrEqual(ceiling / 2);
      expect(pause).toBeLessThanOrEqual(ceiling);
    }
  });

  test.each(["request", "answer", "body"] as const)("after a hang at the %s", async (at) => {
    server.objects.set("prefix/there", { bytes: Buffer.from(bytesOf(100_000)), atMs: 0 });
    for (const [operation, act] of acts) {
      if (at === "body" && operation !== "GET" && operation !== "LIST") continue;
      const before = server.hanging;
      server.fail({ operation, effect: { kind: "hang", at } });
      const done = act();
      await until(() => server.hanging > before, { what: `${operation} to hang` });
      clock.skip(60_000);
      await done;
    }
  });

  test("with a new signature each time", async () => {
    server.fail({ times: 2, effect: { kind: "error", status: 503, code: "SlowDown" } });
    await store.delete(KEY, signal);
    const dates = new Set(server.seen.map(({ headers }) => headers["x-amz-date"]));
    expect(dates.size).toBe(3);
  });

  test("when the store says that it holds other bytes; then it finds these there", async () => {
    server.fail({ operation: "PUT", effect: { kind: "wrong checksum" } });
    await store.put(KEY, bytesOf(10), signal);
    expect(server.count("PUT")).toBe(2);
    expect(server.count("GET")).toBe(1);
  });

  test("when what came has another SHA-256, once", async () => {
    await store.put(KEY, bytesOf(1000), signal);
    server.fail({ operation: "GET", effect: { kind: "changed" } });
    expect(Buffer.from((await get())!).equals(bytesOf(1000))).toBe(true);
    server.fail({ operation: "GET", times: 2, effect: { kind: "changed" } });
    expect(await rejectionOf(() => get())).toMatchObject({ code: "ARCHIVE_DAMAGED" });
    const wrong = { maxBytes: 1000, sha256: "0".repeat(64) };
    const error = await rejectionOf(() => store.get(KEY, wrong, signal));
    expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED", retry: "never" });
  });

  test("when nothing listens there", async () => {
    await server.stop();
    const error = await rejectionOf(() => store.put(KEY, bytesOf(1), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "backoff" });
    expect(error.message).toMatch(/at 127\.0\.0\.1:\d+: nothing listens there, after 5 tries/);
    server = await FaultS3.start();
  });

  test("until it is stopped", async () => {
    const stop = new AbortController();
    server.fail({ effect: { kind: "hang", at: "request" } });
    const put = store.put(KEY, bytesOf(1), stop.signal);
    await until(() => server.hanging === 1, { what: "the request to hang" });
    const reason = new Error("stopped");
    stop.abort(reason);
    expect(await put.catch((error: unknown) => error)).toBe(reason);
    const source = new Promise<never>(() => undefined);
    store = storeAt(server.endpoint, { environment: {}, credentials: () => source });
    const again = new AbortController();
    const waiting = store.put(KEY, bytesOf(1), again.signal);
    again.abort(reason);
    expect(await waiting.catch((error: unknown) => error)).toBe(reason);
  });
});

describe("a refusal is told at once", () => {
  const doing: [S3Operation, string, () => Promise<unknown>][] = [
    ["PUT", "s3:PutObject", () => store.put(KEY, bytesOf(1), signal)],
    ["GET", "s3:GetObject", () => get()],
    ["LIST", "s3:ListBucket", () => listed("")],
    ["DELETE", "s3:DeleteObject", () => store.delete(KEY, signal)],
  ];
  test.each(doing)("forbidden on %s: it names the right %s", async (operation, right, act) => {
    const effect = { kind: "error", status: 403, code: "AccessDenied" } as const;
    server.fail({ operation, times: Infinity, effect });
    const error = await rejectionOf(act);
    expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN", retry: "never" });
    expect(error.message).toContain(right);
    expect(server.count(operation)).toBe(1);
  });

  test("a bucket that is missing", async () => {
    for (const act of [
      () => store.put(KEY, bytesOf(1), signal),
      () => get(),
      () => listed(""),
      () => store.delete(KEY, signal),
    ]) {
      store = storeAt(server.endpoint, { url: "s3://missing/prefix" });
      const error = await rejectionOf(act);
      expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "never" });
      expect(error.message).toContain('the bucket "missing" does not exist');
    }
    expect(server.seen).toHaveLength(4);
  });

  test("a clock that is off, with how far", async () => {
    clock.aheadMs = -20 * 60_000;
    const error = await rejectionOf(() => store.put(KEY, bytesOf(1), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
    expect(error.message).toMatch(
      /this machine's clock, which is (?:19|20) min behind the store's/,
    );
    clock.aheadMs = 3 * 60 * 60_000 + 60_000;
    const ahead = await rejectionOf(() => store.put(KEY, bytesOf(1), signal));
    expect(ahead.message).toMatch(/which is 3 h [12] min ahead of the store's/);
  });

  test("a 400", async () => {
    server.fail({ effect: { kind: "error", status: 400, code: "InvalidArgument" } });
    expect((await rejectionOf(() => listed(""))).message).toContain("400 InvalidArgument");
    expect(clock.pauses).toEqual([]);
  });

  test("keys that the store does not know, and secrets are in no error", async () => {
    server.logins.clear();
    const unknown = await rejectionOf(() => get());
    expect(unknown).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
    expect(unknown.message).toContain("does not know this access key");
    server.logins.set(ACCESS_KEY, { secret: "another" });
    const wrong = await rejectionOf(() => get());
    expect(wrong.message).toContain("check AWS_SECRET_ACCESS_KEY");
    server.fail({
      effect: {
        kind: "error",
        status: 403,
        code: "X",
        message: `no, ${ACCESS_KEY} ${SECRET_KEY} tok`,
      },
    });
    store = storeAt(server.endpoint, { environment: { ...keys, AWS_SESSION_TOKEN: "tok" } });
    const echoed = await rejectionOf(() => get());
    for (const error of [unknown, wrong, echoed]) {
      const shown = `${Bun.inspect(error)} ${error.stack}`;
      for (const secret of [ACCESS_KEY, SECRET_KEY, "tok", "Signature="])
        expect(shown).not.toContain(secret);
    }
  });

  test("no credentials anywhere", async () => {
    store = storeAt(server.endpoint, { environment: {} });
    const error = await rejectionOf(() => get());
    expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
    expect(server.seen).toEqual([]);
  });
});

describe("credentials that end", () => {
  const first = { secret: SECRET_KEY, token: "first", ended: false };

  test("are fetched anew, once, and the request goes on", async () => {
    server.logins.set(ACCESS_KEY, first);
    server.logins.set("SECOND", { secret: "second secret", token: "second" });
    let fetched = 0;
    const credentials: CredentialSource = async () =>
      fetched++ === 0
        ? { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY, sessionToken: "first" }
        : { accessKeyId: "SECOND", secretAccessKey: "second secret", sessionToken: "second" };
    store = storeAt(server.endpoint, { environment: {}, credentials });
    await store.put("a", bytesOf(1), signal);
    first.ended = true;
    await store.put("b", bytesOf(1), signal);
    expect(fetched).toBe(2);
    server.logins.get("SECOND")!.ended = true;
    const error = await rejectionOf(() => store.put("c", bytesOf(1), signal));
    expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
    expect(error.message).toContain("have ended");
    expect(fetched).toBe(3);
  });
});

describe("a bucket in another region", () => {
  test("is followed once, for all requests", async () => {
    server.region = "eu-north-1";
    await Promise.all([
      store.put("a", bytesOf(1), signal),
      store.put("b", bytesOf(1), signal),
      listed(""),
    ]);
    const before = server.seen.length;
    await store.put("c", bytesOf(1), signal);
    expect(server.seen.length).toBe(before + 1);
    server.region = "eu-south-1";
    const error = await rejectionOf(() => get());
    expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "never" });
    expect(error.message).toContain('in another region than "eu-north-1": name "eu-south-1"');
  });

  test("is followed where the store calls the signature malformed", async () => {
    server.region = "eu-north-1";
    server.otherRegion = "malformed";
    await store.put("a", bytesOf(1), signal);
    await store.put("b", bytesOf(1), signal);
    expect(server.count("PUT")).toBe(3);
    expect(clock.pauses).toEqual([]);
  });

  test("is one clear error where the store names none", async () => {
    const headers = { location: "http://elsewhere.invalid/" };
    server.fail({ effect: { kind: "error", status: 307, code: "TemporaryRedirect", headers } });
    const error = await rejectionOf(() => get());
    expect(error.message).toContain('another region than "us-east-1"');
    expect(server.seen).toHaveLength(1);
  });
});

describe("TLS", () => {
  let secure: FaultS3;
  beforeEach(async () => {
    secure = await FaultS3.start(certificates.server);
  });
  afterEach(() => secure.stop());

  test("trusts the CA of AWS_CA_BUNDLE, and says what to do without it", async () => {
    store = storeAt(secure.endpoint);
    const error = await rejectionOf(() => get());
    expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "never" });
    expect(error.message).toContain("AWS_CA_BUNDLE");
    store = storeAt(secure.endpoint, { environment: { ...keys, AWS_CA_BUNDLE: certificates.ca } });
    await store.put(KEY, bytesOf(1000), signal);
    expect(Buffer.from((await get())!).equals(bytesOf(1000))).toBe(true);
  });

  test("HTTP on a TLS port, and TLS on an HTTP port", async () => {
    store = storeAt(secure.endpoint.replace("https:", "http:"));
    expect((await rejectionOf(() => get())).message).toContain("https://");
    store = storeAt(server.endpoint.replace("http:", "https:"));
    const error = await rejectionOf(() => get());
    expect(error).toMatchObject({ code: "ARCHIVE_FAILED", retry: "never" });
    expect(error.message).toContain("does not speak TLS there");
    const message = "Client sent an HTTP request to an HTTPS server.";
    server.fail({ effect: { kind: "error", status: 400, code: "", message, isXml: false } });
    store = storeAt(server.endpoint);
    expect((await rejectionOf(() => get())).message).toContain("name the endpoint with https://");
  });
});

test("goes through the proxy of the environment with TLS from end to end", async () => {
  const secure = await FaultS3.start(certificates.server);
  const asked: string[] = [];
  const proxy = net.createServer((client) => {
    client.on("error", () => undefined);
    client.once("data", (head) => {
      asked.push(head.toString().split("\r\n", 1)[0]!);
      const server = net.connect(secure.port, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 OK\r\n\r\n");
        client.pipe(server).pipe(client);
      });
      server.on("error", () => client.destroy());
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", () => resolve()));
  const { port } = proxy.address() as net.AddressInfo;
  try {
    process.env["HTTPS_PROXY"] = `http://127.0.0.1:${port}`;
    store = storeAt(secure.endpoint, { environment: { ...keys, AWS_CA_BUNDLE: certificates.ca } });
    await store.put(KEY, bytesOf(300_000), signal);
    expect(secure.objects.get(`prefix/${KEY}`)?.bytes.equals(bytesOf(300_000))).toBe(true);
    expect(asked).toEqual([`CONNECT 127.0.0.1:${secure.port} HTTP/1.1`]);
  } finally {
    delete process.env["HTTPS_PROXY"];
    proxy.close();
    await secure.stop();
  }
});

test("goes through the proxy of the environment, but not to what NO_PROXY names", async () => {
  let passed = 0;
  using proxy = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch() {
      passed++;
      return new Response("", { status: 404 });
    },
  });
  try {
    process.env["HTTP_PROXY"] = proxy.url.href;
    expect(await get()).toBeUndefined();
    expect(passed).toBe(1);
    process.env["NO_PROXY"] = "127.0.0.1";
    expect(await get()).toBeUndefined();
    expect(passed).toBe(1);
  } finally {
    delete process.env["HTTP_PROXY"];
    delete process.env["NO_PROXY"];
  }
});
