import type { ClusterStatus } from "../cluster/status/cluster-status.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { Relay } from "../downstream/relay.ts";
import type { PortCounts } from "../monitor/port-counts.ts";
import { array, error, simple } from "../resp/reply.ts";
import type { Answer, Client } from "./clients/client.ts";
import type { Settings } from "../config/settings.ts";
import type { LoginThrottle, OwnPassword } from "./clients/logins.ts";
import type { PubSub } from "./clients/pubsub.ts";
import type { ReplicaStatus } from "../replica/status.ts";

/** Why clients may only look, and what to do. */
export const MAY_ONLY_LOOK =
  "the primary has a password and this port has none: give --requirepass-file (for Sentinel: the password of its auth-pass) or --unprotected";

/** What commands can make the replica do. What they report comes from its status. */
export interface ReplicaActions {
  readonly relay: Pick<Relay, "attach" | "countAt" | "endOffset" | "isAhead" | "when">;
  /** `begin` starts a new snapshot over a second link. @throws ReplicaError where it can't. */
  readonly renewal: { begin(by: string): void };
  /** `demand.ask` takes a new snapshot for a downstream, where that is worth it. See `Demand`. */
  readonly upkeep: {
    readonly demand: { ask(newerThan: number, by: string): Promise<void> | undefined };
  };
  /** `accept` says that what is current is well, however small; whether that changes anything. @throws ReplicaError. */
  readonly directory: { readonly keeping: { accept(by: string): boolean } };
  /** REPLICAOF keeps the TLS of the primary that was named at start. */
  readonly primary: { readonly usesTls: boolean; readonly login: PrimaryLoginActions };
  /** Ends a rest of the link: resolves once what has come is read. Undefined where nothing waits unread. */
  hear(): Promise<void> | undefined;
  /** @param by the client's address, for the log. */
  follow(target: PrimaryTarget, by: string): void;
  leave(by: string): void;
}

/** The login for the primary, as CONFIG shows and changes it. */
export interface PrimaryLoginActions {
  /** Whether a password was given at the start. */
  readonly isGiven: boolean;
  /** Why none is sent to whom is followed though one was given, and what to do; undefined where that isn't so. */
  readonly withheld: string | undefined;
  /** Undefined: the default user. */
  readonly username: string | undefined;
  /** The parts that CONFIG SET has changed. */
  readonly changed: readonly ("masteruser" | "masterauth")[];
  /** Where to put it so that it holds after a restart, too. */
  keptIn(part: "masteruser" | "masterauth"): string;
  /** Holds from the next attempt on; an empty value brings back what was given at the start. */
  set(part: "masteruser" | "masterauth", value: string): void;
}

/** What commands can make the program do. */
export interface ProgramActions {
  /** Stores the primary that REPLICAOF named for the next start; resolves once that is durable. @throws ReplicaError */
  rewrite(): Promise<void>;
  /** Ends the program as SIGTERM does. */
  shutdown(): void;
}

/** Everything that any command of a port may use, whatever the port answers for. */
export interface PortContext {
  readonly commands: ReadonlyMap<string, Command>;
  readonly pubsub: PubSub;
  readonly clients: ReadonlySet<Client>;
  /** How many are served at once. */
  readonly maxClients: number;
  readonly logins: LoginThrottle;
  /** False where clients need no login though the primary has a password: then they may only look. */
  readonly mayChange: boolean;
  /** Undefined where clients need no login. */
  readonly ownPassword: OwnPassword | undefined;
  readonly settings: Settings;
  readonly version: string;
  readonly port: number;
  readonly counts: PortCounts;
  /** Milliseconds since 1970. */
  now(): number;
  /** When a connection of a Sentinel ended last, in milliseconds since 1970; -Infinity before one did. */
  sentinelGoneAtMs(): number;
  /** Logs a warning about a client, each at most once a minute. */
  alarm(client: Client, warning: string): void;
  /** Ends the program as SIGTERM does. */
  shutdown(): void;
}

