import { z } from "zod";
import {
  type AboutSetting,
  aboutSettings,
  type SettingName,
  settingsSchema,
} from "./settings-schema.ts";

/** Every setting's name, in the order of help. */
export const settingNames: readonly SettingName[] = settingsSchema.keyof().options;

/** Describes a setting; its default is text, as a person would write it. */
export function aboutSetting(
  name: SettingName,
): AboutSetting & { readonly default: string | undefined } {
  const schema = settingsSchema.shape[name];
  const about = aboutSettings.get(schema);
  if (about === undefined) throw new Error(`the setting ${name} has no description`);
  return {
    ...about,
    default: schema instanceof z.ZodPrefault ? schema.def.defaultValue : undefined,
  };
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `REPLICA_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Whether there is a setting of this name. */
export function isSetting(name: string): name is SettingName {
  return Object.hasOwn(settingsSchema.shape, name);
}
