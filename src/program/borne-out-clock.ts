import type { Clock } from "../base/clock.ts";

/**
 * A clock whose time of day runs no faster than time really passes: set ahead, or wrong from the start on, it makes
 * nothing look old. Set back, it is what it is.
 * @param borneOutMs the time of day now, as far as something else than the clock bears it out; see `Keeping.borneOutMs`.
 */
export function borneOutClock(clock: Clock, borneOutMs: number): Clock {
  const beganMs = clock.monotonicMs();
  return {
    now: () => Math.min(clock.now(), borneOutMs + clock.monotonicMs() - beganMs),
    monotonicMs: () => clock.monotonicMs(),
    random: () => clock.random(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
  };
}
