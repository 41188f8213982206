import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import bunLock from "../bun.lock";
import packageJson from "../package.json";
import { tempDir } from "./support/temp.ts";
import { IS_FULL } from "./support/sweep.ts";

const projectDir = join(import.meta.dir, "..");
const packages = {
  ...packageJson.dependencies,
  ...packageJson.devDependencies,
  ...packageJson.optionalDependencies,
};

/** `name@version` of every package that a lock file names, and its checksum. */
type Locked = Map<string, string>;

const bunLocked: Locked = new Map(
  Object.values(bunLock.packages).map((entry) => [String(entry[0]), String(entry.at(-1))]),
);

/** package-lock.json, which every npm obeys. */
interface NpmLock {
  readonly packages: Record<
    string,
    {
      version: string;
      integrity?: string;
      dependencies?: Record<string, string>;
    }
  >;
}

async function readNpmLock(): Promise<NpmLock> {
  return Bun.file(join(projectDir, "package-lock.json")).json();
}

/** The packages of npm's lock: path, name, and what is locked. The first entry is the project's own. */
function entriesOf({ packages }: NpmLock) {
  return Object.entries(packages)
    .filter(([path]) => path !== "")
    .map(([path, entry]) => ({ path, name: path.split("node_modules/").at(-1)!, entry }));
}

test("every package is pinned, and both lock files hold the same checksum of each that may come", async () => {
  for (const [name, version] of Object.entries(packages)) {
    expect([name, version]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+$/)]);
    expect([name, bunLocked.has(`${name}@${version}`)]).toEqual([name, true]);
  }
  const npmLock = await readNpmLock();
  const entries = entriesOf(npmLock);
  const npmLocked: Locked = new Map(
    entries.map(({ name, entry }) => [`${name}@${entry.version}`, String(entry.integrity)]),
  );
  expect(npmLocked).toEqual(bunLocked);
  for (const checksum of bunLocked.values()) expect(checksum).toMatch(/^sha512-[\w+/]{86}==$/);
  // The address of a registry in it would be asked in place of the user's own.
  expect(JSON.stringify(npmLock)).not.toContain("://registry");
  const { version, dependencies, devDependencies, optionalDependencies } = packageJson;
  expect(npmLock.packages[""]).toMatchObject({
    version,
    dependencies,
    devDependencies,
    optionalDependencies,
  });
});

test("what npm packs brings the packages under its direct ones along: a lock file is not packed", async () => {
  const { packages: locked } = await readNpmLock();
  const floating = Object.keys(packageJson.dependencies).filter(
    (name) => Object.keys(locked[`node_modules/${name}`]?.dependencies ?? {}).length > 0,
  );
  expect(floating).toEqual(packageJson.bundleDependencies);
});

