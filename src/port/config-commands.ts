import { bulk, error, map, type Proto, simple } from "../resp/reply.ts";
import { Glob } from "../base/glob.ts";
import { limits } from "../config/limits.ts";
import { logger } from "../base/logger.ts";
import type { ServedTls } from "../config/served-tls.ts";
import {
  type ClusterCall,
  type PortContext,
  type ReplicaCall,
  type ReplicaCommand,
  type PrimaryLoginActions,
  subcommandHelp,
  wrongArgs,
} from "./call.ts";
import type { Answer } from "./clients/client.ts";
import { noCounts } from "../monitor/port-counts.ts";

export const configCommands: readonly ReplicaCommand[] = [
  {
    name: "config",
    arity: -2,
    flags: ["admin", "noscript"],
    changes: ["set", "rewrite", "resetstat"],
    summary: "Returns settings, and stores the primary that REPLICAOF named.",
    run: configCommand,
  },
];

/** CONFIG: the settings under the names that Redis's tools ask for ("Redis 7.2, config.c"). */
function configCommand(call: ReplicaCall): Answer {
  const { context, args } = call;
  const [what = "", ...rest] = args;
  switch (what.toUpperCase()) {
    case "GET":
      if (rest.length === 0) return wrongArgs("config|get");
      return get(parametersOf(call), call.client.proto, rest);
    case "SET":
      return rest.length < 2 || rest.length % 2 !== 0 ? wrongArgs("config|set") : set(call, rest);
    case "REWRITE":
      return rewrite(call);
    case "HELP":
      return subcommandHelp("CONFIG", [
        ["GET <pattern> [<pattern> ...]", "Returns the settings whose names match."],
        [
          "SET <name> <value> [...]",
          "Changes masteruser and masterauth, until a restart. Of other settings, which are read at start, it accepts only the values that are in use.",
        ],
        [
          "REWRITE",
          "Stores the primary that REPLICAOF named for the next start; never masteruser or masterauth.",
        ],
        ["RESETSTAT", "Resets the counters of clients and commands that INFO shows."],
      ]);
    case "RESETSTAT":
      Object.assign(context.counts, noCounts());
      return simple("OK");
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try CONFIG HELP.`);
  }
}

/** CONFIG of a cluster: settings can be read, and are changed at a start. */
export function clusterConfig({ context, client, args }: ClusterCall): Uint8Array {
  const { status, username } = context.cluster;
  const [what = "", ...rest] = args;
  switch (what.toUpperCase()) {
    case "GET":
      if (rest.length === 0) return wrongArgs("config|get");
      return get(parameters(context, status.directoryPath, username), client.proto, rest);
    case "SET":
      return error("ERR the settings of a cluster are read at start: change them there");
    case "REWRITE":
      return error("ERR whom a shard follows is what the cluster says: there is nothing to store");
    case "RESETSTAT":
      Object.assign(context.counts, noCounts());
      return simple("OK");
    case "HELP":
      return subcommandHelp("CONFIG", [
        ["GET <pattern> [<pattern> ...]", "Returns the settings whose names match."],
        ["RESETSTAT", "Resets the counters of clients and commands that INFO shows."],
      ]);
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try CONFIG HELP.`);
  }
}

function parametersOf({ context }: ReplicaCall): [string, string][] {
  const { status, replica } = context;
  return parameters(context, status.directoryPath, replica.primary.login.username);
}

