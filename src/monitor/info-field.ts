import { printable } from "../base/printable.ts";

/** A field of INFO. */
export type Field = readonly [name: string, value: string | number];

/** A field's value ends with its line. */
export function oneLine(text = ""): string {
  return printable(text.replace(/[\r\n]+/g, " "));
}

/** Fields of INFO as JSON; numbers are numbers if none of their digits is lost. */
export function fieldsToJson(fields: Iterable<Field>): Record<string, string | number> {
  const entries = [...fields].map(([name, given]): [string, string | number] => {
    const value = String(given);
    // These fields are text that may happen to consist of digits; their type must not depend on that.
    const isText = /^run_id$|(?:crc64|replid2?|version|host|error|reason|cause|slots)$/.test(name);
    return [printable(name), isText ? printable(value) : (exactNumber(value) ?? printable(value))];
  });
  return Object.fromEntries(entries);
}

function exactNumber(text: string): number | undefined {
  const isWhole = /^-?\d+$/.test(text) && String(Number(text)) === text;
  // A double represents any 15 decimal digits exactly.
  const isDecimal = /^-?(?:0|[1-9]\d*)\.\d+$/.test(text) && text.replace(/\D/g, "").length <= 15;
  return isWhole || isDecimal ? Number(text) : undefined;
}
