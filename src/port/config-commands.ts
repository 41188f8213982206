import { bulk, error, map, simple } from "../resp/reply.ts";
import { limits } from "../config/limits.ts";
import { logger } from "../base/logger.ts";
import { type Call, subcommandHelp, wrongArgs } from "./call.ts";
import { globMatches } from "./pubsub.ts";
import { noCounts } from "../monitor/port-counts.ts";

/** CONFIG: the settings under the names that Redis's tools ask for ("Redis 7.2, config.c"). */
export function configCommand(call: Call): Uint8Array {
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
        ["GET <pattern> [<pattern> ...]", "Tells the settings whose names match."],
        ["SET <name> <value> [...]", "Takes what is set already; all else is set at start."],
        ["REWRITE", "Keeps for the next start whom REPLICAOF named."],
        ["RESETSTAT", "Begins to count anew what INFO tells of clients."],
      ]);
    case "RESETSTAT":
      Object.assign(context.counts, noCounts());
      return simple("OK");
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try CONFIG HELP.`);
  }
}

/** Never a password: whoever may ask this has logged in, and needs none. */
function parameters({ context }: Call): [string, string][] {
  const { settings, replica, port } = context;
  return [
    ["port", String(port)],
    ["bind", settings.bind],
    ["dir", replica.directory.path],
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
    ["replica-announced", "yes"],
    ["replica-announce-ip", settings.announceIp ?? ""],
    ["replica-announce-port", String(settings.announcePort ?? 0)],
    ["rdb-sync-bytes", String(settings.rdbSyncBytes)],
    ["io", settings.io],
    ["ack", settings.ack],
    ["loglevel", settings.logLevel],
  ];
}

/** The flags that set them. */
const FLAGS: Readonly<Record<string, string>> = {
  port: "--port",
  bind: "--bind",
  dir: "--dir",
  appendfsync: "--fsync",
  "repl-timeout": "--timeout",
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

/** Settings are taken at start alone; one that is set to what it is, is set. */
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
      const hint = flag === undefined ? "" : `: start it anew with ${flag}`;
      return error(
        `ERR CONFIG SET failed (possibly related to argument '${name}') - can't set immutable config${hint}`,
      );
    }
  }
  return simple("OK");
}

/** Whom REPLICAOF named is followed after a restart too. */
function rewrite({ client, context }: Call): Uint8Array {
  try {
    context.rewrite();
  } catch (failure) {
    const why = failure instanceof Error ? failure.message : String(failure);
    logger.warn(`CONFIG REWRITE failed: ${why}`, { client: client.address });
    return error(`ERR Rewriting config file: ${why}`);
  }
  const { replica } = context;
  const kept = replica.isFollowing ? replica.primary.name : "no one";
  logger.info(`CONFIG REWRITE: a restart follows ${kept} too`, { client: client.address });
  return simple("OK");
}
