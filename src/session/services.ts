import { ReplicaError } from "../base/errors.ts";
import { printableBytes } from "../base/printable.ts";
import type { Door } from "./doors.ts";

/*
 * Managed services: some refuse the commands of replication, some call them by names of their own.
 */

/** The names of the commands that ask for a sync. */
export interface SyncCommands {
  /** --psync-command */
  readonly psync: string;
  /** --sync-command */
  readonly sync: string;
}

/** As every stock server calls them. */
export const STOCK_COMMANDS: SyncCommands = { psync: "PSYNC", sync: "SYNC" };

/** Whether a server doesn't know a command ("Redis 7.0, server.c, rejectCommand"). */
export function isUnknownCommand(line: Uint8Array): boolean {
  return /^-ERR unknown command/i.test(printableBytes(line));
}

/**
 * Whether a service refuses a command as such, in words of its own: "ERR Command disallowed" (Azure), "ERR Unsupported
 * command: psync" (Huawei), "ERR Command is not available: 'PSYNC'" (Upstash), "ERR unknown or unsupported command".
 */
export function isWithheldCommand(line: Uint8Array): boolean {
  return /^-ERR (?:command (?:is )?(?:disallowed|disabled|not (?:available|allowed|supported|permitted))|(?:unknown or )?unsupported command)/i.test(
    printableBytes(line),
  );
}

/** Whether a command as such is refused, whatever its arguments: by the server, a service or the user's rights. */
export function isRefusedCommand(line: Uint8Array): boolean {
  return isUnknownCommand(line) || isWithheldCommand(line) || isNoPermission(line);
}

/** Whether the user lacks the right to send a command. */
export function isNoPermission(line: Uint8Array): boolean {
  return printableBytes(line).startsWith("-NOPERM");
}

/**
 * The error for a service that doesn't let replicas in.
 * @param line its answer to the command that asks for a sync.
 * @param commands by which it was asked.
 */
export function noSyncOffered(
  line: Uint8Array,
  commands: SyncCommands,
  { service }: Pick<Door, "service">,
): ReplicaError {
  const said = withoutArguments(line);
  const who = service ?? serviceOf(said);
  const isGiven = commands.psync !== STOCK_COMMANDS.psync;
  const asked = isGiven ? `neither ${commands.psync} nor ${commands.sync}` : "no PSYNC";
  const next = isGiven
    ? "check --psync-command, which is another one for each node"
    : service === "Amazon ElastiCache"
      ? "ask AWS support for the names that its nodes have for PSYNC, and give them with --psync-command HOST:PORT=NAME"
      : "ask its support for a user that may replicate, or for its own name of PSYNC, for --psync-command";
  return new ReplicaError("PRIMARY_REFUSED", {
    message: `this service${who === undefined ? "" : ` (${who})`} offers ${asked} (${said}): ${next}`,
  });
}

/** Whose words these are; undefined where several use them. */
function serviceOf(said: string): string | undefined {
  if (/^-ERR Command disallowed/i.test(said)) return "Azure Cache for Redis, by its words";
  if (said.startsWith("-ERR Unsupported command: ")) return "Huawei Cloud, by its words";
  if (/upstash\.com|Command is not available/i.test(said)) return "Upstash, by its words";
  return undefined;
}

/** A peer's error, to be shown. A server quotes the arguments of what it doesn't know: they say nothing here. */
export function withoutArguments(line: Uint8Array): string {
  return printableBytes(line).replace(/,? with args beginning with.*$/i, "");
}
