import { usageError } from "../base/errors.ts";
import { didYouMean } from "../base/nearest.ts";
import { aboutSetting, settingNames } from "../config/schema/about-settings.ts";
import { loadSettings } from "../config/load-settings.ts";
import type { Settings } from "../config/settings.ts";
import type { SettingName } from "../config/schema/settings-schema.ts";

/** Of a cluster, and of a program that has a terminal and a log of its own: not for a library. */
const LEFT_OUT: readonly SettingName[] = [
  "cluster-read-from",
  "cluster-snapshots",
  "shards",
  "relay-ports",
  "log-level",
  "log-format",
  "no-progress",
];

/** What `follow` takes. */
export const FOLLOWED: readonly SettingName[] = settingNames.filter(
  (name) => !LEFT_OUT.includes(name),
);

/** What reading an archive takes. */
export const OF_ARCHIVES: readonly SettingName[] = [
  "archive-endpoint",
  "archive-region",
  "archive-identity",
];

/** A setting's name as a library's users write it: `snapshotEvery`. */
export function camelCased(name: string): string {
  return name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * Checks options that are settings by the schema of the settings. No variable and no file is read.
 * @param options by the names of the flags in camel case; undefined counts as not given.
 * @param takes the settings that are allowed.
 * @throws ReplicaError USAGE for an unknown name, a bad value, or settings that don't fit together.
 */
export function settingsOf(
  options: Readonly<Record<string, unknown>>,
  takes: readonly SettingName[],
): Settings {
  const byOption = new Map(takes.map((name) => [camelCased(name), name]));
  const flags = new Map<string, string>();
  for (const [option, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const name = byOption.get(option);
    if (name === undefined) {
      throw usageError(`unknown option ${option}${didYouMean(option, [...byOption.keys()])}`);
    }
    flags.set(name, textOf(name, option, value));
  }
  return loadSettings({
    flags,
    env: {},
    takes,
    called: (name) => `the option ${camelCased(name)}`,
  });
}

/** The value as a command line would give it. */
function textOf(name: SettingName, option: string, value: unknown): string {
  const { kind, takes } = aboutSetting(name);
  if (typeof value === "string") return value;
  const isNumber = typeof value === "number" && Number.isFinite(value);
  // Some texts are numbers, too: `syncLinks: 1`.
  if (isNumber && kind !== "switch" && kind !== "list") return String(value);
  if (typeof value === "boolean" && kind === "switch") return String(value);
  const isTexts = Array.isArray(value) && value.every((one) => typeof one === "string");
  if (isTexts && kind === "list") return value.join(",");
  throw usageError(`the option ${option} is a ${typeof value}: it takes ${takes}`);
}
