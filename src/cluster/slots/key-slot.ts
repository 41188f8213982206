import { SLOTS } from "./slot-ranges.ts";

const OPEN = 0x7b; // {
const CLOSE = 0x7d; // }

/** CRC16 (XMODEM): polynomial 0x1021, beginning with 0. */
const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc;
});

/**
 * The slot of a key: of what stands in the first `{…}` where that isn't empty, else of the whole key
 * ("Redis cluster specification", hash tags).
 */
export function keySlot(key: Uint8Array): number {
  const open = key.indexOf(OPEN);
  const close = open === -1 ? -1 : key.indexOf(CLOSE, open + 1);
  const [from, to] = close > open + 1 ? [open + 1, close] : [0, key.length];
  let crc = 0;
  for (let at = from; at < to; at++) {
    crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ key[at]!]!;
  }
  return crc % SLOTS;
}
