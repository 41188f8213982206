import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import packageJson from "../package.json";
import { folderOf } from "./support/path.ts";
import { runProgram } from "./support/run-program.ts";
import { startServer } from "./support/servers.ts";
import { tempDir } from "./support/temp.ts";
import { IS_FULL } from "./support/sweep.ts";

const projectDir = join(import.meta.dir, "..");
const VERSION = packageJson.devDependencies["bun-types"];

/** What `bin/bun` and `bin/replica` run: on a machine that has only Node, these are there. */
const TOOLS = ["sh", "dirname", "readlink", "head"];

/** Runs a command with this PATH and nothing else in its environment. */
function run(argv: string[], path: string, more: Record<string, string> = {}, cwd = projectDir) {
  const env = { PATH: path, HOME: "/nonexistent", ...more };
  const { stdout, stderr, exitCode } = Bun.spawnSync(argv, { env, cwd });
  return { stdout: stdout.toString(), stderr: stderr.toString(), exitCode };
}

/** A program that answers as Bun of that version would, and says with what it was run. */
function layBun(path: string, version: string): void {
  const answer = `[ "$1" = --version ] && exec /bin/echo ${version}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${answer}\nexec /bin/echo "$0" "$@"\n`);
  chmodSync(path, 0o755);
}

test("bin/bun and the packages of all kinds of machine name one Bun, the one that the types describe", async () => {
  const text = await Bun.file(join(projectDir, "bin/bun")).text();
  expect(/^version=(\S+)$/m.exec(text)?.[1]).toBe(VERSION);
  const { "@oven/bun-linux-x64": one, ...others } = packageJson.optionalDependencies;
  expect(one).toBe(VERSION);
  expect(new Set(Object.values(others))).toEqual(new Set([VERSION]));
  expect(packageJson.engines.bun).toBe(`>=${VERSION}`);
  expect(Bun.version).toBe(VERSION);
});

