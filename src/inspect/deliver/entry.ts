import { Crc64 } from "../../rdb/crc64.ts";
import type { RdbFormat } from "../../rdb/releases.ts";

/** A key with its value and what belongs to it, as an RDB holds them. */
export interface DeliveredEntry {
  readonly db: number;
  readonly key: Uint8Array;
  /** As `TYPE` names it; `module` for a module's. */
  readonly kind: string;
  /** The RDB's value type. */
  readonly opcode: number;
  /** The bytes behind type and key, as they stand in the RDB. */
  readonly value: Uint8Array;
  /** When it expires, in milliseconds since 1970; undefined: never. */
  readonly expiresAtMs: number | undefined;
  /** How long it hadn't been used; undefined where the RDB doesn't say. */
  readonly idleSeconds: number | undefined;
  /** The counter of an LFU policy, 0 to 255; undefined where the RDB doesn't say. */
  readonly frequency: number | undefined;
  /** Undefined where it has none, or they weren't counted. */
  readonly elements: number | undefined;
  /** Of the RDB that it comes from. */
  readonly rdbVersion: number;
  readonly magic: RdbFormat["magic"];
}

const TYPE_BYTES = 1;
const VERSION_BYTES = 2;
const CRC_BYTES = 8;

/** How long the payload of a value is, in bytes. */
export function payloadBytes({ value }: Pick<DeliveredEntry, "value">): number {
  return TYPE_BYTES + value.length + VERSION_BYTES + CRC_BYTES;
}

/**
 * The parts of what RESTORE takes, as DUMP makes it: type, value, RDB version and CRC64, both little endian ("Redis 7.0,
 * cluster.c, createDumpPayload"). The value isn't copied.
 */
export function payloadOf(
  { opcode, value }: Pick<DeliveredEntry, "opcode" | "value">,
  rdbVersion: number,
): readonly [type: Uint8Array, value: Uint8Array, end: Uint8Array] {
  const type = Uint8Array.of(opcode);
  const end = Buffer.alloc(VERSION_BYTES + CRC_BYTES);
  end.writeUInt16LE(rdbVersion);
  const crc = new Crc64();
  crc.update(type);
  crc.update(value);
  crc.update(end.subarray(0, VERSION_BYTES));
  end.writeBigUInt64LE(crc.value, VERSION_BYTES);
  return [type, value, end];
}

/** Values whose memory is worth a collection, which takes some ten milliseconds. */
const LARGE_BYTES = 16 * 1024 * 1024;

/** Frees the memory of large values that are done with: the engine counts it late, and several would pile up. */
export function freeLarge(bytes: number): void {
  if (bytes > LARGE_BYTES) Bun.gc(true);
}
