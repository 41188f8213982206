import { printable } from "../base/printable.ts";
import { limits } from "../config/limits.ts";
import { error, simple } from "../resp/reply.ts";
import { type Command, MAY_ONLY_LOOK, type PortContext, wrongArgs } from "./call.ts";
import { type Answer, type Client, type Transaction, WORD_BYTES } from "./clients/client.ts";
import { isMisled, refuseUnknown } from "./refuse-unknown.ts";

/** The most commands of one transaction. */
const MAX_QUEUED = 1000;

const SPOKE_HTTP =
  "disconnected a client of the port that spoke HTTP: a web page may have sent it here";

/** Answers one command. Undefined where the reply was sent already, is sent later, or there is none. */
export function answer(
  context: PortContext,
  client: Client,
  words: readonly Uint8Array[],
): Uint8Array | undefined {
  return settled(client, answerOf(context, client, words));
}

/** The reply, where it is there now; else it is sent later, and the client is blocked until then. */
export function settled(client: Client, reply: Answer): Uint8Array | undefined {
  return reply instanceof Promise ? sendLater(client, reply) : reply;
}

function sendLater(client: Client, reply: Promise<Uint8Array>): undefined {
  let isGone = false;
  client.onGone = () => (isGone = true);
  client.blocked = true;
  client.waitingBytes = client.work?.bytes ?? 0;
  void reply.then((bytes) => {
    if (isGone) return;
    client.onGone = () => undefined;
    client.unblock(() => {
      client.waitingBytes = 0;
      return bytes;
    });
  });
}

function answerOf(context: PortContext, client: Client, words: readonly Uint8Array[]): Answer {
  const [name = "", ...args] = words.map((word) => Buffer.from(word).toString("latin1"));
  const verb = name.toLowerCase();
  const command = context.commands.get(verb);
  context.counts.commands++;
  client.lastAtMs = context.now();
  client.lastCommand = command === undefined ? "?" : verb;
  if (verb === "post" || verb === "host:" || isRequestLine(args)) {
    // A web page can send an HTTP request whose body is commands ("Redis, server.c, securityWarningCommand").
    context.alarm(client, SPOKE_HTTP);
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
  const refused =
    refusal(client, verb, command, words.length) ?? refuseChange(context, client, command, args);
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
    answer: (words) => answerOf(context, client, words),
  });
}

/** Whether the words after the first are those of an HTTP request: a page may name any word as its method. */
function isRequestLine(args: readonly string[]): boolean {
  return args.length === 2 && /^HTTP\/\d/.test(args[1]!);
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

/**
 * The error for a command that changes something where a client may only look: anybody on this machine may be that
 * client, and each command could turn the replica against its primary. PUBLISH is one: it tells Sentinels whom to
 * follow. `DENIED` is the code of Redis's protected mode.
 */
function refuseChange(
  context: PortContext,
  client: Client,
  command: Command | undefined,
  [subcommand = ""]: readonly string[],
): Uint8Array | undefined {
  const changes = command?.changes;
  if (context.mayChange || command === undefined || changes === undefined) return undefined;
  if (changes !== true && !changes.includes(subcommand.toLowerCase())) return undefined;
  const what = changes === true ? command.name : `${command.name} ${subcommand}`;
  context.alarm(client, `refused ${what.toUpperCase()} to a client: ${MAY_ONLY_LOOK}`);
  return error(`DENIED ${MAY_ONLY_LOOK}`);
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
