import {
  bytes,
  LENGTH,
  MODULE_DATA,
  MODULE_ID,
  program,
  repeat,
  STRING,
} from "../values/program.ts";

/* What stands in an RDB beside keys ("Redis, rdb.h" and "Valkey, rdb.h": RDB_OPCODE_…). */
export const HASH_TEMPLATE = 0xf2;
/** Redis 8.6: what modules attach to a key. In Valkey 9's own RDBs the same opcode is SLOT_IMPORT. */
export const KEY_META = 0xf3;
export const SLOT_INFO = 0xf4;
export const FUNCTION2 = 0xf5;
export const MODULE_AUX = 0xf7;
export const IDLE = 0xf8;
export const FREQ = 0xf9;
export const AUX = 0xfa;
export const RESIZEDB = 0xfb;
export const EXPIRETIME_MS = 0xfc;
export const EXPIRETIME = 0xfd;
export const SELECTDB = 0xfe;
export const EOF = 0xff;

/** A value of the first kind, which only its module can read: its end isn't marked. */
export const MODULE_1 = 6;

/** Classes of metadata, each a number of 4 bytes and what its module wrote. */
export const KEY_META_PROGRAM = program(repeat(bytes(4), [MODULE_DATA]));
/** The name of the import, and ranges of slots. */
export const SLOT_IMPORT_PROGRAM = program([STRING], repeat([LENGTH, LENGTH]));
/** The module, when it is to be loaded (a number with its opcode), and what it wrote. */
export const MODULE_AUX_PROGRAM = program([MODULE_ID, LENGTH, LENGTH, MODULE_DATA]);
/** The names of the fields. */
export const HASH_TEMPLATE_PROGRAM = program(repeat([STRING]));