describe("bin/bun", () => {
  const dir = tempDir("bin");
  const project = dir.file("packages/node_modules/bun-replica");
  const tools = folderOf(dir, TOOLS);
  const bun = join(project, "bin/bun");
  const own = (kind: string) => join(project, `node_modules/@oven/bun-${kind}/bin/bun`);
  beforeAll(() => cpSync(join(projectDir, "bin"), join(project, "bin"), { recursive: true }));
  afterAll(() => dir.remove());

  /** Without Bun: one line, which says what to do. */
  function expectNone(path: string, why: string, todo = "install again without --omit=optional") {
    const { stdout, stderr, exitCode } = run([bun, "x"], path);
    expect([stdout, exitCode]).toEqual(["", 1]);
    expect(stderr).toMatch(/^replica: no Bun to run it with.*\n$/);
    expect(stderr).toContain(why);
    expect(stderr).toEndWith(`${todo}, or put Bun ${VERSION} or later on the PATH\n`);
  }

  test("runs the binary that npm chose for this machine, from any folder", () => {
    layBun(own("linux-x64"), VERSION);
    const ran = `${own("linux-x64")} a b c\n`;
    expect(run([bun, "a b", "c"], tools).stdout).toBe(ran);
    expect(run(["bin/bun", "a b", "c"], tools, {}, project).stdout).toBe(ran);
    expect(run(["sh", "bun", "a b", "c"], tools, {}, join(project, "bin")).stdout).toBe(ran);
    // With this variable, cd prints where it went.
    const odd = { CDPATH: join(project) };
    expect(run(["bin/bun", "a b", "c"], tools, odd, project).stdout).toBe(ran);
  });

  test("passes over a binary that does not run here, and over another version", () => {
    rmSync(join(project, "node_modules"), { recursive: true });
    layBun(own("linux-aarch64"), "1.0.0");
    writeFileSync(own("linux-aarch64"), "#!/no/such/loader\n");
    layBun(own("linux-x64"), "1.0.0");
    layBun(own("linux-x64-musl"), VERSION);
    expect(run([bun, "x"], tools).stdout).toBe(`${own("linux-x64-musl")} x\n`);
    rmSync(dirname(dirname(own("linux-x64-musl"))), { recursive: true });
    expectNone(tools, `${own("linux-x64")} is not Bun ${VERSION} or does not run here (1.0.0)`);
  });

  test("says that a binary was moved away, as the package bun's install script does", () => {
    rmSync(join(project, "node_modules"), { recursive: true });
    layBun(own("linux-x64"), VERSION);
    rmSync(own("linux-x64"));
    expectNone(tools, `${own("linux-x64")} was moved away: remove node_modules first`);
    const moved = join(project, "node_modules/bun/bin/bun.exe");
    layBun(moved, VERSION);
    expect(run([bun, "x"], tools).stdout).toBe(`${moved} x\n`);
  });

  test("finds a binary that is shared with other packages", () => {
    rmSync(join(project, "node_modules"), { recursive: true });
    expectNone(tools, "with. npm", `npm install in ${project} brings it: run that`);
    const shared = dir.file("packages/node_modules/@oven/bun-linux-x64/bin/bun");
    layBun(shared, VERSION);
    expect(run([bun, "x"], tools).stdout).toBe(`${shared} x\n`);
    rmSync(dirname(dirname(shared)), { recursive: true });
  });

  test("takes a Bun from the PATH that is at least as new, and no other", () => {
    mkdirSync(join(project, "node_modules"));
    expectNone(tools, "with. npm");
    mkdirSync(dir.file("old"));
    writeFileSync(dir.file("old/bun"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    expectNone(
      `${dir.file("old")}:${tools}`,
      `${dir.file("old/bun")} is older than Bun ${VERSION}`,
    );
    mkdirSync(dir.file("new"));
    symlinkSync(process.execPath, dir.file("new/bun"));
    const path = `${dir.file("old")}::/nowhere*:${dir.file("new")}:${tools}`;
    expect(run([bun, "-e", "console.log(Bun.version)"], path).stdout).toBe(`${VERSION}\n`);
  });

  test("of two without a Bun on one PATH, neither asks the other without end", () => {
    cpSync(join(projectDir, "bin"), dir.file("second/bin"), { recursive: true });
    expectNone(`${dir.file("second/bin")}:${join(project, "bin")}:${tools}`, "second/bin/bun is");
  });
});

/** A program of a user's that does all that the library can. */
const USER_PROGRAM = `
import { follow, readKeys, readLog, ReplicaError, restore, snapshots, verify } from "bun-replica";

const [url, dir] = process.argv.slice(2) as [string, string];
const following = follow({ url, dir, fsync: "always" });
for await (const event of following) if (event.type === "generation") break;
const refused = await follow({ url, dir }).ended.catch((error: unknown) =>
  error instanceof ReplicaError ? error.code : String(error),
);
const client = new Bun.RedisClient(url);
await client.set("written", dir);
client.close();
const commands: string[] = [];
for await (const entry of readLog(dir, { follow: true })) {
  commands.push(entry.command);
  break;
}
await following.stop();
const { ok, generations } = await verify(dir);
const [kept] = await snapshots(dir);
const { offset } = await restore(dir, dir + "-restored");
let keys = 0;
for await (const key of readKeys(dir + "-restored/appendonlydir/appendonly.aof.1.base.rdb")) keys += key.db + 1;
const isLarge = (generations[0]?.rdb?.bytes ?? 0) > 64 * 1024 * 1024;
const isEnd = offset === kept?.toOffset;
console.log(JSON.stringify({ ok, isLarge, isEnd, keys, commands, refused }));
`;

// To pack takes npm half a minute.
describe.skipIf(!IS_FULL)("what npm packs", () => {
  const dir = tempDir("npm");
  const root = dir.file("lib/node_modules/bun-replica");
  let tarball = "";
  afterAll(() => dir.remove());

  /** As `npm install --global` lays it: without what only development needs, and a link to the command. */
  beforeAll(() => {
    const pack = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", dir.path];
    const cache = { npm_config_cache: dir.file("cache"), npm_config_update_notifier: "false" };
    const packed = run(pack, process.env["PATH"]!, cache);
    expect(packed).toMatchObject({ stderr: "", exitCode: 0 });
    mkdirSync(root, { recursive: true });
    tarball = dir.file(packed.stdout.trim());
    const untar = ["tar", "-xzf", tarball, "--strip-components=1"];
    expect(Bun.spawnSync([...untar, "-C", root]).exitCode).toBe(0);
    // The others come from a registry; what lies under any of them, and isn't packed, would be missing here.
    for (const name of Object.keys(packageJson.dependencies)) {
      if (packageJson.bundleDependencies.includes(name)) continue;
      const from = join(projectDir, "node_modules", name);
      cpSync(from, join(root, "node_modules", name), { recursive: true });
    }
    symlinkSync(join(projectDir, "node_modules/@oven"), join(root, "node_modules/@oven"));
    mkdirSync(dir.file("bin"));
    symlinkSync(
      join("../lib/node_modules/bun-replica", packageJson.bin.replica),
      dir.file("bin/replica"),
    );
    // As other installers do, a link to the link.
    mkdirSync(dir.file("links"));
    symlinkSync(dir.file("bin/replica"), dir.file("links/replica"));
  });

  test("gives a command that runs without Bun on the PATH", () => {
    const tools = folderOf(dir, TOOLS);
    for (const folder of [dir.file("bin"), dir.file("links")]) {
      const started = run(["sh", "-c", "replica --version"], `${folder}:${tools}`, {}, dir.path);
      expect(started).toEqual({
        stdout: `replica ${packageJson.version}\n`,
        stderr: "",
        exitCode: 0,
      });
    }
    const wrong = run([dir.file("bin/replica"), "status", "127.0.0.1:1"], tools);
    expect(wrong.stderr).toBe(
      "replica: nothing answers at 127.0.0.1:1: is replica running there?\n",
    );
    expect(wrong.exitCode).toBe(1);
  });

  /** A registry on this machine, with what lies in node_modules: of other machines' Buns only what they are for. */
  async function registry(): Promise<Bun.Server<undefined>> {
    const lock = await Bun.file(join(projectDir, "package-lock.json")).json();
    const manifestOf = async (name: string) => {
      const file = Bun.file(join(projectDir, "node_modules", name, "package.json"));
      if (await file.exists()) return await file.json();
      const { version, os, cpu, libc } = lock.packages[`node_modules/${name}`];
      return { name, version, os, cpu, libc };
    };
    const server: Bun.Server<undefined> = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: async ({ url }): Promise<Response> => {
        const name = decodeURIComponent(new URL(url).pathname.slice(1));
        if (name.endsWith(".tar")) {
          const from = join(projectDir, "node_modules", name.replace(/\.tar$/, ""));
          const path = dir.file(`${crypto.randomUUID()}.tar`);
          const pack = ["tar", "-cf", path, "--transform=s,^[.],package,", "-C", from, "."];
          expect((await runProgram(pack)).exitCode).toBe(0);
          return new Response(Bun.file(path));
        }
        const manifest = await manifestOf(name);
        const dist = { tarball: `${server.url.href}${name}.tar` };
        const versions = { [manifest.version]: { ...manifest, dist } };
        return Response.json({ name, "dist-tags": { latest: manifest.version }, versions });
      },
    });
    return server;
  }

  test("is installed by npm where there is only Node, and runs; without its Bun it says in one line what to do", async () => {
    const prefix = dir.file("global");
    await using server = await registry();
    const env = {
      PATH: process.env["PATH"]!,
      HOME: dir.path,
      npm_config_registry: server.url.href,
      npm_config_cache: dir.file("cache"),
      npm_config_update_notifier: "false",
      npm_config_audit: "false",
      npm_config_fetch_retries: "0",
    };
    const install = ["npm", "install", "--global", "--prefix", prefix, tarball];
    const installed = await runProgram(install, { cwd: dir.path, env });
    expect(installed).toMatchObject({ exitCode: 0 });
    const tools = folderOf(dir, TOOLS, "tools-beside-node");
    const asked = [join(prefix, "bin/replica"), "--version"];
    const version = `replica ${packageJson.version}\n`;
    expect(run(asked, tools)).toEqual({ stdout: version, stderr: "", exitCode: 0 });
    // As after `npm install --omit=optional`.
    const home = join(prefix, "lib/node_modules/bun-replica");
    rmSync(join(home, "node_modules/@oven"), { recursive: true });
    const todo = `npm brings Bun as an optional package: install again without --omit=optional, or put Bun ${VERSION} or later on the PATH`;
    expect(run(asked, tools)).toEqual({
      stdout: "",
      stderr: `replica: no Bun to run it with. ${todo}\n`,
      exitCode: 1,
    });
  }, 300_000);

  test("takes nothing from the folder where it is started", () => {
    const tools = folderOf(dir, TOOLS, "more-programs");
    mkdirSync(dir.file("odd"));
    writeFileSync(dir.file("odd/.env"), "REPLICA_LOG_LEVEL=nonsense\n");
    writeFileSync(dir.file("odd/bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(dir.file("odd/preload.ts"), "process.exit(7);\n");
    const started = run(
      [dir.file("bin/replica"), "status", "127.0.0.1:1"],
      tools,
      {},
      dir.file("odd"),
    );
    expect(started).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("nothing answers"),
    });
  });

  test("is a library for a user's program, from its sources and compiled", async () => {
    const user = dir.file("lib");
    symlinkSync(join(projectDir, "node_modules/bun-types"), join(user, "node_modules/bun-types"));
    writeFileSync(join(user, "package.json"), '{ "type": "module" }');
    writeFileSync(join(user, "program.ts"), USER_PROGRAM);
    const compilerOptions = {
      target: "ESNext",
      module: "nodenext",
      lib: ["ESNext"],
      types: ["bun-types"],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
    };
    const config = { compilerOptions, include: ["program.ts"] };
    writeFileSync(join(user, "tsconfig.json"), JSON.stringify(config));
    const bun = process.execPath;
    const path = process.env["PATH"]!;
    const checked = run([bun, "check", "--no-script", "--no-pretty"], path, {}, user);
    expect(checked).toMatchObject({ stdout: "", exitCode: 0 });
    // Alone in a folder, so that nothing beside it is found.
    const alone = dir.file("alone/program");
    mkdirSync(dirname(alone));
    const build = [bun, "build", "--compile", "program.ts", "--outfile", alone];
    expect(run(build, path, {}, user)).toMatchObject({ exitCode: 0 });
    await using primary = await startServer("redis-8.0");
    // Larger than what is checked on one core anyway.
    await primary.send("CONFIG", "SET", "rdbcompression", "no");
    await primary.send("DEBUG", "POPULATE", 250_000, "key", 300);
    // The first one's own write is in the second one's snapshot.
    for (const [name, argv, keys] of [
      ["source", [bun, join(user, "program.ts")], 250_000],
      ["compiled", [alone], 250_001],
    ] as const) {
      const child = Bun.spawn([...argv, primary.url(), dir.file(`data-${name}`)], {
        cwd: dir.file("alone"),
        env: { PATH: path, HOME: "/nonexistent" },
        stderr: "pipe",
      });
      const [printed, errors] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      expect([name, errors, await child.exited]).toEqual([name, "", 0]);
      expect(JSON.parse(printed)).toEqual({
        ok: true,
        isLarge: true,
        isEnd: true,
        keys,
        commands: ["SET"],
        refused: "DIRECTORY_IN_USE",
      });
    }
  });

  test("holds every document that its README links to", async () => {
    const readme = await Bun.file(join(root, "README.md")).text();
    const links = Array.from(readme.matchAll(/\]\(([^)#:\s]+)\)/g), (match) => match[1]!);
    expect(links.length).toBeGreaterThan(8);
    const missing: string[] = [];
    for (const link of links) {
      if (!(await Bun.file(join(root, link)).exists()) && !link.endsWith("/")) missing.push(link);
    }
    expect(missing).toEqual([]);
  });
});
