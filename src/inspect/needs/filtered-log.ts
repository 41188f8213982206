import { encodeCommands, selectCommand } from "../../resp/encode.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { Words } from "../../resp/absolute-expiry.ts";
import type { Verb } from "../../resp/verbs.ts";
import { commandKeys } from "../../store/rewrite/command-keys.ts";
import {
  bytesOf,
  chosenCommands,
  type LogPart,
  MORE,
  type SeenCommand,
} from "../../store/rewrite/log-commands.ts";
import type { RewriteRule } from "../../store/rewrite/log-rewriter.ts";
import { type Effect, EffectReader, withKeys } from "./command-effect.ts";
import type { GatheringFile } from "./gathering-file.ts";
import { mayTouchKeys } from "./log-needs.ts";
import type { NeededNames } from "./needed-names.ts";

/** A command as it came, or with some of its keys. */
type Kept = "as it is" | Words;

/**
 * Writes what a log does to needed keys, with the database of each command, and free of what depends on the time of the replay.
 * MULTI and EXEC are left out: a server that loads a file does the same without them.
 * @param part the log up to a safe cut, in which `findNeeds` has found no obstacle.
 * @param rules as a whole restore has them.
 * @returns how many commands of the log are kept, whole or in part.
 * @throws ReplicaError BAD_FRAME, DISK_FULL, DISK_FAILED; the signal's reason.
 */
export async function writeFiltered(
  part: LogPart,
  needed: Pick<NeededNames, "has" | "hasAt">,
  rules: readonly RewriteRule[],
  file: GatheringFile,
): Promise<number> {
  let db: number | undefined;
  let commands = 0;
  const effects = new EffectReader();
  const look = (seen: SeenCommand) => {
    const effect = effects.read(seen);
    return effect === MORE ? MORE : keptOf(effect, seen, needed);
  };
  const choice = { concerns: mayTouchKeys, look, withBytes: true };
  for await (const { command, value, bytes } of chosenCommands(part, choice)) {
    if (command.db !== db) await file.write(selectCommand(command.db));
    db = command.db;
    commands++;
    if (value !== "as it is") {
      await file.write(encodeCommands([value]));
      continue;
    }
    const instead = rewritten(bytes, command, rules);
    await file.write(instead === undefined ? bytes : encodeCommands(instead));
  }
  return commands;
}

function keptOf(
  effect: Effect,
  seen: SeenCommand,
  needed: Pick<NeededNames, "has" | "hasAt">,
): Kept | undefined {
  switch (effect.on) {
    case "database":
      return "as it is";
    case "key":
      return needed.hasAt(seen.bytes, effect.from, effect.to) ? "as it is" : undefined;
    case "group":
      return effect.keys.some(needed.hasAt, effect.written) ? "as it is" : undefined;
    case "each":
      return effect.keys.some(needed.hasAt, "all") ? neededOf(bytesOf(seen), needed) : undefined;
    default:
      return undefined;
  }
}

/** The same command with its needed keys alone. */
function neededOf(bytes: Uint8Array, needed: Pick<NeededNames, "has">): Kept | undefined {
  const words = wordsOf(bytes);
  const kept = withKeys(commandKeys(words)!, words, (key) => needed.has(key));
  return kept === words ? "as it is" : kept;
}

function rewritten(
  bytes: Uint8Array,
  { verb, end }: { readonly verb: Verb | undefined; readonly end: number },
  rules: readonly RewriteRule[],
): Words[] | undefined {
  if (verb === undefined || rules.length === 0) return undefined;
  const words = wordsOf(bytes);
  return rules.find((rule) => rule.concerns(verb, words.length))?.replace(words, end);
}
