import { $ } from "bun";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { lockedPackages } from "./locked.ts";
import { TARGETS } from "./targets.ts";

/**
 * Has npm fetch Bun's runtime for a kind of machine, once, into the user's cache.
 * @param name the package: `@oven/bun-linux-aarch64`.
 * @returns the path of its tarball, whose checksum is the one in package-lock.json.
 * @throws Error where npm can't fetch it, or for other bytes.
 */
export async function fetchRuntime(name: string): Promise<string> {
  const locked = (await lockedPackages()).get(`node_modules/${name}`);
  if (locked === undefined) throw new Error(`package-lock.json has no ${name}`);
  const cached = join(cacheDir(), `${name.replace("/", "-")}-${locked.version}.tgz`);
  if (!existsSync(cached)) await fetch(`${name}@${locked.version}`, cached);
  const integrity = `sha512-${new Bun.CryptoHasher("sha512").update(readFileSync(cached)).digest("base64")}`;
  if (integrity === locked.integrity) return cached;
  rmSync(cached);
  throw new Error(
    `${name}@${locked.version} is not what package-lock.json names: it has the checksum ${integrity}. Its copy in the cache is removed; run this again`,
  );
}

/**
 * Fetches a runtime and unpacks it into `into`, a new folder.
 * @returns the path of the runtime.
 * @throws Error as `fetchRuntime` does.
 */
export async function unpackRuntime(name: string, into: string): Promise<string> {
  const tarball = await fetchRuntime(name);
  mkdirSync(into);
  await $`tar -xzf ${tarball} -C ${into} --strip-components=1`.quiet();
  return join(into, "bin/bun");
}

/** Has npm write a package's tarball to `path`. */
async function fetch(spec: string, path: string): Promise<void> {
  mkdirSync(cacheDir(), { recursive: true });
  const folder = mkdtempSync(join(cacheDir(), ".fetching-"));
  try {
    // It asks again by itself, twice.
    const packed = await $`npm pack --loglevel=error --pack-destination ${folder} ${spec}`
      .nothrow()
      .quiet();
    const [name] = readdirSync(folder);
    if (packed.exitCode !== 0 || name === undefined) {
      throw new Error(`npm could not fetch ${spec}: ${packed.stderr.toString().trim()}`);
    }
    renameSync(join(folder, name), path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function cacheDir(): string {
  const home = process.env["XDG_CACHE_HOME"];
  const cacheHome = home === undefined || home === "" ? join(homedir(), ".cache") : home;
  return join(cacheHome, "bun-replica", "runtimes");
}

// Before the sweeps, which run without what this user needs to reach a registry, such as certificates and proxies.
// One that can't be had fails the tests that need it, and no others.
if (import.meta.main) {
  for (const target of TARGETS) {
    await fetchRuntime(target.runtime).catch((error: unknown) => {
      console.error(String(error));
      process.exitCode = 1;
    });
  }
}
