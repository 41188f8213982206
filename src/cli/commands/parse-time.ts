const SECONDS = /^\d{1,11}(?:\.\d{1,9})?$/;
const ISO =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?)?$/i;

/**
 * Parses a time as people write it: ISO 8601 or unix seconds. Without a zone it is local time; a date alone
 * is the midnight at which that day begins.
 * @returns milliseconds since 1970; undefined if it is not a valid time.
 */
export function parseTime(text: string): number | undefined {
  if (SECONDS.test(text)) return Math.floor(Number(text) * 1000);
  const parts = ISO.exec(text);
  if (parts === null) return undefined;
  const [, year = "", month = "", day = "", time = "00:00", utc, hours, minutes = "00"] = parts;
  const zone = utc ?? (hours === undefined ? "" : `${hours}:${minutes}`);
  const date = `${year}-${month}-${day}`;
  // Date rolls a day that the month does not have over into the next month.
  const midnight = new Date(`${date}T00:00Z`);
  if (midnight.getUTCDate() !== Number(day)) return undefined;
  // Date.parse reads a date alone as UTC, but a date and time without a zone as local.
  const atMs = Date.parse(`${date}T${time.replace(",", ".")}${zone.toUpperCase()}`);
  return Number.isNaN(atMs) ? undefined : atMs;
}
