/** The rows with one of each key: the last that was told, in the place of the first. */
export function mergeByKey<T>(rows: readonly T[], keyOf: (row: T) => string): T[] {
  const merged = new Map<string, T>();
  for (const row of rows) merged.set(keyOf(row), row);
  return [...merged.values()];
}
