/** A 64-bit number as 16 lowercase hex digits: how checksums are stored and printed. */
export function hex64(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}
