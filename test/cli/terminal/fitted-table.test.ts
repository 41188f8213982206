import { expect, test } from "bun:test";
import { type Column, fittedTables } from "../../../src/cli/terminal/fitted-table.ts";

const column = (title: string, ...cells: (string | number)[]): Column => ({ title, cells });
const id = column("id", 1, 22);

/** Every character of the cells, whichever lines they are in. */
function charactersOf(text: string): string {
  return [...text.replaceAll(/\s/g, "")].toSorted().join("");
}

test("what fits is one table", () => {
  const groups = [[column("state", "current", "sealed"), column("bytes", 7, 1000)]];
  expect(fittedTables([id], groups, 80)).toBe(
    "id  state    bytes\n 1  current      7\n22  sealed    1000\n",
  );
});

test("each group begins a table, and so does what doesn't fit, with the keys before it", () => {
  const groups = [
    [column("a", "a".repeat(10), "b"), column("b", "c".repeat(10), "d")],
    [column("c", "e", "f")],
  ];
  const [first, second, third, ...rest] = fittedTables([id], groups, 20).split("\n\n");
  expect(first).toBe("id  a\n 1  aaaaaaaaaa\n22  b");
  expect(second).toBe("id  b\n 1  cccccccccc\n22  d");
  expect(third).toBe("id  c\n 1  e\n22  f\n");
  expect(rest).toEqual([]);
});

test("a cell that no table holds goes on in the next line", () => {
  const host = `redis://${"long-name.".repeat(20)}example:6379`;
  const text = fittedTables([id], [[column("primary", host, "redis://h")]], 80);
  for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  expect(charactersOf(text)).toBe(charactersOf(`id primary 1 22 ${host} redis://h`));
});

test.each([20, 40, 80, 120, undefined])("fits into %p columns and loses nothing", (columns) => {
  const words = ["x", "some words in a row", "w".repeat(300), 2 ** 53 - 1, "日本語".repeat(30)];
  const all = words.map((word, at) => column(`title ${at}`, word, at));
  const text = fittedTables([id], [all.slice(0, 2), all.slice(2)], columns);
  const widths = text.split("\n").map((line) => Bun.stringWidth(line));
  expect(Math.max(...widths)).toBeLessThanOrEqual(columns ?? Infinity);
  for (const word of words)
    for (const one of new Set(String(word).replaceAll(" ", ""))) expect(text).toContain(one);
  expect(text.split("w").length - 1).toBeGreaterThanOrEqual(300);
});
