/** A generator of whole numbers from 0 to below `limit`. */
interface Random {
  below(limit: number): number;
}

/**
 * True in `npm run test:sweeps`, which sets `TEST_SWEEPS=1`: every sweep runs all its cases. In `npm test`
 * each runs a sample of them, to keep that short. CI runs both.
 */
export const IS_FULL = process.env["TEST_SWEEPS"] === "1";

/** Returns the environment variable `name` if it is set, else `full` in a full sweep, else `sample`. */
export function amount(name: string, { sample, full }: { sample: number; full: number }): number {
  return Number(process.env[name] ?? (IS_FULL ? full : sample));
}

/** Returns the seed in the environment variable `name`, else `otherwise`; prints it, so that a run can be repeated. */
export function seedOf(name: string, otherwise = Math.floor(Math.random() * 0x7fff_ffff)): number {
  const seed = Number(process.env[name] ?? otherwise);
  console.log(`${name}=${seed}`);
  return seed;
}

/** Returns the step from one case to the next: 1 in a full sweep, else a random number, `oneIn` on average. */
export function stride(oneIn: number, random: Random): number {
  return IS_FULL ? 1 : 1 + random.below(2 * oneIn - 1);
}

/** Returns the cases to run: all in a full sweep, else about one in `oneIn`, always with the first and the last. */
export function swept<T>(cases: readonly T[], oneIn: number, random: Random): T[] {
  const last = cases.length - 1;
  const taken: T[] = [];
  for (let at = 0; at < last; at += stride(oneIn, random)) taken.push(cases[at]!);
  return [...taken, ...cases.slice(-1)];
}

/** The first and the last of what stands in order, such as servers by their age; all of it in a full sweep. */
export function outermost<T>(all: readonly T[]): readonly T[] {
  return IS_FULL || all.length < 3 ? all : [all[0]!, all.at(-1)!];
}
