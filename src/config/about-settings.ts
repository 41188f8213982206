import type { AboutSetting } from "./setting.ts";
import { type SettingName, settingsSchema } from "./settings-schema.ts";

/** Every setting's name, in the order of help. */
export const settingNames: readonly SettingName[] = Object.keys(settingsSchema).filter(isSetting);

/** Describes a setting; its default is text, as a person would write it. */
export function aboutSetting(name: SettingName): AboutSetting {
  return settingsSchema[name];
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `REPLICA_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Whether there is a setting of this name. */
export function isSetting(name: string): name is SettingName {
  return Object.hasOwn(settingsSchema, name);
}
