import { existsSync, readFileSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The real servers that the tests run against, by product and version line. */
export const SERVER_KINDS = ["redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

export type ServerTool =
  "redis-server" | "redis-cli" | "redis-benchmark" | "redis-check-rdb" | "redis-check-aof";

/** What is fetched into a folder of its own: a server, or the programs that read an archive without ours. */
export type PackageKind = ServerKind | "archive-tools";

export interface PackageRecipe {
  readonly kind: PackageKind;
  /** The Debian suite of the packages, and the required beginning of the version of the first. */
  readonly suite: string;
  readonly packages: readonly string[];
  readonly versionPrefix: string;
  /** The tests can't run without it. */
  readonly required: boolean;
}

export interface ServerRecipe extends PackageRecipe {
  readonly kind: ServerKind;
  readonly product: "redis" | "valkey";
}

const redisPackages = ["redis-server", "redis-tools"];
const valkeyPackages = ["valkey-server", "valkey-tools"];

export const RECIPES: readonly ServerRecipe[] = [
  {
    kind: "redis-7.0",
    suite: "bookworm",
    packages: redisPackages,
    versionPrefix: "7.0.",
    product: "redis",
    required: true,
  },
  {
    kind: "redis-8.0",
    suite: "trixie",
    packages: redisPackages,
    versionPrefix: "8.0.",
    product: "redis",
    required: false,
  },
  {
    kind: "valkey-8.1",
    suite: "trixie",
    packages: valkeyPackages,
    versionPrefix: "8.1.",
    product: "valkey",
    required: false,
  },
  {
    kind: "valkey-9",
    suite: "sid",
    packages: valkeyPackages,
    versionPrefix: "9.",
    product: "valkey",
    required: false,
  },
];

export const ARCHIVE_TOOLS: PackageRecipe = {
  kind: "archive-tools",
  suite: "bookworm",
  packages: ["age", "zstd"],
  versionPrefix: "1.",
  required: true,
};

/** What to do about a missing server. */
export const HOW_TO_GET_SERVERS = "run `bun run pretest` to fetch the servers";

/** Increased when the content of a cache folder changes, so that older caches are fetched again. */
const CACHE_FORMAT = 1;

/** The stamp of a complete server folder. */
export interface ServerStamp<K extends PackageKind = ServerKind> {
  readonly kind: K;
  readonly version: string;
  /** Package file names, for the record. */
  readonly packages: readonly string[];
  /** The dynamic loader and the library folders, relative to the folder. */
  readonly loader: string;
  readonly libraryPaths: readonly string[];
}

/** The folder of all servers: `$REPLICA_TEST_SERVERS`, or a folder in the user's cache. */
export function serverCacheDir(): string {
  const configured = process.env["REPLICA_TEST_SERVERS"];
  if (configured !== undefined && configured !== "") return configured;
  const cacheHome = process.env["XDG_CACHE_HOME"];
  return join(
    cacheHome === undefined || cacheHome === "" ? join(homedir(), ".cache") : cacheHome,
    "bun-replica",
    "servers",
  );
}

/** The folder of one server; it exists only when it is complete. */
export function serverDir(kind: PackageKind): string {
  return join(serverCacheDir(), `${kind}-v${CACHE_FORMAT}`);
}

export function unavailableFile(kind: PackageKind): string {
  return join(serverCacheDir(), `${kind}-v${CACHE_FORMAT}.unavailable`);
}

/** The stamp of a server, or `undefined` if it isn't complete. */
export function readStamp<K extends PackageKind>(kind: K): ServerStamp<K> | undefined {
  const path = join(serverDir(kind), "stamp.json");
  if (!existsSync(path)) return undefined;
  return JSON.parse(readFileSync(path, "utf8")) as ServerStamp<K>;
}

/** Why a server could not be fetched; `undefined` if it was, or if nobody has tried. */
export function unavailableReason(kind: PackageKind): string | undefined {
  const path = unavailableFile(kind);
  return existsSync(path) ? readFileSync(path, "utf8").trim() : undefined;
}

/**
 * Returns the command line of a tool. It begins with the loader of the server's own C library, so that
 * the tool runs on a machine with an older one. `dir` has the content of `serverDir(stamp.kind)`.
 */
export function toolCommand(dir: string, stamp: ServerStamp, tool: ServerTool): string[] {
  const recipe = RECIPES.find((candidate) => candidate.kind === stamp.kind);
  if (recipe === undefined) throw new Error(`no such server: ${stamp.kind}`);
  return programCommand(dir, stamp, tool.replace(/^redis/, recipe.product));
}

/** The same for any program of the packages. */
export function programCommand(
  dir: string,
  stamp: Pick<ServerStamp, "loader" | "libraryPaths">,
  program: string,
): string[] {
  return [
    join(dir, stamp.loader),
    "--library-path",
    stamp.libraryPaths.map((path) => join(dir, path)).join(":"),
    join(dir, "usr/bin", program),
  ];
}

/** Finds the loader and the library folders in an unpacked tree; the paths are relative to it. */
export function findLoader(dir: string): { loader: string; libraryPaths: string[] } {
  const libraryPaths: string[] = [];
  let loader: string | undefined;
  for (const top of ["usr/lib", "lib"]) {
    if (!existsSync(join(dir, top))) continue;
    for (const name of readdirSync(join(dir, top)).toSorted()) {
      if (!/-linux-gnu/.test(name)) continue;
      const path = join(top, name);
      libraryPaths.push(path);
      const found = readdirSync(join(dir, path)).find((file) => /^ld-linux.*\.so\.\d+$/.test(file));
      if (found !== undefined) loader = join(path, found);
    }
  }
  if (loader === undefined) throw new Error("the packages hold no dynamic loader (ld-linux)");
  return { loader, libraryPaths };
}
