import { expect, test } from "bun:test";
import { readKeys, ReplicaError } from "bun-replica";
import { rejectionOf } from "../support/error-of.ts";
import { rdbOf, str } from "../support/rdb-bytes.ts";

const RDB = rdbOf("REDIS0011", 0xfe, 0, 0, str("a"), str("1"), 0, str("b"), str("2"));

test("the keys of a stream that gives a byte at a time", async () => {
  async function* bytes() {
    for (let at = 0; at < RDB.length; at++) yield RDB.subarray(at, at + 1);
  }
  const keys = await Array.fromAsync(readKeys(bytes()), ({ text }) => text);
  expect(keys).toEqual(["a", "b"]);
});

test("an abort ends the wait for a chunk that never comes", async () => {
  const stop = new AbortController();
  const reason = new Error("enough");
  async function* stalled() {
    yield RDB.subarray(0, 20);
    stop.abort(reason);
    await new Promise(() => undefined);
  }
  const read = Array.fromAsync(readKeys(stalled(), { signal: stop.signal }));
  const error: unknown = await read.catch((caught: unknown) => caught);
  expect(error).toBe(reason);
});

test("an abort closes the connection of a body that stalls", async () => {
  const closed = Promise.withResolvers<string>();
  const body = () =>
    new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(RDB.subarray(0, 18)),
      cancel: () => closed.resolve("closed"),
    });
  await using server = Bun.serve({ port: 0, idleTimeout: 0, fetch: () => new Response(body()) });
  const response = await fetch(server.url);
  const stop = new AbortController();
  const read = readKeys(response.body!, { signal: stop.signal });
  const first = await read.next();
  expect(first.value?.text).toBe("a");
  const second = read.next().catch(() => "aborted");
  // It waits for the next chunk by now.
  for (let turn = 0; turn < 20; turn++) await new Promise((next) => setImmediate(next));
  stop.abort();
  expect(await second).toBe("aborted");
  expect(await closed.promise).toBe("closed");
});

test("a ReadableStream is read to its end, and refused while somebody else reads it", async () => {
  const { body } = new Response(RDB);
  const keys = await Array.fromAsync(readKeys(body!), ({ text }) => text);
  expect(keys).toEqual(["a", "b"]);
  const held = new Response(RDB).body!;
  held.getReader();
  const error = await rejectionOf(() => Array.fromAsync(readKeys(held)));
  expect(error).toMatchObject({ code: "USAGE" });
});

test("leaving early closes the stream", async () => {
  let isClosed = false;
  async function* closing() {
    try {
      yield RDB;
    } finally {
      await Bun.sleep(1);
      isClosed = true;
    }
  }
  for await (const { text } of readKeys(closing())) {
    expect(text).toBe("a");
    break;
  }
  expect(isClosed).toBe(true);
});

test("what ends the stream is the cause", async () => {
  const cause = new TypeError("the socket was closed");
  async function* failing() {
    yield RDB.subarray(0, 20);
    throw cause;
  }
  const error = await rejectionOf(() => Array.fromAsync(readKeys(failing())));
  expect(error).toBeInstanceOf(ReplicaError);
  expect(error).toMatchObject({ code: "DISK_FAILED", cause });
  expect(error.message).toBe("reading the stream failed: the socket was closed");
});

test("a stream of something else is refused", async () => {
  async function* texts() {
    yield "REDIS0011" as never;
  }
  const error = await rejectionOf(() => Array.fromAsync(readKeys(texts())));
  expect(error).toMatchObject({ code: "USAGE" });
  expect(error.message).toContain("gives a string");
});
