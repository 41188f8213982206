import { array, bulk, error, integer, map, nil, simple, verbatim } from "../resp/reply.ts";
import { type Call, type PortContext, subcommandHelp, wrongArgs } from "./call.ts";
import type { Client } from "./client.ts";
import { clientCommand } from "./client-commands.ts";
import { configCommand } from "./config-commands.ts";
import { auth, hello, ping, reset, select } from "./connection-commands.ts";
import { bgsave, replicaOf, role } from "./replication-commands.ts";
import { psync, replconf, sync, wait } from "./relay-commands.ts";
import { refuseUnknown } from "./refuse-unknown.ts";
import { infoSections, infoText } from "../monitor/info.ts";
import { limits } from "../config/limits.ts";
import { logger } from "../base/logger.ts";

interface Command {
  /** How many words it has, its name included; negative: at least so many. As COMMAND tells it. */
  readonly arity: number;
  readonly flags: readonly string[];
  /** One line for COMMAND DOCS. */
  readonly summary: string;
  /** Allowed before login, run while a transaction is queued, allowed in RESP2 with subscriptions. */
  readonly early?: boolean;
  readonly unqueued?: boolean;
  /** Refused while a transaction is queued. */
  readonly alone?: boolean;
  readonly whileSubscribed?: boolean;
  /** Its reply; undefined where it has sent what there is to say. */
  run(call: Call): Uint8Array | undefined;
}

const OK = simple("OK");

/** Answers one command; undefined where nothing, or all, was sent. */
export function answer(
  context: PortContext,
  client: Client,
  words: Uint8Array[],
): Uint8Array | undefined {
  const [name = "", ...args] = words.map((word) => Buffer.from(word).toString("latin1"));
  const verb = name.toLowerCase();
  const command = COMMANDS.get(verb);
  context.counts.commands++;
  client.lastAtMs = context.now();
  client.lastCommand = command === undefined ? "?" : verb;
  if (verb === "post" || verb === "host:") {
    // A web page may send us a request whose body is commands ("Redis, server.c, securityWarningCommand").
    context.alarm(client);
    client.kill();
    return undefined;
  }
  if (client.downstream !== undefined && verb !== "replconf") {
    // What would be answered would stand in its stream. One that asks again has asked already.
    if (verb !== "psync" && verb !== "sync") client.downstream.end(`it said ${quoted(verb)}`);
    return undefined;
  }
  const reply = refusal(client, verb, command, words.length);
  if (reply !== undefined || command === undefined) {
    if (client.transaction !== undefined) client.transaction.refused = true;
    return reply ?? refuseUnknown(words);
  }
  if (client.transaction !== undefined && command.unqueued !== true) {
    const queued = client.transaction;
    queued.bytes += words.reduce((sum, word) => sum + word.length + WORD_BYTES, 0);
    if (queued.commands.length >= MAX_QUEUED || queued.bytes > limits.clientHeldBytes) {
      queued.refused = true;
      return error("ERR too much in one transaction");
    }
    queued.commands.push(words);
    return simple("QUEUED");
  }
  return command.run({ client, context, args, bytes: words.slice(1) });
}

function quoted(word: string): string {
  return JSON.stringify(word.slice(0, 60));
}

/** The most commands of one transaction. */
const MAX_QUEUED = 1000;
/** What a word takes beside its bytes. */
const WORD_BYTES = 100;

