import type { Command } from "./call.ts";
import { clientCommands } from "./client-commands.ts";
import { configCommands } from "./config-commands.ts";
import { connectionCommands } from "./connection-commands.ts";
import { pubsubCommands } from "./pubsub-commands.ts";
import { replicationCommands } from "./replication-commands.ts";
import { serverCommands } from "./server-commands.ts";
import { transactionCommands } from "./transaction-commands.ts";

/** Every command of the port, by its name in lower case. To add one, add a row to the file of its kind. */
export const COMMANDS: ReadonlyMap<string, Command> = new Map(
  [
    ...connectionCommands,
    ...serverCommands,
    ...replicationCommands,
    ...configCommands,
    ...clientCommands,
    ...transactionCommands,
    ...pubsubCommands,
  ].map((command) => [command.name, command]),
);
