import { limits } from "../config/limits.ts";
import { array, error, nil, simple } from "../resp/reply.ts";
import type { Call, Command } from "./call.ts";

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
    summary: "Runs the commands of the transaction.",
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

function exec({ client, answer }: Call): Uint8Array | undefined {
  const { transaction } = client;
  if (transaction === undefined) return error("ERR EXEC without MULTI");
  client.transaction = undefined;
  if (transaction.refused) {
    return error("EXECABORT Transaction discarded because of previous errors.");
  }
  const replies: Uint8Array[] = [];
  let bytes = 0;
  for (const words of transaction.commands) {
    const reply = answer(words) ?? nil(client.proto);
    replies.push(reply);
    bytes += reply.length;
    if (bytes > limits.clientUnsentBytes) {
      client.kill();
      return undefined;
    }
  }
  return array(replies);
}