/** The settings that CONFIG GET returns. Passwords are not among them: not even whether there is one. */
function parameters(
  context: PortContext,
  dir: string,
  username: string | undefined,
): [string, string][] {
  const { settings, port } = context;
  return [
    ...listening(port, settings.portTls),
    ["bind", settings.bind],
    ["dir", dir],
    ["appendonly", "yes"],
    ["appendfsync", settings.fsync],
    ["save", ""],
    ["databases", "16"],
    ["maxclients", String(context.maxClients)],
    ["maxmemory", "0"],
    ["maxmemory-policy", "noeviction"],
    ["timeout", String(limits.clientIdleSeconds)],
    ["masteruser", username ?? ""],
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

/** As Redis has it where it listens for TLS alone: port is 0 then ("redis.conf, tls-port"). */
function listening(port: number, tls: ServedTls | undefined): [string, string][] {
  return [
    ["port", String(tls === undefined ? port : 0)],
    ["tls-port", String(tls === undefined ? 0 : port)],
    ["tls-cert-file", tls?.files.cert ?? ""],
    ["tls-key-file", tls?.files.key ?? ""],
    ["tls-ca-cert-file", tls?.files.ca ?? ""],
    ["tls-auth-clients", tls?.asksClients === true ? "yes" : "no"],
  ];
}

/** As for --username. */
const MAX_USER_CHARS = 1024;

/** The flag that sets each of them. */
const FLAGS: Readonly<Record<string, string>> = {
  port: "--port",
  "tls-port": "--port and --port-tls-cert",
  "tls-cert-file": "--port-tls-cert",
  "tls-key-file": "--port-tls-key",
  "tls-ca-cert-file": "--port-tls-ca",
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

function get(
  all: readonly (readonly [name: string, value: string])[],
  proto: Proto,
  patterns: readonly string[],
): Uint8Array {
  const { clientPatterns, patternBytes } = limits;
  if (patterns.length > clientPatterns) {
    return error(`ERR too many patterns: at most ${clientPatterns}`);
  }
  if (patterns.some(({ length }) => length > patternBytes)) {
    return error(`ERR pattern is longer than ${patternBytes} bytes`);
  }
  const globs = patterns.map((pattern) => new Glob(pattern.toLowerCase()));
  const found = all.filter(([name]) => globs.some((glob) => glob.matches(name)));
  return map(
    found.map(([name, value]) => [bulk(name), bulk(value)]),
    proto,
  );
}

/**
 * Changes the login for the primary. The other settings are read at start only; setting one to the value that it
 * has succeeds. All or nothing, as in Redis.
 */
function set(call: ReplicaCall, pairs: readonly string[]): Uint8Array {
  const known = new Map(parametersOf(call));
  const login = new Map<LoginPart, string>();
  for (let at = 0; at < pairs.length; at += 2) {
    const name = pairs[at]!.toLowerCase();
    const given = pairs[at + 1]!;
    if (isLoginPart(name)) {
      const text = textOf(given);
      const refused = text === undefined ? "it is not UTF-8 text" : whyNot(name, text);
      if (refused !== undefined) return failed(name, refused);
      if (login.has(name)) return failed(name, "duplicate parameter");
      login.set(name, text!);
      continue;
    }
    if (name === "requirepass") {
      return failed(
        name,
        "can't set immutable config: write it into the file of --requirepass-file",
      );
    }
    const value = known.get(name);
    if (value === undefined) {
      return error(
        `ERR Unknown option or number of arguments for CONFIG SET - '${name.slice(0, 60)}'`,
      );
    }
    if (value !== given) {
      const flag = FLAGS[name];
      return failed(
        name,
        `can't set immutable config${flag === undefined ? "" : `: restart with ${flag}`}`,
      );
    }
  }
  for (const [part, value] of login) setLogin(call, part, value);
  return simple("OK");
}

/** Redis's error ("Redis 7.0, config.c, configSetCommand"). */
function failed(name: string, why: string): Uint8Array {
  return error(`ERR CONFIG SET failed (possibly related to argument '${name}') - ${why}`);
}

type LoginPart = Parameters<PrimaryLoginActions["set"]>[0];

function isLoginPart(name: string): name is LoginPart {
  return name === "masteruser" || name === "masterauth";
}

/** Why a value of the login is refused; undefined where it is good. A user is bounded as --username is. */
function whyNot(part: LoginPart, value: string): string | undefined {
  if (part === "masterauth") return undefined;
  if (value.length > MAX_USER_CHARS) return `it is longer than ${MAX_USER_CHARS} characters`;
  return /\p{Cc}/u.test(value) ? "it contains a control character" : undefined;
}

/** Logs who changed the login, never to what. */
function setLogin({ client, context }: ReplicaCall, part: LoginPart, value: string): void {
  const { login } = context.replica.primary;
  login.set(part, value);
  const holds =
    value === ""
      ? (login.withheld ??
        "what was given at the start holds again, from the next attempt to connect on")
      : `holds from the next attempt to connect on, until a restart: to keep it, put it into ${login.keptIn(part)}`;
  logger.info(`CONFIG SET ${part}: ${holds}`, { client: client.address });
}

/** Stores the primary that REPLICAOF named for the next start: the reply waits until that is durable. */
async function rewrite({ client, context }: ReplicaCall): Promise<Uint8Array> {
  try {
    await context.rewrite();
  } catch (failure) {
    const why = failure instanceof Error ? failure.message : String(failure);
    logger.warn(`CONFIG REWRITE failed: ${why}`, { client: client.address });
    return error(`ERR Rewriting config file: ${why}`);
  }
  const { status } = context;
  const kept = status.isFollowing ? `${status.primary.name} is followed too` : "none is followed";
  logger.info(`CONFIG REWRITE: after a restart, ${kept}`, { client: client.address });
  const { login } = context.replica.primary;
  if (login.withheld !== undefined) logger.warn(login.withheld, { client: client.address });
  for (const part of login.changed) {
    const where = login.keptIn(part);
    logger.warn(`CONFIG REWRITE does not store ${part}: to keep it, put it into ${where}`, {
      client: client.address,
    });
  }
  return simple("OK");
}

/** An argument is latin1, one character a byte. Undefined where its bytes are no UTF-8. */
function textOf(argument: string): string | undefined {
  const bytes = Buffer.from(argument, "latin1");
  const text = bytes.toString("utf8");
  return Buffer.from(text, "utf8").equals(bytes) ? text : undefined;
}
