const SECONDS = /^\d{1,11}(?:\.\d{1,9})?$/;
const ISO =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?)?$/i;

/**
 * A moment as people write it: ISO 8601, or unix seconds. Without a zone it is of the local one, a date
 * alone the midnight with which that day begins there.
 * @returns milliseconds since 1970; undefined where it is no such moment.
 */
export function parseTime(text: string): number | undefined {
  if (SECONDS.test(text)) return Math.floor(Number(text) * 1000);
  const parts = ISO.exec(text);
  if (parts === null) return undefined;
  const [, year, month, day, time = "00:00", utc, hours, minutes = "00"] = parts;
  const zone = utc ?? (hours === undefined ? "" : `${hours}:${minutes}`);
  const date = `${year}-${month}-${day}`;
  // A day that its month has not is counted on into the next one.
  const midnight = new Date(`${date}T00:00Z`);
  if (midnight.getUTCDate() !== Number(day)) return undefined;
  // Of a date alone Date.parse takes UTC, of all else without a zone the local one.
  const atMs = Date.parse(`${date}T${time.replace(",", ".")}${zone.toUpperCase()}`);
  return Number.isNaN(atMs) ? undefined : atMs;
}
