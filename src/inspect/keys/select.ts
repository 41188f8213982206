/** Whoever knows how it works can order values so that each round does little; then sorting is faster. */
const MAX_ROUNDS = 64;

/**
 * Finds the value that would stand at place `n` if the values were sorted, in linear time (Hoare's "Find"). Their order is
 * not what it was afterwards.
 * @param n from 0 to before their number.
 */
export function nthSmallest(values: Float64Array, n: number): number {
  let left = 0;
  let right = values.length - 1;
  for (let round = 0; left < right; round++) {
    if (round === MAX_ROUNDS) {
      values.subarray(left, right + 1).sort();
      break;
    }
    const pivot = middleOf(values[left]!, values[(left + right) >>> 1]!, values[right]!);
    let [low, high] = [left, right];
    while (low <= high) {
      while (values[low]! < pivot) low++;
      while (values[high]! > pivot) high--;
      if (low > high) break;
      const kept = values[low]!;
      values[low++] = values[high]!;
      values[high--] = kept;
    }
    if (n <= high) right = high;
    else if (n >= low) left = low;
    else break;
  }
  return values[n]!;
}

function middleOf(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}