/** Why it isn't run; undefined, too, where there is no such command and the client may know. */
function refusal(
  client: Client,
  verb: string,
  command: Command | undefined,
  words: number,
): Uint8Array | undefined {
  if (!client.loggedIn && command?.early !== true) return error("NOAUTH Authentication required.");
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

function info({ client, context, args }: Call): Uint8Array {
  const { replica, version, port, clients, counts, settings } = context;
  const about = {
    version,
    port,
    nowMs: context.now(),
    readyLagMs: settings.readyLagMs,
    connectedClients: clients.size,
    blockedClients: [...clients].filter(({ blocked }) => blocked).length,
    maxClients: limits.clients,
    counts,
  };
  const sections = infoSections(replica, about);
  return verbatim(infoText(sections, args), client.proto);
}

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

function exec({ client, context }: Call): Uint8Array | undefined {
  const { transaction } = client;
  if (transaction === undefined) return error("ERR EXEC without MULTI");
  client.transaction = undefined;
  if (transaction.refused) {
    return error("EXECABORT Transaction discarded because of previous errors.");
  }
  const replies: Uint8Array[] = [];
  let bytes = 0;
  for (const words of transaction.commands) {
    const reply = answer(context, client, words) ?? nil(client.proto);
    replies.push(reply);
    bytes += reply.length;
    if (bytes > limits.clientUnsentBytes) {
      client.kill();
      return undefined;
    }
  }
  return array(replies);
}

function publish({ context, args, bytes }: Call): Uint8Array {
  if (bytes[0]!.length > limits.channelNameBytes)
    return error("ERR the channel's name is too long");
  return integer(context.pubsub.publish(args[0]!, bytes[1]!));
}

function subscribe(kind: "channels" | "patterns") {
  return ({ client, context, args }: Call) =>
    context.pubsub.subscribe(client, kind, args)
      ? undefined
      : error("ERR too many subscriptions of one client, or too long a name");
}

function unsubscribe(kind: "channels" | "patterns") {
  return ({ client, context, args }: Call) => {
    context.pubsub.unsubscribe(client, kind, args);
    return undefined;
  };
}

function time({ context }: Call): Uint8Array {
  const nowMs = context.now();
  const micros = (nowMs % 1000) * 1000;
  return array([bulk(String(Math.floor(nowMs / 1000))), bulk(String(micros))]);
}

function shutdown({ client, context, args }: Call): Uint8Array | undefined {
  const words = new Set(args.map((arg) => arg.toUpperCase()));
  if (words.has("ABORT") && args.length === 1) return error("ERR No shutdown in progress.");
  const known = words.isSubsetOf(new Set(["NOW", "FORCE", "SAVE", "NOSAVE"]));
  if (!known || words.isSupersetOf(new Set(["SAVE", "NOSAVE"]))) return error("ERR syntax error");
  client.leaving = true;
  logger.info("SHUTDOWN: told to stop", { client: client.address });
  context.shutdown();
  return undefined;
}

function commandCommand({ client, args }: Call): Uint8Array {
  const [what, ...names] = args.map((arg) => arg.toLowerCase());
  const describe = (name: string, { arity, flags }: Command) =>
    array([
      bulk(name),
      integer(arity),
      array(flags.map(simple)),
      integer(0),
      integer(0),
      integer(0),
    ]);
  switch (what) {
    case undefined:
      return array([...COMMANDS].map(([name, command]) => describe(name, command)));
    case "count":
      return names.length > 0 ? wrongArgs("command|count") : integer(COMMANDS.size);
    case "list":
      if (names.length > 0) return error("ERR syntax error");
      return array([...COMMANDS.keys()].map((name) => bulk(name)));
    case "info": {
      const wanted = names.length > 0 ? names : [...COMMANDS.keys()];
      return array(
        wanted.map((name) => {
          const command = COMMANDS.get(name);
          return command === undefined ? nil(client.proto) : describe(name, command);
        }),
      );
    }
    case "docs": {
      const wanted = names.length > 0 ? names : [...COMMANDS.keys()];
      const known = wanted.flatMap((name) => {
        const command = COMMANDS.get(name);
        return command === undefined ? [] : ([[name, command]] as const);
      });
      return map(
        known.map(([name, { summary }]) => [
          bulk(name),
          map([[bulk("summary"), bulk(summary)]], client.proto),
        ]),
        client.proto,
      );
    }
    case "help":
      return subcommandHelp("COMMAND", [
        ["(no subcommand)", "Tells of all commands."],
        ["COUNT", "Tells how many there are."],
        ["LIST", "Tells their names."],
        ["INFO [<name> ...]", "Tells of these, or of all."],
        ["DOCS [<name> ...]", "Tells what they do."],
      ]);
    default:
      return error(`ERR unknown subcommand '${args[0]?.slice(0, 60)}'. Try COMMAND HELP.`);
  }
}

/** Every command of the port; COMMAND tells of these and of no other. */
const COMMANDS = new Map<string, Command>([
  [
    "ping",
    {
      arity: -1,
      flags: ["fast"],
      whileSubscribed: true,
      summary: "Returns PONG, or the message.",
      run: ping,
    },
  ],
  [
    "echo",
    {
      arity: 2,
      flags: ["fast"],
      summary: "Returns the message.",
      run: ({ bytes }) => bulk(bytes[0]!),
    },
  ],
  [
    "auth",
    {
      arity: -2,
      flags: ["noscript", "fast", "no_auth"],
      early: true,
      summary: "Logs in.",
      run: auth,
    },
  ],
  [
    "hello",
    {
      arity: -1,
      flags: ["noscript", "fast", "no_auth"],
      early: true,
      summary: "Chooses the protocol, and logs in.",
      run: hello,
    },
  ],
  [
    "quit",
    {
      arity: -1,
      flags: ["fast", "no_auth"],
      early: true,
      unqueued: true,
      whileSubscribed: true,
      summary: "Ends the connection.",
      run: ({ client }) => {
        client.leaving = true;
        return OK;
      },
    },
  ],
  [
    "reset",
    {
      arity: 1,
      flags: ["noscript", "fast", "no_auth"],
      early: true,
      unqueued: true,
      whileSubscribed: true,
      summary: "Begins anew, as on a new connection.",
      run: reset,
    },
  ],
  [
    "select",
    {
      arity: 2,
      flags: ["fast"],
      summary: "Chooses a database; none holds a key here.",
      run: select,
    },
  ],
  [
    "info",
    {
      arity: -1,
      flags: ["loading", "stale"],
      summary: "Tells of the replica, section by section.",
      run: info,
    },
  ],
  [
    "role",
    { arity: 1, flags: ["fast", "stale"], summary: "Tells of the link to the primary.", run: role },
  ],
  [
    "replicaof",
    {
      arity: 3,
      flags: ["admin", "noscript", "stale"],
      summary: "Follows another primary, or none.",
      run: replicaOf,
    },
  ],
  [
    "slaveof",
    {
      arity: 3,
      flags: ["admin", "noscript", "stale"],
      summary: "Follows another primary, or none.",
      run: replicaOf,
    },
  ],
  [
    "config",
    {
      arity: -2,
      flags: ["admin", "noscript"],
      summary: "Tells the settings; stores whom REPLICAOF named.",
      run: configCommand,
    },
  ],
  [
    "replconf",
    {
      arity: -1,
      flags: ["admin", "noscript", "loading", "stale"],
      alone: true,
      summary: "Tells of a replica, and what it has.",
      run: replconf,
    },
  ],
  [
    "psync",
    {
      arity: -3,
      flags: ["admin", "noscript"],
      alone: true,
      summary: "Feeds a replica, from an offset on where that is kept.",
      run: psync,
    },
  ],
  [
    "sync",
    {
      arity: 1,
      flags: ["admin", "noscript"],
      alone: true,
      summary: "Feeds a replica from the beginning.",
      run: sync,
    },
  ],
  [
    "wait",
    {
      arity: 3,
      flags: ["blocking"],
      alone: true,
      summary: "Waits until so many replicas of this one have what is written.",
      run: wait,
    },
  ],
  [
    "bgsave",
    {
      arity: -1,
      flags: ["admin", "noscript"],
      summary: "Takes a new snapshot over a second link.",
      run: bgsave,
    },
  ],
  [
    "lastsave",
    {
      arity: 1,
      flags: ["fast"],
      summary: "Tells when the current snapshot was kept.",
      run: ({ context }) =>
        integer(Math.floor((context.replica.directory.current?.currentAtMs ?? 0) / 1000)),
    },
  ],
  [
    "multi",
    { arity: 1, flags: ["fast"], unqueued: true, summary: "Begins a transaction.", run: multi },
  ],
  [
    "exec",
    { arity: 1, flags: ["noscript"], unqueued: true, summary: "Runs the transaction.", run: exec },
  ],
  [
    "discard",
    {
      arity: 1,
      flags: ["fast"],
      unqueued: true,
      summary: "Forgets the transaction.",
      run: discard,
    },
  ],
  [
    "subscribe",
    {
      arity: -2,
      flags: ["pubsub"],
      alone: true,
      whileSubscribed: true,
      summary: "Listens to channels.",
      run: subscribe("channels"),
    },
  ],
  [
    "psubscribe",
    {
      arity: -2,
      flags: ["pubsub"],
      alone: true,
      whileSubscribed: true,
      summary: "Listens to patterns of channels.",
      run: subscribe("patterns"),
    },
  ],
  [
    "unsubscribe",
    {
      arity: -1,
      flags: ["pubsub"],
      alone: true,
      whileSubscribed: true,
      summary: "Listens no longer to channels.",
      run: unsubscribe("channels"),
    },
  ],
  [
    "punsubscribe",
    {
      arity: -1,
      flags: ["pubsub"],
      alone: true,
      whileSubscribed: true,
      summary: "Listens no longer to patterns.",
      run: unsubscribe("patterns"),
    },
  ],
  [
    "publish",
    {
      arity: 3,
      flags: ["pubsub", "fast"],
      summary: "Sends a message to who listens here.",
      run: publish,
    },
  ],
  [
    "client",
    {
      arity: -2,
      flags: ["noscript"],
      summary: "Tells of clients, and names or ends them.",
      run: clientCommand,
    },
  ],
  [
    "command",
    {
      arity: -1,
      flags: ["loading", "stale"],
      summary: "Tells of the commands.",
      run: commandCommand,
    },
  ],
  [
    "dbsize",
    {
      arity: 1,
      flags: ["readonly", "fast"],
      summary: "Returns 0: no key is served from here.",
      run: () => integer(0),
    },
  ],
  ["time", { arity: 1, flags: ["fast"], summary: "Tells the time.", run: time }],
  [
    "shutdown",
    {
      arity: -1,
      flags: ["admin", "noscript"],
      alone: true,
      summary: "Syncs what there is, and ends.",
      run: shutdown,
    },
  ],
]);