describe("npm install, of a registry on this machine", () => {
  const dir = tempDir("lock");
  /** What the registry has of each package: one with nothing in it. */
  const tarballs = new Map<string, Uint8Array>();
  const registry = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => serve(request),
  });
  afterAll(async () => {
    await registry.stop(true);
    dir.remove();
  });

  function serve(request: Request): Response {
    const { pathname } = new URL(request.url);
    const name = decodeURIComponent(pathname.slice(1));
    const tarball = tarballs.get(name.replace(/\.tgz$/, ""));
    if (tarball === undefined) return new Response("", { status: 404 });
    if (name.endsWith(".tgz")) return new Response(tarball);
    const { version } = packed.find((one) => one.name === name)!.entry;
    const dist = { tarball: `${registry.url.href}${name}.tgz`, integrity: checksumOf(tarball) };
    return Response.json({
      name,
      "dist-tags": { latest: version },
      versions: { [version]: { name, version, dist } },
    });
  }

  function checksumOf(tarball: Uint8Array): string {
    return `sha512-${new Bun.CryptoHasher("sha512").update(tarball).digest("base64")}`;
  }

  let packed: ReturnType<typeof entriesOf> = [];
  let npmLock: NpmLock;
  beforeAll(async () => {
    npmLock = await readNpmLock();
    packed = entriesOf(npmLock);
    for (const { name, entry } of packed) {
      const manifest = JSON.stringify({ name, version: entry.version });
      const archive = new Bun.Archive({ "package/package.json": manifest }, { compress: "gzip" });
      tarballs.set(name, await archive.bytes());
    }
  });

  /** Installs this project with this lock in a folder of its own. */
  async function install(lock: NpmLock) {
    const place = dir.file(`project-${crypto.randomUUID()}`);
    for (const file of ["package.json", ".npmrc"])
      cpSync(join(projectDir, file), join(place, file));
    await Bun.write(join(place, "package-lock.json"), JSON.stringify(lock));
    const env = {
      PATH: process.env["PATH"]!,
      HOME: dir.path,
      npm_config_registry: registry.url.href,
      npm_config_cache: join(place, ".cache"),
      npm_config_update_notifier: "false",
      npm_config_audit: "false",
      npm_config_fetch_retries: "0",
    };
    const npm = Bun.spawn(["npm", "install"], { cwd: place, env, stdout: "pipe", stderr: "pipe" });
    const [said, exitCode] = await Promise.all([new Response(npm.stderr).text(), npm.exited]);
    const has = (name: string) => existsSync(join(place, "node_modules", name, "package.json"));
    return { said, exitCode, has };
  }

  /** The lock, with the checksums of what the registry has, but for one character of one of them. */
  function lockFor(changed?: string): NpmLock {
    const lock = structuredClone(npmLock);
    for (const { name, entry } of entriesOf(lock)) {
      const right = checksumOf(tarballs.get(name)!);
      const at = "sha512-".length;
      const other = right[at] === "A" ? "B" : "A";
      entry.integrity = name === changed ? right.slice(0, at) + other + right.slice(at + 1) : right;
    }
    return lock;
  }

  const binary = `@oven/bun-${process.platform}-${process.arch === "arm64" ? "aarch64" : "x64"}`;

  test("takes what has the locked checksums", async () => {
    const { said, exitCode, has } = await install(lockFor());
    expect({ said, exitCode }).toMatchObject({ exitCode: 0 });
    expect(["zod", "tdigest", binary].map((name) => has(name))).toEqual([true, true, true]);
  });

  // Of a package that another brings, and of a direct one.
  test.each(IS_FULL ? ["tdigest", "zod"] : ["tdigest"])(
    "fails where one character of %s's differs",
    async (name) => {
      const { said, exitCode } = await install(lockFor(name));
      expect(exitCode).not.toBe(0);
      expect(said).toContain("EINTEGRITY");
    },
  );

  test("fails where the registry has other bytes than the project's own lock says", async () => {
    const { said, exitCode } = await install(npmLock);
    expect(exitCode).not.toBe(0);
    expect(said).toContain("EINTEGRITY");
  });

  test("leaves out a Bun whose checksum differs: it is never run", async () => {
    const { has } = await install(lockFor(binary));
    expect([has("zod"), has(binary)]).toEqual([true, false]);
  });
});

test("no package has an install script: npm may block them", async () => {
  const manifests = ["*/package.json", "@*/*/package.json"].flatMap((pattern) => [
    ...new Bun.Glob(pattern).scanSync({ cwd: join(projectDir, "node_modules"), absolute: true }),
  ]);
  expect(manifests.length).toBeGreaterThan(20);
  const withScripts: string[] = [];
  for (const path of manifests) {
    const { name, scripts = {} } = await Bun.file(path).json();
    const isScript = ["preinstall", "install", "postinstall"].some((script) => script in scripts);
    if (isScript) withScripts.push(name);
  }
  expect(withScripts).toEqual([]);
});

test("the sources import nothing but Bun's own modules and what comes with the program", async () => {
  const imported = new Set<string>();
  for (const path of new Bun.Glob("src/**/*.ts").scanSync({ cwd: projectDir, absolute: true })) {
    const text = (await Bun.file(path).text()).replace(/^#!.*/, "");
    const found = new Bun.Transpiler({ loader: "ts" }).scanImports(text);
    for (const { path: name } of found) {
      if (/^(?:\.|node:|bun(?::|$)|#browser\/)/.test(name)) continue;
      // An import of package.json: a file of that package, as text.
      if (name.startsWith("#")) imported.add(name.slice(1).split("/", 1).join());
      else imported.add(name.split("/", name.startsWith("@") ? 2 : 1).join("/"));
    }
  }
  expect([...imported].toSorted()).toEqual(Object.keys(packageJson.dependencies).toSorted());
});
