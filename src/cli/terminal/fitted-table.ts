import { table } from "./table.ts";

/** What everything that isn't JSON fits into. */
export const PLAIN_COLUMNS = 80;

/** A column: its title, and a cell for each row. */
export interface Column {
  readonly title: string;
  readonly cells: readonly (string | number)[];
}

/**
 * Formats rows as tables of a width, below one another. Nothing is cut: what doesn't fit beside the others goes into another
 * table, and what is too wide for any table goes on in the next line.
 * @param keys the columns that each table begins with.
 * @param groups those that belong together, in their order; a group begins a table.
 * @param columns the width; undefined: no limit.
 */
export function fittedTables(
  keys: readonly Column[],
  groups: readonly (readonly Column[])[],
  columns: number | undefined,
): string {
  const tables = groups.flatMap((group) => packed(keys, group, columns ?? Infinity));
  return tables.map((those) => tableOf([...keys, ...those])).join("\n");
}

const widthOf = ({ title, cells }: Column) =>
  Math.max(...[title, ...cells].map((one) => Bun.stringWidth(String(one))));

/** The columns of a group in tables that fit, each with one of them at least. */
function packed(keys: readonly Column[], group: readonly Column[], columns: number): Column[][] {
  const keyColumns = keys.reduce((sum, key) => sum + widthOf(key) + 2, 0);
  // Of a terminal that is narrower than the keys something must show.
  const room = Math.max(8, columns - keyColumns);
  const tables: Column[][] = [];
  let free = 0;
  for (const column of group.map((one) => (widthOf(one) > room ? wrapped(one, room) : one))) {
    const width = Math.min(widthOf(column), room);
    const last = tables.at(-1);
    if (last === undefined || width + 2 > free) {
      tables.push([column]);
      free = room - width;
    } else {
      last.push(column);
      free -= width + 2;
    }
  }
  return tables;
}

function wrapped({ title, cells }: Column, width: number): Column {
  return { title, cells: cells.map((one) => Bun.wrapAnsi(String(one), width, { hard: true })) };
}

/** A cell of several lines makes its row as high. */
function tableOf(columns: readonly Column[]): string {
  const rows = columns[0]!.cells.flatMap((_, row) => {
    const cells = columns.map(({ cells }) => cells[row]!);
    if (!cells.some((cell) => String(cell).includes("\n"))) return [cells];
    const lines = cells.map((cell) => String(cell).split("\n"));
    const height = Math.max(...lines.map((those) => those.length));
    return Array.from({ length: height }, (_line, at) => lines.map((those) => those[at] ?? ""));
  });
  const right = columns.flatMap(({ cells }, at) =>
    cells.every((cell) => typeof cell === "number") ? [at] : [],
  );
  return table(
    columns.map(({ title }) => title),
    rows,
    right,
  );
}
