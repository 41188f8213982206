import listed from "@ioredis/commands/built/commands.json";
import { error } from "../resp/reply.ts";

/** An entry in the list of Redis's commands. Containers have an entry for each subcommand. */
interface Listed {
  readonly flags: readonly string[];
  /** The position of its first key; 0 where it has none, or where that depends on its arguments. */
  readonly keyStart: number;
  readonly subcommands?: Readonly<Record<string, Listed>>;
}

/** Commands of Valkey 9 that Redis lacks. */
const UNLISTED = ["clusterscan", "delifeq"];

/** The commands of Redis and Valkey that read or write keys, in lower case. */
const KEY_COMMANDS: ReadonlySet<string> = new Set([
  ...Object.entries<Listed>(listed).flatMap(([name, about]) => (isOnKeys(about) ? [name] : [])),
  ...UNLISTED,
]);

function isOnKeys({ flags, keyStart, subcommands = {} }: Listed): boolean {
  const isFlagged = ["readonly", "write", "movablekeys"].some((flag) => flags.includes(flag));
  return isFlagged || keyStart > 0 || Object.values(subcommands).some(isOnKeys);
}

/** How many bytes of the name are echoed, and how many of the arguments ("Redis, commandCheckExistence"). */
const ECHOED_BYTES = 128;

/**
 * The error for a command that the port does not have: one text for commands on keys, and Redis's own for
 * unknown commands ("Redis 7.0, server.c, commandCheckExistence").
 */
export function refuseUnknown([name, ...args]: readonly Uint8Array[]): Uint8Array {
  const verb = Buffer.from(name ?? []).toString("latin1");
  if (KEY_COMMANDS.has(verb.toLowerCase())) {
    return error("ERR this replica keeps its data on disk and answers no key commands");
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
