import listed from "@ioredis/commands/built/commands.json";
import { error } from "../resp/reply.ts";

/** What the list of Redis's commands tells of each; a container's subcommands have their own. */
interface Listed {
  readonly flags: readonly string[];
  /** Where its first key stands; 0 where it has none, or where that depends on its arguments. */
  readonly keyStart: number;
  readonly subcommands?: Readonly<Record<string, Listed>>;
}

/** Valkey 9's, which Redis has not. */
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

/** So many bytes of the name, and so many of the arguments, are told back. */
const TOLD_BYTES = 128;

/**
 * What is said to a command that the port has not: those on keys are answered nowhere here, of others it
 * knows nothing and says so as Redis does ("Redis 7.0, server.c, commandCheckExistence").
 */
export function refuseUnknown([name, ...args]: readonly Uint8Array[]): Uint8Array {
  const verb = Buffer.from(name ?? []).toString("latin1");
  if (KEY_COMMANDS.has(verb.toLowerCase())) {
    return error("ERR this replica keeps its data on disk and answers no key commands");
  }
  let told = "";
  for (const arg of args) {
    if (told.length >= TOLD_BYTES) break;
    told += `'${beginning(arg, TOLD_BYTES - told.length)}' `;
  }
  const shown = beginning(name ?? new Uint8Array(), TOLD_BYTES);
  return error(`ERR unknown command '${shown}', with args beginning with: ${told}`, "latin1");
}

/** Up to a NUL, as in Redis; what else would steer a terminal or break the line becomes blanks. */
function beginning(word: Uint8Array, bytes: number): string {
  const [shown = ""] = Buffer.from(word.subarray(0, bytes)).toString("latin1").split("\0", 1);
  // oxlint-disable-next-line no-control-regex -- they are what is meant
  return shown.replace(/[\x01-\x1f\x7f]/g, " ");
}
