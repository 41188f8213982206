import { expect, test } from "bun:test";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aboutSetting } from "../../src/config/schema/about-settings.ts";
import { camelCased, FOLLOWED } from "../../src/library/settings.ts";
import { tempDir } from "../support/temp.ts";
import { userFolder } from "./user-program.ts";

const projectDir = join(import.meta.dir, "../..");
const apiDir = join(projectDir, "src/library/api");

/** As strict as a user's compiler can be, the declarations of packages included. */
const STRICT = {
  target: "ESNext",
  lib: ["ESNext"],
  types: ["bun-types"],
  typeRoots: [join(projectDir, "node_modules")],
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  noPropertyAccessFromIndexSignature: true,
  noUnusedLocals: true,
  isolatedModules: true,
  verbatimModuleSyntax: true,
  skipLibCheck: false,
  noEmit: true,
};

const PROGRAM = `
import {
  type FollowEvent, follow, type KeyEntry, readKeys, ReplicaError, restore, type Snapshot, snapshots, verify,
} from "bun-replica";

export async function use(signal: AbortSignal): Promise<void> {
  await using following = follow({ url: "redis://a", dir: "b", snapshotEvery: "1d", keep: 3 }, { signal });
  for await (const event of following) told(event);
  const durable: number | undefined = following.status()?.cursors.durable;
  const all: Snapshot[] = await snapshots("b", { signal });
  const { ok, damages } = await verify("b", { quick: true, onProgress: (_file, bytes) => bytes });
  const { offset } = await restore("b", "c", { at: new Date(), layout: "single" });
  const keys: KeyEntry[] = [];
  for await (const key of readKeys(Bun.file("x").stream(), { match: ["a*"] })) keys.push(key);
  console.log(durable, all.length, ok, damages, offset, keys);
}

function told(event: FollowEvent): string {
  switch (event.type) {
    case "state": return event.state;
    case "transfer": return String(event.readBytes);
    case "moved": return String(event.durable);
    case "generation": return String(event.rdbCrc64);
    case "event": return event.kind + event.text;
    case "dropped": return String(event.count);
  }
}

export function isFull(error: unknown): boolean {
  return error instanceof ReplicaError && error.code === "DISK_FULL";
}

// @ts-expect-error -- an option that doesn't exist
follow({ url: "redis://a", dir: "b", snapshotEvry: "1d" });
// @ts-expect-error -- a value that isn't one
follow({ url: "redis://a", dir: "b", fsync: "sometimes" });
// @ts-expect-error -- the directory is missing
follow({ url: "redis://a" });
// @ts-expect-error -- a code that doesn't exist
new ReplicaError("NO_SUCH_CODE", { message: "" });
`;

test.each([
  ["bundler", "Preserve"],
  ["nodenext", "nodenext"],
])("a user's strict compiler takes the types (%s)", (moduleResolution, module) => {
  using dir = tempDir("types");
  const folder = userFolder(dir);
  symlinkSync(join(projectDir, "node_modules/bun-types"), join(folder, "node_modules/bun-types"));
  writeFileSync(join(folder, "program.ts"), PROGRAM);
  const compilerOptions = { ...STRICT, moduleResolution, module };
  const config = { compilerOptions, include: ["program.ts"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const argv = [process.execPath, "check", "--no-script", "--no-pretty", "-p", folder];
  const { stdout, stderr, exitCode } = Bun.spawnSync(argv, { cwd: folder });
  expect([stdout.toString(), exitCode]).toEqual(["", 0]);
  expect(stderr.toString()).toContain("No type errors");
});

async function optionsBody(): Promise<string> {
  const text = await Bun.file(join(apiDir, "follow.d.ts")).text();
  return /export interface FollowOptions \{([\s\S]*?)\n\}/.exec(text)?.[1] ?? "";
}

test("the types name every setting that following takes, and no other", async () => {
  const body = await optionsBody();
  const named = Array.from(body.matchAll(/^ {2}readonly (\w+)\??:/gm), (match) => match[1]!);
  expect(named.toSorted()).toEqual(["url", ...FOLLOWED.map(camelCased)].toSorted());
});

test("the types say of a setting what its help says", async () => {
  const body = await optionsBody();
  const fields = body.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s+readonly (\w+)\??:/g);
  const said = new Map(
    Array.from(fields, ([, comment = "", name = ""]) => [
      name,
      comment
        .replaceAll(/\n\s*\*/g, " ")
        .replaceAll(/\s+/g, " ")
        .trim(),
    ]),
  );
  // Where these aren't given, something else is done than on the command line.
  const own = ["dir", "port", "http", "password-file"];
  for (const name of FOLLOWED.filter((one) => !own.includes(one))) {
    const { help } = aboutSetting(name);
    const sentence = `${help[0]?.toUpperCase()}${help.slice(1)}.`;
    expect([name, said.get(camelCased(name))]).toEqual([name, sentence]);
  }
});

test("the types name every error code, and no other", async () => {
  const codesIn = async (path: string) => {
    const text = await Bun.file(join(projectDir, path)).text();
    const union = /export type ErrorCode =([\s\S]*?);/.exec(text)?.[1] ?? "";
    return Array.from(union.matchAll(/"([A-Z_]+)"/g), (match) => match[1]!);
  };
  const codes = await codesIn("src/base/errors.ts");
  expect(codes.length).toBeGreaterThan(30);
  expect(await codesIn("src/library/api/common.d.ts")).toEqual(codes);
});

test("the types import nothing but each other", async () => {
  for (const name of new Bun.Glob("*.d.ts").scanSync(apiDir)) {
    const text = await Bun.file(join(apiDir, name)).text();
    const specifiers = Array.from(
      text.matchAll(/^(?:import|export)[^;]*from "([^"]+)"/gm),
      (match) => match[1]!,
    );
    for (const specifier of specifiers) {
      expect([name, specifier]).toEqual([name, expect.stringMatching(/^\.\/\w[\w-]*\.d\.ts$/)]);
    }
  }
});
