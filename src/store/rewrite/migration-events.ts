import { keySlot } from "../../cluster/slots/key-slot.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { Verb } from "../../resp/verbs.ts";
import { firstKey } from "./first-key.ts";
import {
  type Choice,
  chosenCommands,
  type LogCommand,
  type LogPart,
  MORE,
} from "./log-commands.ts";
import { type Migration, migrationOf } from "./migration-commands.ts";

/** What a command tells of slots or keys that move. */
type Told =
  | Migration
  /** A key came from another server of the cluster, which deletes it next. */
  | { readonly kind: "arrived"; readonly slot: number; readonly key: Uint8Array };

/** The same, and the command that tells it. */
export type MigrationEvent = Told & { readonly command: LogCommand };

/**
 * Passes on what a part of a log tells of migrations, in order. There may be an event for each key of a server, so they
 * are not gathered.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function* migrationEvents(part: LogPart): AsyncGenerator<MigrationEvent> {
  for await (const { command, value } of chosenCommands(part, CHOICE)) {
    yield { command, ...value };
  }
}

const CHOICE: Choice<Told> = {
  concerns: (verb) => verb === "RESTORE-ASKING" || verb === "CLUSTER" || verb === "TRIMSLOTS",
  look,
  withBytes: false,
};

function look(
  bytes: Uint8Array,
  verb: Verb | undefined,
  isWhole: boolean,
): Told | undefined | typeof MORE {
  switch (verb) {
    case "RESTORE-ASKING": {
      const key = firstKey(bytes);
      if (key === "more") return MORE;
      if (key === "none") return undefined;
      return { kind: "arrived", slot: keySlot(key), key: Uint8Array.from(key) };
    }
    case "CLUSTER":
    case "TRIMSLOTS":
      return isWhole ? migrationOf(wordsOf(bytes)) : MORE;
    default:
      return undefined;
  }
}
