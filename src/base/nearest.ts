import { closest, distance } from "fastest-levenshtein";

/**
 * The known name that a person most likely meant: one with typos in up to a third of its letters, or one
 * that was cut short ("password" for "password-file"). Undefined if none is close.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || name.length < 2) return undefined;
  // Capitals are not typos: PORT in a settings file, --PORT.
  const typed = name.toLowerCase();
  const small = known.map((other) => other.toLowerCase());
  const best = closest(typed, small);
  if (distance(typed, best) <= Math.max(name.length < 4 ? 1 : 2, Math.floor(name.length / 3)))
    return known[small.indexOf(best)];
  return known.find((_, index) => name.length >= 3 && small[index]?.startsWith(typed));
}

/** The question that ends an error about an unknown name; empty if no known name is close. */
export function didYouMean(name: string, known: readonly string[], prefix = ""): string {
  const best = nearest(name, known);
  return best === undefined ? "" : `: did you mean ${prefix}${best}?`;
}
