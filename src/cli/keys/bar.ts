/** Parts of a character's width, from an eighth to seven. */
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/**
 * A bar for a share.
 * @param share from 0 to 1. @param width of the whole, in characters.
 * @param isPlain ASCII alone.
 */
export function bar(share: number, width: number, isPlain: boolean): string {
  // Whatever is there at all is seen.
  const eighths = Math.min(width * 8, share > 0 ? Math.max(1, Math.round(share * width * 8)) : 0);
  if (isPlain) return "#".repeat(Math.round(eighths / 8));
  return "█".repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8]!;
}
