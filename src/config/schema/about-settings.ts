import * as z from "zod/mini";
import { type AboutSetting, type Setting, type SettingGroup, settingGroups } from "./setting.ts";
import { type SettingName, settingsSchema } from "./settings-schema.ts";

/** The groups of settings, in the order of help. */
export const groupNames: readonly SettingGroup[] = Object.keys(settingGroups).filter(isGroup);

/** Every setting's name, in the order of help: group by group. */
export const settingNames: readonly SettingName[] = inGroups(
  Object.keys(settingsSchema).filter(isSetting),
).flatMap(({ names }) => names);

/** The names by their groups, in the order of help, each group in the order that is given; no group is empty. */
export function inGroups(
  names: readonly SettingName[],
): { readonly group: SettingGroup; readonly names: readonly SettingName[] }[] {
  return groupNames
    .map((group) => ({
      group,
      names: names.filter((name) => settingsSchema[name].group === group),
    }))
    .filter((one) => one.names.length > 0);
}

/** Describes a setting; its default is text, as a person would write it. */
export function aboutSetting(name: SettingName): AboutSetting {
  return settingsSchema[name];
}

/** The words that a setting takes, where it takes nothing else; empty where it does. */
export function wordsOf(name: SettingName): string[] {
  const { schema }: Setting = settingsSchema[name];
  return schema instanceof z.ZodMiniEnum ? schema.options.map(String) : [];
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `REPLICA_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Whether there is a setting of this name. */
export function isSetting(name: string): name is SettingName {
  return Object.hasOwn(settingsSchema, name);
}

function isGroup(name: string): name is SettingGroup {
  return Object.hasOwn(settingGroups, name);
}
