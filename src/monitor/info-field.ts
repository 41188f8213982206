import { printable } from "../base/printable.ts";

/** A field of INFO. */
export type Field = readonly [name: string, value: string | number];

/** A field's value ends with its line. */
export function oneLine(text = ""): string {
  return printable(text.replace(/[\r\n]+/g, " "));
}
