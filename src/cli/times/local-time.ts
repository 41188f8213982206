const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** How far local time is ahead of UTC at a moment, in milliseconds. */
function aheadMs(atMs: number): number {
  return -new Date(atMs).getTimezoneOffset() * MINUTE_MS;
}

/**
 * What a local clock shows at a moment: the milliseconds since 1970 at which a clock in UTC shows the same. Whoever
 * counts days and hours on it needs no zone.
 */
export function localClockMs(atMs: number): number {
  return atMs + aheadMs(atMs);
}

/**
 * The moments at which a local clock shows this, as `localClockMs` counts, in milliseconds since 1970, the earliest
 * first: two where the clock was set back over it, none where it was set forward over it.
 */
export function momentsOfClock(clockMs: number): number[] {
  // No zone is a day away from UTC: the one is before, the other after any change of the clock around that time.
  const ahead = [aheadMs(clockMs - DAY_MS), aheadMs(clockMs + DAY_MS)];
  const moments = ahead.map((ms) => clockMs - ms).filter((ms) => localClockMs(ms) === clockMs);
  return [...new Set(moments)].toSorted((a, b) => a - b);
}

/**
 * The moment at which a day begins in local time, in milliseconds since 1970: midnight, the first of two, or where the
 * clock was set forward over it, the moment when that was done. Undefined for a day that the clock skipped.
 * @param clockMs its midnight, as `localClockMs` counts.
 */
export function startOfDay(clockMs: number): number | undefined {
  const [first] = momentsOfClock(clockMs);
  if (first !== undefined) return first;
  // By the clock of before the change, midnight is the moment of the change.
  const changeMs = clockMs - aheadMs(clockMs - DAY_MS);
  return localClockMs(changeMs) < clockMs + DAY_MS ? changeMs : undefined;
}

/** A moment for people, in UTC and in local time. */
export function shownTwice(atMs: number): string {
  const utc = new Date(atMs).toISOString();
  const local = shownLocalTime(atMs);
  return local.endsWith("+00:00")
    ? `${utc}, and local time is UTC`
    : `${utc}, which is ${local} in local time`;
}

/** A moment as ISO 8601 in local time, with its distance from UTC: `2026-01-31T12:59:00.000+01:00`. */
function shownLocalTime(atMs: number): string {
  const ahead = aheadMs(atMs) / MINUTE_MS;
  const hours = Math.floor(Math.abs(ahead) / 60);
  const sign = ahead < 0 ? "-" : "+";
  const clock = new Date(localClockMs(atMs)).toISOString().slice(0, -1);
  return `${clock}${sign}${two(hours)}:${two(Math.abs(ahead) % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
