import { expect, test } from "bun:test";
import { announcedVersion, formFor, type Release } from "../../src/rdb/releases.ts";

const release = (product: Release["product"], major: number, minor: number) => ({
  product,
  major,
  minor,
});

test.each([
  [release("Valkey", 9, 0), "own", "9.0.0"],
  [release("Valkey", 9, 1), "own", "9.1.0"],
  [release("Valkey", 8, 1), "common", "8.1.0"],
  [release("Valkey", 7, 2), "common", "7.2.0"],
  // A Redis of any version loads what Valkey writes for the last common one.
  [release("Redis", 7, 2), "common", "7.2.0"],
  [release("Redis", 8, 6), "common", "7.2.0"],
  [release("Redis", 7, 0), undefined, "7.2.0"],
] as const)("for %o a Valkey writes its %s form, told of %s", (server, form, version) => {
  expect(formFor(server)).toBe(form!);
  expect(announcedVersion(server)).toBe(version);
});
