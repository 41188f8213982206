import { keySlot } from "../../cluster/slots/key-slot.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import { firstKey } from "./first-key.ts";
import {
  bytesOf,
  type Choice,
  chosenCommands,
  type LogCommand,
  type LogPart,
  MORE,
  type SeenCommand,
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

function look(seen: SeenCommand): Told | undefined | typeof MORE {
  const bytes = bytesOf(seen);
  switch (seen.verb) {
    case "RESTORE-ASKING": {
      const key = firstKey(bytes);
      if (key === "more") return MORE;
      if (key === "none") return undefined;
      return { kind: "arrived", slot: keySlot(key), key: Uint8Array.from(key) };
    }
    case "CLUSTER":
    case "TRIMSLOTS":
      return seen.isWhole ? migrationOf(wordsOf(bytes)) : MORE;
    default:
      return undefined;
  }
}
