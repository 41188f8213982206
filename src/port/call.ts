import type { PrimarySource } from "../config/primary-source.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { Relay } from "../downstream/relay.ts";
import type { PortCounts } from "../monitor/port-counts.ts";
import { array, error, simple } from "../resp/reply.ts";
import type { Client } from "./client.ts";
import type { Settings } from "../config/settings.ts";
import type { LoginThrottle } from "./login-throttle.ts";
import type { PubSub } from "./pubsub.ts";
import type { ReplicaStatus } from "../replica/status.ts";

/** What commands can make the replica do. What they report comes from its status. */
export interface ReplicaActions {
  readonly relay: Pick<Relay, "attach" | "countAt" | "endOffset" | "isAhead" | "when">;
  /** `begin` starts a new snapshot over a second link. @throws ReplicaError where it can't. */
  readonly renewal: { begin(by: string): void };
  /** REPLICAOF keeps the TLS and the login of the primary that was named at start. */
  readonly primary: { readonly source: PrimarySource };
  /** @param by the client's address, for the log. */
  follow(target: PrimaryTarget, by: string): void;
  leave(by: string): void;
}

/** What commands can make the program do. */
export interface ProgramActions {
  /** Stores the primary that REPLICAOF named for the next start. @throws ReplicaError */
  rewrite(): void;
  /** Ends the program as SIGTERM does. */
  shutdown(): void;
}

/** Everything that a command of the replica's own port may use. */
export interface PortContext extends ProgramActions {
  readonly status: ReplicaStatus;
  readonly replica: ReplicaActions;
  readonly pubsub: PubSub;
  readonly clients: ReadonlySet<Client>;
  readonly logins: LoginThrottle;
  readonly settings: Settings;
  readonly version: string;
  readonly port: number;
  readonly counts: PortCounts;
  now(): number;
  /** Tells that a client spoke HTTP. */
  alarm(client: Client): void;
}

/** A command that has come whole: its arguments as latin1 text, and as the bytes that came. */
export interface Call {
  readonly client: Client;
  readonly context: PortContext;
  readonly args: readonly string[];
  readonly bytes: readonly Uint8Array[];
}

/** As Redis words it; a subcommand as `client|kill`. */
export function wrongArgs(name: string): Uint8Array {
  return error(`ERR wrong number of arguments for '${name}' command`);
}

/** HELP of a command: each of its subcommands, and what that does ("Redis, networking.c, addReplyHelp"). */
export function subcommandHelp(
  name: string,
  subcommands: readonly (readonly [usage: string, what: string])[],
): Uint8Array {
  const own = ["HELP", "Prints this help."] as const;
  const lines = [...subcommands, own].flatMap(([usage, what]) => [usage, `    ${what}`]);
  const head = `${name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`;
  return array([head, ...lines].map(simple));
}

/** CLIENT SETNAME and HELLO SETNAME; what is refused, if it is. */
export function setName(client: Client, name: string): Uint8Array | undefined {
  if (!/^[!-~]{0,200}$/.test(name)) {
    return error("ERR Client names cannot contain spaces, newlines or special characters.");
  }
  client.name = name;
  return undefined;
}
