import { unreachable } from "../../base/errors.ts";
import {
  chosenCommands,
  type LogPart,
  MORE,
  type SeenCommand,
} from "../../store/rewrite/log-commands.ts";
import type { Verb } from "../../resp/verbs.ts";
import { type Effect, EffectReader } from "./command-effect.ts";
import type { Obstacle } from "./group-memory.ts";
import type { NeededNames } from "./needed-names.ts";

/** What a log does to needed keys. */
export interface LogNeeds {
  /** Whether any command of the log changes a needed key. */
  readonly isTouched: boolean;
  /** Why the needed keys can't be told from the log alone; undefined where they can. */
  readonly obstacle: Obstacle | undefined;
}

/** SELECT, MULTI and EXEC say where and how other commands run, and do nothing by themselves. */
export function mayTouchKeys(verb: Verb | undefined): boolean {
  return verb !== "SELECT" && verb !== "MULTI" && verb !== "EXEC";
}

/**
 * Finds the names of all keys that decide about needed ones, to the end of the chain, whatever the databases are: so nothing
 * that swaps databases, or moves keys between them, is to be followed. It reads the log once, or again where names became
 * needed after more was forgotten than fits.
 * @param part the log up to a safe cut.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function findNeeds(part: LogPart, needed: NeededNames): Promise<LogNeeds> {
  for (;;) {
    needed.beginAgain();
    const found = await readOnce(part, needed);
    if (found.obstacle !== undefined || !needed.isStale) return found;
  }
}

type Grouped = Extract<Effect, { on: "group" }>;

/** What ends a reading, or needs to know where it stands. */
type Found = { readonly why: string } | Grouped | "look at the names";

async function readOnce(part: LogPart, needed: NeededNames): Promise<LogNeeds> {
  let isTouched = false;
  const effects = new EffectReader();
  const take = ({ keys, written }: Grouped, obstacle: Obstacle | undefined) => {
    if (needed.take({ keys, written, obstacle })) isTouched = true;
  };
  const look = (seen: SeenCommand): Found | typeof MORE | undefined => {
    const effect = effects.read(seen);
    if (effect === MORE) return MORE;
    switch (effect.on) {
      case "nothing":
        return undefined;
      case "key":
        isTouched ||= needed.hasAt(seen.bytes, effect.from, effect.to);
        return undefined;
      case "each":
        isTouched ||= effect.keys.some(needed.hasAt, "all");
        return undefined;
      case "database":
        isTouched = true;
        return undefined;
      case "anything":
        return effect;
      case "group":
        if (effect.obstacle !== undefined) return effect;
        take(effect, undefined);
        return needed.obstacle === undefined && !needed.isOverfull
          ? undefined
          : "look at the names";
      default:
        return unreachable(effect);
    }
  };
  const choice = { concerns: mayTouchKeys, look, withBytes: false };
  for await (const { command, value } of chosenCommands(part, choice)) {
    const byte = command.start;
    if (value !== "look at the names") {
      if ("why" in value) return { isTouched, obstacle: { what: value.why, byte } };
      const { obstacle } = value;
      take(value, obstacle === undefined ? undefined : { what: obstacle, byte });
    }
    if (needed.obstacle !== undefined) return { isTouched, obstacle: needed.obstacle };
    if (!needed.isOverfull) continue;
    const what = "the keys that others are made from are too many to be remembered";
    return { isTouched, obstacle: { what, byte } };
  }
  return { isTouched, obstacle: undefined };
}
