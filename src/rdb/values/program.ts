/*
 * What a value consists of, as a program of steps that pass over it. A step looks at a few bytes at once at most, so a
 * value of any length goes through in pieces of any length.
 */

/** The value is over. */
export const END = 0;
/** A string in any of its forms. */
export const STRING = 1;
/** A number in the form of a length. */
export const LENGTH = 2;
/** As many bytes as the next number of the program says. */
export const BYTES = 3;
/** A count, and a body as often; the next number says how long the body is. */
export const REPEAT = 4;
/** The same, and the count is that of the elements. */
export const REPEAT_ELEMENTS = 5;
/** The end of a body. */
export const AGAIN = 6;
/** A string that holds packed entries: their kind, and how many make an element. */
export const PACKED = 7;
/** A node of a quicklist: what it is, and one element or a listpack of them. */
export const NODE = 8;
/** The number of elements. */
export const ELEMENTS = 9;
/** A score as text. */
export const TEXT_SCORE = 10;
/** The id of a module's type. */
export const MODULE_ID = 11;
/** What a module wrote, each thing with an opcode before it, up to the opcode of the end. */
export const MODULE_DATA = 12;
/** A value that is a string. */
export const TEXT = 13;
/** 0, or 1 and a number. */
export const OPTIONAL_LENGTH = 14;
/** An item of an array: what it is, and a number or a string. */
export const ARRAY_ITEM = 15;
/** The id of a template, and a body as often as that has fields. */
export const REPEAT_FIELDS = 16;
/** A body as often as there are elements. */
export const REPEAT_AS_MANY = 18;
/** The names of a hash's fields, in one of two forms; the body takes one that is a string. */
export const FIELD_NAMES = 19;
/** A listpack whose first entry is the id of a template, and the others an element each. */
export const TEMPLATE_LISTPACK = 17;

/** The kinds of packed entries, by the number that stands for them in a program. */
export const LISTPACK = 0;
export const ZIPLIST = 1;
export const ZIPMAP = 2;
export const INTSET = 3;

type Steps = readonly number[];

/** A count, and the steps as often. */
export function repeat(...steps: Steps[]): Steps {
  const body = steps.flat();
  return [REPEAT, body.length, ...body, AGAIN];
}

/** A count of elements, and the steps for each. */
export function elements(...steps: Steps[]): Steps {
  const body = steps.flat();
  return [REPEAT_ELEMENTS, body.length, ...body, AGAIN];
}

/** The steps for each of the elements, whose count came before. */
export function asMany(...steps: Steps[]): Steps {
  const body = steps.flat();
  return [REPEAT_AS_MANY, body.length, ...body, AGAIN];
}

/** The steps for each field of a template, whose id comes first. */
export function fields(...steps: Steps[]): Steps {
  const body = steps.flat();
  return [REPEAT_FIELDS, body.length, ...body, AGAIN];
}

/** The names of a hash's fields. */
export function fieldNames(): Steps {
  return [FIELD_NAMES, 1, STRING, AGAIN];
}

/** A string of packed entries, of which `entriesPerElement` make an element. */
export function packed(kind: number, entriesPerElement: number): Steps {
  return [PACKED, kind, entriesPerElement];
}

/** So many bytes. */
export function bytes(count: number): Steps {
  return [BYTES, count];
}

/** A whole program. */
export function program(...steps: Steps[]): Uint8Array {
  return Uint8Array.from([...steps.flat(), END]);
}
