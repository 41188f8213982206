/** A hash of a part of some bytes (FNV-1a, 32 bits), which no secret is needed for: what collides only takes longer. */
export function nameHash(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0x811c9dc5 | 0;
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  return hash ^ (hash >>> 15);
}

/** Whether a part of some bytes is the same as a part of others. */
export function isSameName(
  one: Uint8Array,
  from: number,
  to: number,
  other: Uint8Array,
  otherFrom: number,
): boolean {
  for (let at = from, there = otherFrom; at < to; at++, there++) {
    if (one[at] !== other[there]) return false;
  }
  return true;
}
