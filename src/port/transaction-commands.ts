import { limits } from "../config/limits.ts";
import { array, error, nil, simple } from "../resp/reply.ts";
import type { Call, Command } from "./call.ts";
import type { Answer, Transaction } from "./clients/client.ts";

const OK = simple("OK");

export const transactionCommands: readonly Command[] = [
  {
    name: "multi",
    arity: 1,
    flags: ["fast"],
    unqueued: true,
    summary: "Starts a transaction.",
    run: multi,
  },
  {
    name: "exec",
    arity: 1,
    flags: ["noscript"],
    unqueued: true,
    summary: "Runs the commands of the transaction. Those of others may come between them.",
    run: exec,
  },
  {
    name: "discard",
    arity: 1,
    flags: ["fast"],
    unqueued: true,
    summary: "Discards the transaction.",
    run: discard,
  },
];

function multi({ client }: Call): Uint8Array {
  if (client.transaction !== undefined) return error("ERR MULTI calls can not be nested");
  client.transaction = { commands: [], bytes: 0, refused: false };
  return OK;
}

function discard({ client }: Call): Uint8Array {
  if (client.transaction === undefined) return error("ERR DISCARD without MULTI");
  client.transaction = undefined;
  return OK;
}

function exec(call: Call): Uint8Array | undefined {
  const { client } = call;
  const { transaction } = client;
  if (transaction === undefined) return error("ERR EXEC without MULTI");
  client.transaction = undefined;
  if (transaction.refused) {
    return error("EXECABORT Transaction discarded because of previous errors.");
  }
  client.work = { steps: run(call, transaction), bytes: transaction.bytes };
  return undefined;
}

/** One command a step: a thousand at once would hold up everybody. Other clients' commands may come between. */
function* run({ client, answer }: Call, { commands }: Transaction): Generator<void, Answer> {
  const replies: (Uint8Array | Promise<Uint8Array>)[] = [];
  let bytes = 0;
  for (const words of commands) {
    const reply = answer(words) ?? nil(client.proto);
    replies.push(reply);
    const replyBytes = isThere(reply) ? reply.length : 0;
    bytes += replyBytes;
    if (bytes > limits.clientUnsentBytes) {
      client.kill();
      return undefined;
    }
    if (client.work !== undefined) client.work.bytes += replyBytes;
    yield;
  }
  // All of them were run; the reply may have to wait, and the commands are no longer held.
  if (client.work !== undefined) client.work.bytes = bytes;
  return replies.every(isThere) ? array(replies) : Promise.all(replies).then(array);
}

function isThere(reply: Uint8Array | Promise<Uint8Array>): reply is Uint8Array {
  return !(reply instanceof Promise);
}
