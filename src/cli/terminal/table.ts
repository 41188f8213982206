/**
 * Formats rows as columns under titles; columns of numbers are aligned to the right.
 * @param right further columns that are, by their places from 0 on.
 */
export function table(
  titles: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  right: readonly number[] = [],
): string {
  const texts = rows.map((row) => row.map(String));
  // What a terminal shows of it: without colours, and two columns for some characters.
  const widthOf = (cell: string) => Bun.stringWidth(cell);
  const widths = titles.map((title, column) =>
    Math.max(widthOf(title), ...texts.map((row) => widthOf(row[column]!))),
  );
  const isRight = (column: number) =>
    right.includes(column) || rows.every((row) => typeof row[column] === "number");
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const space = " ".repeat(widths[column]! - widthOf(cell));
        return isRight(column) ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  return [titles, ...texts].map((cells) => `${line(cells)}\n`).join("");
}
