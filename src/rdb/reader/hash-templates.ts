import { lengthRead, LZF, readLength, readStringHead, stringHead } from "../values/length.ts";
import { undoLzf } from "../values/lzf.ts";

/** Each is remembered. Nobody has as many kinds of hashes. */
const MAX_TEMPLATES = 100_000;
/** So are their fields where values are wanted. */
const MAX_FIELD_BYTES = 64 * 1024 * 1024;

/* Hashes whose fields stand in a template, and the same with the fields beside the values ("Redis 8.10, rdb.h"). */
const LISTPACK_WITH_FIELDS = 29;
const LISTPACK_OF_TEMPLATE = 30;
const ARRAY_WITH_FIELDS = 31;
const ARRAY_OF_TEMPLATE = 32;
/** The fields follow as strings. */
const FIELDS_AS_STRINGS = 1;
/** The head of a listpack and its longest number. */
const LISTPACK_HEAD_BYTES = 6;
const FIRST_ENTRY_BYTES = 9;

/** A value that stands by itself, and its type. */
export interface StandingValue {
  readonly opcode: number;
  readonly value: Uint8Array;
}

/**
 * The templates of hashes in an RDB of Redis 8.10: what fields all hashes of a kind have. Such a hash has only the
 * template's id and its values in an RDB, but RESTORE takes it with its fields.
 */
export class HashTemplates {
  readonly #counts = new Map<number, number>();
  readonly #fields = new Map<number, Uint8Array>();
  #fieldBytes = 0;

  /** How many fields each template has, by its id. */
  get counts(): ReadonlyMap<number, number> {
    return this.#counts;
  }

  /** Notes a template. @returns false where there are too many. */
  add(id: number, count: number): boolean {
    if (this.#counts.size === MAX_TEMPLATES) return false;
    this.#counts.set(id, count);
    return true;
  }

  /**
   * Notes the count and the names of a template's fields as they stand in the RDB.
   * @returns false where all that is noted takes too much memory.
   */
  addFields(id: number, fields: Uint8Array): boolean {
    this.#fieldBytes += fields.length;
    if (this.#fieldBytes > MAX_FIELD_BYTES) return false;
    this.#fields.set(id, Uint8Array.from(fields));
    return true;
  }

  /**
   * A value as it stands in the RDB, in the form that RESTORE takes.
   * @returns undefined where its template isn't there.
   */
  standing(opcode: number, value: Uint8Array): StandingValue | undefined {
    if (opcode !== LISTPACK_OF_TEMPLATE && opcode !== ARRAY_OF_TEMPLATE) return { opcode, value };
    const isArray = opcode === ARRAY_OF_TEMPLATE;
    const valuesAt = isArray ? readLength(value, 0, value.length) : 0;
    const id = isArray ? lengthRead.value : firstNumber(value);
    const fields = id === undefined ? undefined : this.#fields.get(id);
    if (fields === undefined) return undefined;
    // A listpack keeps its id: who restores it takes another one.
    const whole = new Uint8Array(1 + fields.length + value.length - valuesAt);
    whole[0] = FIELDS_AS_STRINGS;
    whole.set(fields, 1);
    whole.set(value.subarray(valuesAt), 1 + fields.length);
    return { opcode: isArray ? ARRAY_WITH_FIELDS : LISTPACK_WITH_FIELDS, value: whole };
  }
}

/** The number that is the first entry of a listpack in a string ("Redis, listpack.c": lpGet). */
function firstNumber(value: Uint8Array): number | undefined {
  const end = readStringHead(value, 0, value.length);
  if (end < 0) return undefined;
  const head = new Uint8Array(LISTPACK_HEAD_BYTES + FIRST_ENTRY_BYTES);
  if (stringHead.first === LZF) undoLzf(value, end, value.length, head);
  else head.set(value.subarray(end, end + head.length));
  const view = new DataView(head.buffer, LISTPACK_HEAD_BYTES);
  const first = view.getUint8(0);
  if (first < 0x80) return first;
  if (first >= 0xc0 && first < 0xd0) return ((first & 0x0f) << 8) | view.getUint8(1);
  if (first === 0xf1) return view.getInt16(1, true);
  if (first === 0xf2) return view.getUint16(1, true) | (view.getInt8(3) << 16);
  if (first === 0xf3) return view.getInt32(1, true);
  return first === 0xf4 ? Number(view.getBigInt64(1, true)) : undefined;
}
