/** A generator of whole numbers from 0 to below `limit`. */
interface Random {
  below(limit: number): number;
}

/**
 * `npm run test:sweeps` sets `TEST_SWEEPS=1`: then every sweep tries all of its cases. Without it a sweep
 * tries a sample, so that `npm test` stays short. CI runs both.
 */
export const IS_FULL = process.env["TEST_SWEEPS"] === "1";

/** How much to try: as much as the environment variable `name` says, else `full` or `sample`. */
export function amount(name: string, { sample, full }: { sample: number; full: number }): number {
  return Number(process.env[name] ?? (IS_FULL ? full : sample));
}

/** The seed that the environment variable `name` gives, else a new one. It is printed, to repeat a run. */
export function seedOf(name: string, otherwise = Math.floor(Math.random() * 0x7fff_ffff)): number {
  const seed = Number(process.env[name] ?? otherwise);
  console.log(`${name}=${seed}`);
  return seed;
}

/** From one case of a sweep to the next: 1 in a full sweep, otherwise a random step of `oneIn` on average. */
export function stride(oneIn: number, random: Random): number {
  return IS_FULL ? 1 : 1 + random.below(2 * oneIn - 1);
}

/** The cases to try, in their order: all of them in a full sweep, otherwise about one in `oneIn`, with both ends. */
export function swept<T>(cases: readonly T[], oneIn: number, random: Random): T[] {
  const last = cases.length - 1;
  const taken: T[] = [];
  for (let at = 0; at < last; at += stride(oneIn, random)) taken.push(cases[at]!);
  return [...taken, ...cases.slice(-1)];
}
