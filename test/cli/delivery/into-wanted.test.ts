import { expect, test } from "bun:test";
import { intoOf } from "../../../src/cli/delivery/into-wanted.ts";
import { usageErrorOf } from "../../support/error-of.ts";
import { tempDir } from "../../support/temp.ts";

const of = (given: Readonly<Record<string, string>>, ...args: string[]) =>
  intoOf(["DIR", ...args], new Map(Object.entries(given)));

test("is nothing without --into, and its other options need it", () => {
  expect(of({ keys: "*" })).toBeUndefined();
  for (const name of ["into-password-file", "replace", "confirm", "dry-run"]) {
    expect(usageErrorOf(() => of({ keys: "*", [name]: "true" })).message).toContain(
      `--${name} goes with --into URL`,
    );
  }
});

test("reads the target and how it is to be written", () => {
  expect(
    of({
      keys: "*",
      into: "redis+cluster://u:p@h:1,i",
      replace: "true",
      confirm: "h:1",
      json: "true",
    }),
  ).toEqual({
    source: {
      kind: "cluster",
      tls: false,
      seeds: [
        { host: "h", port: 1 },
        { host: "i", port: 6379 },
      ],
      username: "u",
      password: "p",
    },
    password: undefined,
    replace: true,
    confirm: "h:1",
    isDryRun: false,
    isJson: true,
  });
});

test("takes the password from a file", async () => {
  using dir = tempDir("into");
  await Bun.write(dir.file("password"), "s3cret\n");
  const wanted = of({ keys: "*", into: "unix:///s", "into-password-file": dir.file("password") });
  expect(wanted?.password?.read()).toBe("s3cret");
  expect(wanted?.password?.from).toBe("--into-password-file");
});

test.each([
  [{ into: "redis://h" }, [], "--into needs --keys PATTERN"],
  [{ into: "redis://h", keys: "*" }, ["TO"], "give --into or the folder TARGET, not both"],
  [{ into: "redis://h", keys: "*", check: "true" }, [], "--check is about the folder TARGET"],
  [{ into: "redis://u:p4ss@h:x", keys: "*" }, [], "the port is not a whole number"],
  [{ into: "redis://h", keys: "*", "into-password-file": "/none" }, [], "--into-password-file"],
] as const)("refuses %j %j", (given, args, message) => {
  const error = usageErrorOf(() => of(given, ...args));
  expect(error.message).toContain(message);
  expect(error.message).not.toContain("p4ss");
});
