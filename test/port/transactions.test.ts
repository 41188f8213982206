import { expect, test } from "bun:test";
import type { Call } from "../../src/port/call.ts";
import { Client } from "../../src/port/clients/client.ts";
import { settled } from "../../src/port/dispatch.ts";
import { transactionCommands } from "../../src/port/transaction-commands.ts";
import { simple } from "../../src/resp/reply.ts";

const ignored = () => undefined;

test("a transaction counts as held while it runs, and while its reply waits", async () => {
  const about = { id: 1, address: "a:1", localAddress: "b:1", nowMs: 0, needsLogin: false };
  const client = new Client(about, {
    send: ignored,
    offer: () => 0,
    proceed: ignored,
    end: ignored,
  });
  const { promise: stored, resolve: store } = Promise.withResolvers<Uint8Array>();
  const large = simple("x".repeat(1_000));
  const answers = [large, stored];
  const commands = answers.map(() => []);
  client.transaction = { commands, bytes: 500, refused: false };
  const exec = transactionCommands.find(({ name }) => name === "exec")!;
  void exec.run({ client, answer: () => answers.shift() } as unknown as Call);
  const { work } = client;
  const held: number[] = [];
  let step = work!.steps.next();
  for (; step.done !== true; step = work!.steps.next()) held.push(client.memoryBytes);
  expect(held).toEqual([500 + large.length, 500 + large.length]);
  expect(settled(client, step.value)).toBeUndefined();
  client.work = undefined;
  expect(client.memoryBytes).toBe(large.length);
  store(simple("OK"));
  while (client.late === undefined) await Promise.resolve();
  expect(client.late()).toHaveLength(4 + large.length + 5);
  expect(client.memoryBytes).toBe(0);
});
