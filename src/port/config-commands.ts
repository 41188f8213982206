import { bulk, error, map, simple } from "../resp/reply.ts";
import { limits } from "../config/limits.ts";
import { logger } from "../base/logger.ts";
import { type Call, type Command, subcommandHelp, wrongArgs } from "./call.ts";
import { globMatches } from "./pubsub.ts";
import { noCounts } from "../monitor/port-counts.ts";

export const configCommands: readonly Command[] = [
  {
    name: "config",
    arity: -2,
    flags: ["admin", "noscript"],
    summary: "Returns settings, and stores the primary that REPLICAOF named.",
    run: configCommand,
  },
];

/** CONFIG: the settings under the names that Redis's tools ask for ("Redis 7.2, config.c"). */
function configCommand(call: Call): Uint8Array {
  const { context, args } = call;
  const [what = "", ...rest] = args;
  switch (what.toUpperCase()) {
    case "GET":
      return rest.length === 0 ? wrongArgs("config|get") : get(call, rest);
    case "SET":
      return rest.length < 2 || rest.length % 2 !== 0 ? wrongArgs("config|set") : set(call, rest);
    case "REWRITE":
      return rewrite(call);
    case "HELP":
      return subcommandHelp("CONFIG", [
        ["GET <pattern> [<pattern> ...]", "Returns the settings whose names match."],
        [
          "SET <name> <value> [...]",
          "Accepts only the values that are in use: settings are read at start.",
        ],
        ["REWRITE", "Stores the primary that REPLICAOF named for the next start."],
        ["RESETSTAT", "Resets the counters of clients and commands that INFO shows."],
      ]);
    case "RESETSTAT":
      Object.assign(context.counts, noCounts());
      return simple("OK");
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try CONFIG HELP.`);
  }
}

/** The settings that CONFIG GET returns. Passwords are not among them. */
function parameters({ context }: Call): [string, string][] {
  const { settings, status, port } = context;
  return [
    ["port", String(port)],
    ["bind", settings.bind],
    ["dir", status.directoryPath],
    ["appendonly", "yes"],
    ["appendfsync", settings.fsync],
    ["save", ""],
    ["databases", "16"],
    ["maxclients", String(limits.clients)],
    ["maxmemory", "0"],
    ["maxmemory-policy", "noeviction"],
    ["timeout", String(limits.clientIdleSeconds)],
    ["repl-timeout", String(Math.round(settings.timeoutMs / 1000))],
    ["replica-priority", "0"],
    ["slave-priority", "0"],
    ["replica-read-only", "yes"],
    ["slave-read-only", "yes"],
    ["replica-announced", settings.announce ? "yes" : "no"],
    ["replica-announce-ip", settings.announceIp ?? ""],
    ["replica-announce-port", String(settings.announcePort ?? 0)],
    ["rdb-sync-bytes", String(settings.rdbSyncBytes)],
    ["io", settings.io],
    ["ack", settings.ack],
    ["loglevel", settings.logLevel],
  ];
}

/** The flag that sets each of them. */
const FLAGS: Readonly<Record<string, string>> = {
  port: "--port",
  bind: "--bind",
  dir: "--dir",
  appendfsync: "--fsync",
  "repl-timeout": "--timeout",
  "replica-announced": "--announce",
  "replica-announce-ip": "--announce-ip",
  "replica-announce-port": "--announce-port",
  "rdb-sync-bytes": "--rdb-sync-bytes",
  io: "--io",
  ack: "--ack",
  loglevel: "--log-level",
};

function get(call: Call, patterns: readonly string[]): Uint8Array {
  const wanted = patterns.map((pattern) => pattern.toLowerCase());
  const found = parameters(call).filter(([name]) =>
    wanted.some((pattern) => globMatches(pattern, name)),
  );
  return map(
    found.map(([name, value]) => [bulk(name), bulk(value)]),
    call.client.proto,
  );
}

/** Settings are read at start only. Setting one to the value that it has succeeds. */
function set(call: Call, pairs: readonly string[]): Uint8Array {
  const known = new Map(parameters(call));
  for (let at = 0; at < pairs.length; at += 2) {
    const name = pairs[at]!.toLowerCase();
    const value = known.get(name);
    if (value === undefined) {
      return error(
        `ERR Unknown option or number of arguments for CONFIG SET - '${name.slice(0, 60)}'`,
      );
    }
    if (value !== pairs[at + 1]) {
      const flag = FLAGS[name];
      const hint = flag === undefined ? "" : `: restart with ${flag}`;
      return error(
        `ERR CONFIG SET failed (possibly related to argument '${name}') - can't set immutable config${hint}`,
      );
    }
  }
  return simple("OK");
}

/** Stores the primary that REPLICAOF named for the next start. */
function rewrite({ client, context }: Call): Uint8Array {
  try {
    context.rewrite();
  } catch (failure) {
    const why = failure instanceof Error ? failure.message : String(failure);
    logger.warn(`CONFIG REWRITE failed: ${why}`, { client: client.address });
    return error(`ERR Rewriting config file: ${why}`);
  }
  const { status } = context;
  const kept = status.isFollowing ? status.primary.name : "no one";
  logger.info(`CONFIG REWRITE: after a restart, ${kept} is followed too`, {
    client: client.address,
  });
  return simple("OK");
}
