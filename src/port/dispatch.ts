import { printable } from "../base/printable.ts";
import { limits } from "../config/limits.ts";
import { error, simple } from "../resp/reply.ts";
import { type Command, type PortContext, wrongArgs } from "./call.ts";
import type { Client, Transaction } from "./client.ts";
import { isMisled, refuseUnknown } from "./refuse-unknown.ts";

/** The most commands of one transaction. */
const MAX_QUEUED = 1000;
/** What a queued word takes in memory beside its bytes. */
const WORD_BYTES = 100;

/** Answers one command. Undefined where the reply was sent already, or there is none. */
export function answer(
  context: PortContext,
  client: Client,
  words: readonly Uint8Array[],
): Uint8Array | undefined {
  const [name = "", ...args] = words.map((word) => Buffer.from(word).toString("latin1"));
  const verb = name.toLowerCase();
  const command = context.commands.get(verb);
  context.counts.commands++;
  client.lastAtMs = context.now();
  client.lastCommand = command === undefined ? "?" : verb;
  if (verb === "post" || verb === "host:") {
    // A web page can send an HTTP request whose body is commands ("Redis, server.c, securityWarningCommand").
    context.alarm(client);
    client.kill();
    return undefined;
  }
  if (client.downstream !== undefined && verb !== "replconf") {
    // A reply would land in its replication stream. A repeated PSYNC is ignored.
    if (verb !== "psync" && verb !== "sync") client.downstream.end(`it sent ${quoted(verb)}`);
    return undefined;
  }
  if (client.login.isLoggedIn && isMisled(context, client, verb, args)) {
    client.leaving = true;
    return undefined;
  }
  const refused = refusal(client, verb, command, words.length);
  if (refused !== undefined || command === undefined) {
    if (client.transaction !== undefined) client.transaction.refused = true;
    return refused ?? refuseUnknown(words);
  }
  if (client.transaction !== undefined && command.unqueued !== true) {
    return queue(client.transaction, words);
  }
  return command.run({
    client,
    context,
    args,
    bytes: words.slice(1),
    answer: (words) => answer(context, client, words),
  });
}

function quoted(word: string): string {
  return `"${printable(word.slice(0, 60))}"`;
}

/** The error where the command may not run now; undefined, too, for an unknown command after login. */
function refusal(
  client: Client,
  verb: string,
  command: Command | undefined,
  words: number,
): Uint8Array | undefined {
  if (!client.login.isLoggedIn && command?.early !== true)
    return error("NOAUTH Authentication required.");
  if (command === undefined) return undefined;
  if (command.arity >= 0 ? words !== command.arity : words < -command.arity) return wrongArgs(verb);
  if (client.transaction !== undefined && command.alone === true) {
    return error("ERR Command not allowed inside a transaction");
  }
  if (client.proto === 2 && client.subscriptions > 0 && command.whileSubscribed !== true) {
    return error(
      `ERR Can't execute '${verb}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context`,
    );
  }
  return undefined;
}

function queue(transaction: Transaction, words: readonly Uint8Array[]): Uint8Array {
  transaction.bytes += words.reduce((sum, word) => sum + word.length + WORD_BYTES, 0);
  const isFull = transaction.commands.length >= MAX_QUEUED;
  if (isFull || transaction.bytes > limits.clientHeldBytes) {
    transaction.refused = true;
    return error("ERR too much in one transaction");
  }
  transaction.commands.push(words);
  return simple("QUEUED");
}
