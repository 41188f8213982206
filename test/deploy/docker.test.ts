import { describe, expect, test } from "bun:test";
import { validate } from "dockerfile-utils";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseCommandLine } from "../../src/cli/flags.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import about from "../../package.json";

const project = join(import.meta.dir, "../..");
const deployDir = join(project, "deploy");
const dockerfile = await Bun.file(join(deployDir, "Dockerfile")).text();
const ignored = await Bun.file(join(deployDir, "Dockerfile.dockerignore")).text();

/** The instructions of each stage, in order, their continuation lines joined. */
const stages = Array.from(
  dockerfile
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "")
    .split(/^(?=FROM )/m)
    .filter((stage) => stage.startsWith("FROM ")),
  (stage) =>
    stage
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [, name, value] = /^([A-Z]+) (.*)$/.exec(line)!;
        return { name: name!, value: value! };
      }),
);

/** The values of an instruction in the image that comes out, or in that of an earlier stage. */
function valuesOf(name: string, stage = stages.at(-1)!): string[] {
  return stage.filter((instruction) => instruction.name === name).map(({ value }) => value);
}

/** The words of an instruction in the form that needs no shell. */
function words(name: string): string[] {
  const list = /\[.*\]$/.exec(valuesOf(name).join("\n"))?.[0] ?? "none";
  return JSON.parse(list) as string[];
}

const variables = Object.fromEntries(
  valuesOf("ENV").flatMap((line) => line.split(" ").map((pair) => pair.split("=", 2))),
) as Record<string, string>;

describe("the Dockerfile", () => {
  test("passes the linter, which rejects mistakes", () => {
    expect(validate(dockerfile)).toEqual([]);
    expect(validate(dockerfile.replace("EXPOSE", "EXPOSED"))).toHaveLength(1);
    expect(validate(dockerfile.replace("--interval", "--intervall"))).toHaveLength(1);
  });

  test("starts the program with settings that it takes, on the ports that it exposes", () => {
    const program = "/usr/local/bin/replica";
    expect(words("ENTRYPOINT")).toEqual([program]);
    expect(valuesOf("COPY")).toContain(`--from=build /build/dist/replica ${program}`);
    for (const args of [words("CMD"), ["redis://10.0.0.5:6379"]]) {
      const invocation = parseCommandLine(args);
      if (invocation.ask !== "run") throw new Error(`it asks for ${invocation.ask}`);
      expect(invocation.command.name).toBe("follow");
      const settings = loadSettings({ flags: invocation.flags, env: variables });
      expect(valuesOf("VOLUME")).toEqual([settings.dir]);
      const exposed = [settings.port, settings.http?.port].join(" ");
      expect(valuesOf("EXPOSE")).toEqual([exposed]);
    }
  });

  test("checks health with the program itself", () => {
    const [program, ...args] = words("HEALTHCHECK");
    expect(program).toBe(words("ENTRYPOINT")[0]);
    const invocation = parseCommandLine(args);
    if (invocation.ask !== "run") throw new Error(`it asks for ${invocation.ask}`);
    expect(invocation.command.name).toBe("status");
    const { takes } = invocation.command;
    expect(loadSettings({ flags: invocation.flags, env: variables, takes }).port).toBe(6380);
  });

  test("builds with the pinned Bun and an existing script, and runs as an unprivileged user", () => {
    const [build, proof, image] = stages.map((stage) => stage[0]?.value);
    expect(build).toBe(`oven/bun:${about.devDependencies["bun-types"]}-slim AS build`);
    expect(image).toMatch(/^gcr\.io\/distroless\/.*:nonroot$/);
    expect(proof).toBe("${SERVER_IMAGE} AS proof");
    expect(dockerfile).toMatch(/^ARG SERVER_IMAGE=redis:\d+\.\d+\.\d+-\w+$/m);
    const scripts = [...dockerfile.matchAll(/bun run (\w+)/g)].map((match) => match[1]);
    expect(scripts).toEqual(["build"]);
    expect(Object.keys(about.scripts)).toContain("build");
  });

  test("puts the program beside a stock server for proofs, as the same user", () => {
    const proof = stages[1]!;
    for (const name of ["COPY", "ENTRYPOINT"]) {
      expect(valuesOf(name).slice(0, 1)).toEqual(valuesOf(name, proof));
    }
    expect(valuesOf("USER", proof)).toEqual(["65532:65532"]);
  });

  test("copies files that exist, and the ignore file lets through exactly those", () => {
    const copied = stages[0]!
      .filter(({ name }) => name === "COPY")
      .flatMap(({ value }) => value.split(" ").slice(0, -1));
    for (const source of copied) {
      expect([source, existsSync(join(project, source))]).toEqual([source, true]);
    }
    const lines = ignored.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    expect(lines[0]).toBe("*");
    expect(lines.slice(1).toSorted()).toEqual(copied.map((source) => `!${source}`).toSorted());
  });
});