/** The context of a port that answers for one replica. */
export interface ReplicaContext extends PortContext, ReplicaParts {}

/** What the commands of one replica use besides. */
export interface ReplicaParts extends ProgramActions {
  readonly status: ReplicaStatus;
  readonly replica: ReplicaActions;
}

/** The context of a port that answers for all shards of a cluster. */
export interface ClusterContext extends PortContext, ClusterParts {}

/** What the commands of a cluster use besides. */
export interface ClusterParts {
  readonly cluster: ClusterActions;
  /** Ends the program as SIGTERM does. */
  shutdown(): void;
}

/** What commands can make a cluster's replica do, and its status. */
export interface ClusterActions {
  readonly status: ClusterStatus;
  /** Whether a password for the nodes was given at the start. */
  readonly hasPassword: boolean;
  readonly username: string | undefined;
  /** New snapshots of all shards, as many at a time as `--cluster-snapshots` says; returns how many were asked for. */
  bgsave(by: string): number;
  /** Says of a shard, or of all, that what is current is well, however small. @throws ReplicaError USAGE. */
  accept(shard: number | undefined, by: string): void;
}

/** One command that a client sent, complete. */
export interface Call<Context extends PortContext = PortContext> {
  readonly client: Client;
  readonly context: Context;
  /** The arguments as latin1 text: one character a byte. */
  readonly args: readonly string[];
  /** The arguments as they were sent. */
  readonly bytes: readonly Uint8Array[];
  /** Answers another command of the same client, as EXEC does with each that was queued. */
  answer(words: readonly Uint8Array[]): Answer;
}

/** A command of a port: a row of the table that belongs to its context. */
export interface Command<Context extends PortContext = PortContext> {
  /** In lower case. */
  readonly name: string;
  /** The number of words, including the name; negative: at least that many ("Redis, COMMAND"). */
  readonly arity: number;
  readonly flags: readonly string[];
  /** One line for COMMAND DOCS. */
  readonly summary: string;
  /** Whether it is allowed before login. */
  readonly early?: true;
  /** Whether it runs at once inside a transaction, instead of being queued. */
  readonly unqueued?: true;
  /**
   * Whether it changes something that isn't the client's own, by its subcommand where it has some: refused where a
   * client may only look.
   */
  readonly changes?: true | readonly string[];
  /** Whether it is refused inside a transaction. */
  readonly alone?: true;
  /** Whether a RESP2 client that has subscribed may use it. */
  readonly whileSubscribed?: true;
  run(call: Call<Context>): Answer;
}

/** A command of a port that answers for one replica, and what it is called with. */
export type ReplicaCommand = Command<ReplicaContext>;
export type ReplicaCall = Call<ReplicaContext>;

/** The same for a port that answers for a cluster. */
export type ClusterCommand = Command<ClusterContext>;
export type ClusterCall = Call<ClusterContext>;

/** Redis's error for a wrong number of arguments. @param name of a subcommand as `client|kill`. */
export function wrongArgs(name: string): Uint8Array {
  return error(`ERR wrong number of arguments for '${name}' command`);
}

/** Replies to HELP: each subcommand and what it does ("Redis, networking.c, addReplyHelp"). */
export function subcommandHelp(
  name: string,
  subcommands: readonly (readonly [usage: string, what: string])[],
): Uint8Array {
  const own = ["HELP", "Prints this help."] as const;
  const lines = [...subcommands, own].flatMap(([usage, what]) => [usage, `    ${what}`]);
  const head = `${name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`;
  return array([head, ...lines].map(simple));
}

/** Names a client, as CLIENT SETNAME and HELLO SETNAME do. Returns the error where the name is refused. */
export function setName(client: Client, name: string): Uint8Array | undefined {
  if (!/^[!-~]{0,200}$/.test(name)) {
    return error("ERR Client names cannot contain spaces, newlines or special characters.");
  }
  client.name = name;
  return undefined;
}
