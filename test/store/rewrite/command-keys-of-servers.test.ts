import { describe, expect, test } from "bun:test";
import { commandKeys } from "../../../src/store/rewrite/command-keys.ts";
import { Random } from "../../support/fill.ts";
import { documentedCommands, madeCommand } from "../../support/made-commands.ts";
import { type Reply, ReplyError } from "../../support/resp.ts";
import { availableServers, startServer } from "../../support/servers.ts";
import { amount, seedOf } from "../../support/sweep.ts";

/** Their words that the server calls keys are channels. */
const CHANNELS = new Set(["spublish", "ssubscribe", "sunsubscribe"]);

/** Of two destinations servers take the last, and MIGRATE with neither a key nor KEYS is refused; GETKEYSANDFLAGS knows neither. */
function isUndecided(words: readonly string[]): boolean {
  if (words[0] === "migrate") return words[3] === "" && !words.includes("KEYS");
  return words.includes("STORE") && words.includes("STOREDIST");
}

/** They write whom they only read by the server's flags, if that depends on their words: a group of readers is changed. */
const SOMETIMES_WRITTEN = new Set(["bitfield", "xreadgroup"]);
const BATCH = 500;

describe.each(availableServers())("%s", (kind) => {
  test("the keys of all its commands are those that COMMAND GETKEYSANDFLAGS finds, and so is which of them it writes", async () => {
    const random = new Random(seedOf("COMMAND_KEYS_SEED"));
    const times = amount("COMMAND_KEYS", { sample: 20, full: 400 });
    await using server = await startServer(kind);
    await using client = await server.connect();
    const commands = await documentedCommands(client);
    const made = commands
      .filter(({ words }) => !CHANNELS.has(words[0]!))
      .flatMap((command) => Array.from({ length: times }, () => madeCommand(command, random)))
      .filter((words) => !isUndecided(words));
    const withKeys = new Set<string>();
    for (let at = 0; at < made.length; at += BATCH) {
      const batch = made.slice(at, at + BATCH);
      const replies = await client.exchange(
        batch.map((words) => ["COMMAND", "GETKEYSANDFLAGS", ...words] as const),
      );
      replies.forEach((reply, index) => {
        const words = batch[index]!;
        const keys = keysIn(reply, SOMETIMES_WRITTEN.has(words[0]!));
        if (keys === undefined) return;
        if (keys.length > 0) withKeys.add(words[0]!);
        const found = foundKeys(words);
        expect({ words, keys: found.toSorted() }).toEqual({ words, keys: keys.toSorted() });
      });
    }
    expect(withKeys.size).toBeGreaterThan(140);
  }, 150_000);
});

/** Each key, with a mark behind those that are written. A command that isn't known counts as one without keys. */
function foundKeys(words: readonly string[]): string[] {
  const found = commandKeys(words.map((word) => Buffer.from(word)));
  if (found === undefined) return [];
  const { keys, writes } = found;
  const isWritten = (index: number) =>
    writes === "all" ||
    (writes === "first" && index === 0) ||
    (writes === "last" && index === keys.length - 1);
  return keys.map((key, index) => `${Buffer.from(key).toString()}${isWritten(index) ? "*" : ""}`);
}

/** undefined where the server refuses the words, and so says nothing of their keys. */
function keysIn(reply: Reply, isWritten: boolean): string[] | undefined {
  if (reply instanceof ReplyError) {
    return reply.message.includes("has no key arguments") ? [] : undefined;
  }
  if (!Array.isArray(reply)) return undefined;
  return reply.map((one: Reply) => {
    if (!Array.isArray(one) || !Array.isArray(one[1])) throw new Error(`no key: ${String(one)}`);
    return `${String(one[0])}${one[1].includes("RO") && !isWritten ? "" : "*"}`;
  });
}
