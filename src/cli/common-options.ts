import type { SettingName } from "../config/schema/settings-schema.ts";
import type { CommandOption } from "./commands/command.ts";

/** How a command logs. */
export const logSettings: readonly SettingName[] = ["log-level", "log-format"];

/** For every command that prints a table. */
export const json: CommandOption = { name: "json", value: "", help: "print JSON" };
