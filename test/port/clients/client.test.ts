import { expect, test } from "bun:test";
import { Client } from "../../../src/port/clients/client.ts";
import { PubSub } from "../../../src/port/clients/pubsub.ts";

function silentClient(): Client {
  const about = { id: 1, address: "a:1", localAddress: "b:2", nowMs: 0, needsLogin: false };
  return new Client(about, {
    send: () => undefined,
    offer: () => 0,
    proceed: () => undefined,
    end: () => undefined,
  });
}

test("what a client holds counts with what words and subscriptions take beside their bytes", () => {
  const words = 1_000;
  const unfinished = silentClient();
  unfinished.reader.push(Buffer.from(`*${words + 1}\r\n${"$1\r\na\r\n".repeat(words)}`));
  expect(unfinished.reader.next()).toBeUndefined();
  expect(unfinished.memoryBytes).toBeGreaterThan(200 * words);
  unfinished.reader.push(Buffer.from("$1\r\na\r\n"));
  expect(unfinished.reader.next()).toHaveLength(words + 1);
  expect(unfinished.memoryBytes).toBe(0);
  const pubsub = new PubSub();
  const subscriber = silentClient();
  const channels = Array.from({ length: words }, (_, n) => String(n));
  pubsub.subscribe(subscriber, "channels", channels);
  expect(subscriber.memoryBytes).toBeGreaterThan(700 * words);
  pubsub.forget(subscriber);
  expect(subscriber.memoryBytes).toBe(0);
});
