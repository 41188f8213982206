import { aboutSetting, variableOf } from "../../config/schema/about-settings.ts";
import type { SettingName } from "../../config/schema/settings-schema.ts";

/** What the program is. */
export const tagline = "a Redis/Valkey replica that lives on disk";

/** The flag of the settings file, which is no setting itself. */
export const configFlag = {
  name: "config",
  value: "FILE",
  help: "a settings file (TOML)",
} as const;

/** Where settings come from, and how their values are written. */
export const settingSources = `A setting comes from its flag, then its environment variable (REPLICA_ plus the flag's name in capitals, such as ${variableOf("log-level")}), then the TOML file given with --config (same names), then its default. Sizes: 8MiB (binary), 8MB (decimal), or a number of bytes. Times: 500ms, 60s, 5m, 1h, or a number of seconds.`;

/** Every exit code and what it means. */
export const exitCodes: readonly (readonly [code: number, meaning: string])[] = [
  [0, "done"],
  [1, "failed while running"],
  [2, "wrong command line or setting"],
  [3, "what was checked is damaged"],
];

/** A flag with the placeholder of its value: `--dir DIR`. */
export function flagOf({ name, value }: { readonly name: string; readonly value: string }): string {
  return value === "" ? `--${name}` : `--${name} ${value}`;
}

/** What a setting is where it isn't given, for people; undefined for a switch, which is off. */
export function defaultOf(name: SettingName): string | undefined {
  const { kind, default: preset, unset } = aboutSetting(name);
  return kind === "switch" ? undefined : (preset ?? unset ?? "none");
}
