import { error } from "../resp/reply.ts";
import type { PortContext } from "./call.ts";
import type { Client } from "./clients/client.ts";

/** An entry in the list of Redis's commands. Containers have an entry for each subcommand. */
interface Listed {
  readonly flags: readonly string[];
  /** The position of its first key; 0 where it has none, or where that depends on its arguments. */
  readonly keyStart: number;
  readonly subcommands?: Readonly<Record<string, Listed>>;
}

/** Commands of Valkey 9 that Redis lacks. */
const UNLISTED = ["clusterscan", "delifeq"];

let keyCommands: ReadonlySet<string> | undefined;

/** Whether this command, in lower case, reads or writes keys in Redis or Valkey. */
function isKeyCommand(verb: string): boolean {
  keyCommands ??= findKeyCommands();
  return keyCommands.has(verb);
}

/** The list is long: it is read when the first client sends a command, not at the start. */
function findKeyCommands(): ReadonlySet<string> {
  const listed = require("@ioredis/commands/built/commands.json") as Record<string, Listed>;
  const onKeys = Object.entries(listed).filter(([, about]) => isOnKeys(about));
  return new Set([...onKeys.map(([name]) => name), ...UNLISTED]);
}

function isOnKeys({ flags, keyStart, subcommands = {} }: Listed): boolean {
  const isFlagged = ["readonly", "write", "movablekeys"].some((flag) => flags.includes(flag));
  return isFlagged || keyStart > 0 || Object.values(subcommands).some(isOnKeys);
}

/** The error for a command on keys. */
export const NO_KEYS = "ERR this replica keeps its data on disk and answers no key commands";

/** How Sentinel names its connections ("Redis, sentinel.c, sentinelSetClientName"). */
const SENTINEL_NAME = /^sentinel-[0-9a-f]{8}-(?:cmd|pubsub)$/;
/**
 * How far apart in time a Sentinel's connection and that of a client which it sent here may begin. A command on keys is
 * refused in any case, so that takes its time on a busy machine; a tool that names its library may be no reader.
 */
const MISLED_MS = { key: 5000, library: 1000 };

/** When connections of Sentinels began, and when the last one ended. */
export interface SentinelTimes extends Pick<PortContext, "sentinelGoneAtMs"> {
  readonly clients: ReadonlySet<Pick<Client, "beganAtMs" | "name">>;
  readonly settings: Pick<PortContext["settings"], "announce">;
}

/** Whether this is a connection of a Sentinel. */
export function isSentinel({ name }: Pick<Client, "name">): boolean {
  return SENTINEL_NAME.test(name);
}

/**
 * Whether a command may be that of a reader which a Sentinel sent here by mistake. At each failover Sentinel forgets
 * what its replicas said of themselves, and for some 100 ms names this one too, until it has asked again. Such a client
 * is disconnected instead of refused: then it asks Sentinel again, where an error would go to its caller. Most libraries
 * name themselves first, and take the end of the connection there for a server that is down.
 */
export function isMisled(
  { clients, settings, sentinelGoneAtMs }: SentinelTimes,
  { beganAtMs }: Pick<Client, "beganAtMs">,
  verb: string,
  [first = ""]: readonly string[],
): boolean {
  if (settings.announce) return false;
  const isLibrary = verb === "client" && first.toLowerCase() === "setinfo";
  if (!isLibrary && !isKeyCommand(verb)) return false;
  const apartMs = MISLED_MS[isLibrary ? "library" : "key"];
  const isNear = (atMs: number) => Math.abs(beganAtMs - atMs) <= apartMs;
  return (
    isNear(sentinelGoneAtMs()) ||
    [...clients].some((other) => isNear(other.beganAtMs) && isSentinel(other))
  );
}

/** How many bytes of the name are echoed, and how many of the arguments ("Redis, commandCheckExistence"). */
const ECHOED_BYTES = 128;

/**
 * The error for a command that the port does not have: one text for commands on keys, and Redis's own for
 * unknown commands ("Redis 7.0, server.c, commandCheckExistence").
 */
export function refuseUnknown([name, ...args]: readonly Uint8Array[]): Uint8Array {
  const verb = Buffer.from(name ?? []).toString("latin1");
  if (isKeyCommand(verb.toLowerCase())) {
    return error(NO_KEYS);
  }
  let echoed = "";
  for (const arg of args) {
    if (echoed.length >= ECHOED_BYTES) break;
    echoed += `'${beginning(arg, ECHOED_BYTES - echoed.length)}' `;
  }
  const shown = beginning(name ?? new Uint8Array(), ECHOED_BYTES);
  return error(`ERR unknown command '${shown}', with args beginning with: ${echoed}`, "latin1");
}

/**
 * The beginning of a word, as Redis echoes it: up to a NUL, byte for byte in latin1, so that a client finds its own
 * name again. Unlike `printable`, it blanks only what would break the line or control a terminal.
 */
function beginning(word: Uint8Array, bytes: number): string {
  const [shown = ""] = Buffer.from(word.subarray(0, bytes)).toString("latin1").split("\0", 1);
  // oxlint-disable-next-line no-control-regex -- control characters are meant
  return shown.replace(/[\x01-\x1f\x7f]/g, " ");
}
