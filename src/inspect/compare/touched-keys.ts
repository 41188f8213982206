import { unreachable } from "../../base/errors.ts";
import {
  chosenCommands,
  type LogPart,
  MORE,
  type SeenCommand,
} from "../../store/rewrite/log-commands.ts";
import { EffectReader, writtenOf } from "../needs/command-effect.ts";
import { mayTouchKeys } from "../needs/log-needs.ts";
import { NameHashes } from "./name-hashes.ts";

/** The keys that a part of a log may change; or why they can't be told, and the byte of its file where that shows. */
export type Touched =
  | { readonly names: NameHashes }
  | { readonly names: undefined; readonly why: string; readonly byte: number };

/**
 * Finds the keys that a part of a log may change, in whatever database.
 * @param isWanted whether a key counts.
 * @param maxBytes the memory that their names may take.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function touchedKeys(
  part: LogPart,
  isWanted: (key: Uint8Array) => boolean,
  maxBytes: number,
): Promise<Touched> {
  const names = new NameHashes(maxBytes);
  const reader = new EffectReader();
  let hasRoom = true;
  const take = (keys: readonly Uint8Array[]): undefined | string => {
    for (const key of keys) if (isWanted(key)) hasRoom &&= names.add(key);
    return hasRoom ? undefined : "more keys were changed than can be remembered";
  };
  const look = (seen: SeenCommand) => {
    const effect = reader.read(seen);
    if (effect === MORE) return MORE;
    switch (effect.on) {
      case "nothing":
        return undefined;
      case "key":
        return take([seen.bytes.subarray(effect.from, effect.to)]);
      case "each":
        return take(effect.keys.views());
      case "group":
        return take(writtenOf(effect));
      case "database":
        return "a command changes all keys of a database";
      case "anything":
        return effect.why;
      default:
        return unreachable(effect);
    }
  };
  const choice = { concerns: mayTouchKeys, look, withBytes: false };
  for await (const { command, value } of chosenCommands(part, choice)) {
    return { names: undefined, why: value, byte: command.start };
  }
  return { names };
}
