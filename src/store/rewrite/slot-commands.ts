import { keySlot } from "../../cluster/slots/key-slot.ts";
import { hasSlot, type SlotRange, SLOTS } from "../../cluster/slots/slot-ranges.ts";
import type { Verb } from "../../resp/verbs.ts";
import { commandName, firstKey } from "./first-key.ts";
import {
  bytesOf,
  chosenCommands,
  type LogCommand,
  type LogPart,
  MORE,
  type SeenCommand,
} from "./log-commands.ts";

/** A command on keys of wanted slots. */
export interface SlotCommand extends LogCommand {
  readonly slot: number;
  /** A view, gone once the next command is asked for. */
  readonly bytes: Uint8Array;
}

/** All keys are gone from there on. */
export interface Flush extends LogCommand {
  readonly slot: "all";
  /** In all databases, not only in that of the command. */
  readonly everywhere: boolean;
}

function mayHaveKeys(verb: Verb | undefined): boolean {
  return verb !== "SELECT" && verb !== "MULTI" && verb !== "EXEC";
}

/**
 * Passes on the commands of a part of a log whose keys are in one of the slots, in order. Those of a transaction come one
 * by one, without its MULTI and EXEC; commands without keys, such as FLUSHALL, don't come.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function* commandsOfSlots(
  part: LogPart,
  slots: readonly SlotRange[],
): AsyncGenerator<SlotCommand> {
  for await (const change of changesOfSlots(part, slots)) {
    if (change.slot !== "all") yield change;
  }
}

/** The same, and where all keys are removed at once. */
export async function* changesOfSlots(
  part: LogPart,
  slots: readonly SlotRange[],
): AsyncGenerator<SlotCommand | Flush> {
  const isWanted = Array.from({ length: SLOTS }, (_, slot) => hasSlot(slots, slot));
  const look = (seen: SeenCommand) => {
    const bytes = bytesOf(seen);
    const key = firstKey(bytes);
    if (key === "more") return MORE;
    if (key === "none") return flushOf(bytes);
    const slot = keySlot(key);
    return isWanted[slot] === true ? slot : undefined;
  };
  for await (const { command, value: slot, bytes } of chosenCommands(part, {
    concerns: mayHaveKeys,
    look,
    withBytes: true,
  })) {
    if (typeof slot === "number") yield { ...command, slot, bytes };
    else yield { ...command, slot: "all", everywhere: slot === "all" };
  }
}

function flushOf(bytes: Uint8Array): "all" | "one" | undefined {
  const name = commandName(bytes);
  if (name === "flushall") return "all";
  return name === "flushdb" ? "one" : undefined;
}
