/** Formats rows as columns under titles; columns of numbers are aligned to the right. */
export function table(
  titles: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const texts = rows.map((row) => row.map(String));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...texts.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[], isRight: (column: number) => boolean) =>
    cells
      .map((cell, column) =>
        isRight(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join("  ")
      .trimEnd();
  const isNumber = (column: number) => rows.every((row) => typeof row[column] === "number");
  return [titles, ...texts].map((cells) => `${line(cells, isNumber)}\n`).join("");
}
