import { existsSync, readFileSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The real servers that the tests run against, by product and version line. */
export const SERVER_KINDS = ["redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

export type ServerTool =
  "redis-server" | "redis-cli" | "redis-benchmark" | "redis-check-rdb" | "redis-check-aof";

/** What else is fetched into a folder of its own. */
export const OTHER_KINDS = [
  "archive-tools",
  "radosgw",
  "swift",
  "prometheus",
  "redis-exporter",
  "shells",
  "chromium",
  "rclone",
  "awscli",
  "docker-compose",
  "debian-root",
] as const;
export type PackageKind = ServerKind | (typeof OTHER_KINDS)[number];

/** Who needs it: every test run, the sweeps, or a benchmark. Each fetches what stands before it as well. */
export type FetchedFor = "tests" | "sweeps" | "bench";

export interface PackageRecipe {
  readonly kind: PackageKind;
  readonly fetchedFor: FetchedFor;
  /** The Debian suite of the packages, and the required beginning of the version of the first. */
  readonly suite: string;
  readonly packages: readonly string[];
  readonly versionPrefix: string;
  /** The tests can't run without it. */
  readonly required: boolean;
  /** Programs that must print their version before the folder counts. */
  readonly programs: readonly string[];
  /** Programs that print none. Where this is named, all others are removed. */
  readonly alsoKept?: readonly string[];
  /** Folders to keep that are removed else. */
  readonly keptFolders?: readonly string[];
  /**
   * The folder of a program that finds its own files beside what the kernel says runs, which is the loader: so the loader is
   * there too.
   */
  readonly selfFinding?: string;
  /** Written in Python: the folder holds the interpreter as well. */
  readonly isPython?: true;
  /** The folder holds all that the packages do, and dpkg(1) takes it for a system where they are installed. */
  readonly isRoot?: true;
}

export interface ServerRecipe extends PackageRecipe {
  readonly kind: ServerKind;
  readonly fetchedFor: "tests";
  readonly product: "redis" | "valkey";
}

const redis = {
  product: "redis",
  packages: ["redis-server", "redis-tools"],
  programs: ["redis-server", "redis-cli", "redis-benchmark"],
  fetchedFor: "tests",
} as const;
const valkey = {
  product: "valkey",
  packages: ["valkey-server", "valkey-tools"],
  programs: redis.programs.map((program) => program.replace("redis", "valkey")),
  fetchedFor: "tests",
} as const;

export const RECIPES: readonly ServerRecipe[] = [
  {
    kind: "redis-7.0",
    suite: "bookworm",
    ...redis,
    versionPrefix: "7.0.",
    required: true,
  },
  {
    kind: "redis-8.0",
    suite: "trixie",
    ...redis,
    versionPrefix: "8.0.",
    required: false,
  },
  {
    kind: "valkey-8.1",
    suite: "trixie",
    ...valkey,
    versionPrefix: "8.1.",
    required: false,
  },
  {
    kind: "valkey-9",
    suite: "sid",
    ...valkey,
    versionPrefix: "9.",
    required: false,
  },
];

const OTHERS: readonly PackageRecipe[] = [
  {
    kind: "archive-tools",
    suite: "bookworm",
    packages: ["age", "zstd"],
    versionPrefix: "1.",
    required: true,
    programs: ["age", "zstd"],
    fetchedFor: "tests",
  },
  {
    // The older suites' radosgw checks no x-amz-checksum and not all that is signed today.
    kind: "radosgw",
    suite: "sid",
    packages: ["radosgw", "ceph-mon", "ceph-osd", "ceph-base", "ceph-common"],
    versionPrefix: "2",
    required: false,
    programs: ["radosgw", "radosgw-admin", "ceph-mon", "ceph-osd"],
    // The others are half of what Ceph takes on the disk.
    alsoKept: ["monmaptool", "osdmaptool"],
    fetchedFor: "tests",
  },
  {
    kind: "docker-compose",
    suite: "trixie",
    packages: ["docker-compose"],
    versionPrefix: "2.",
    required: false,
    programs: ["docker-compose"],
    fetchedFor: "tests",
  },
  {
    kind: "swift",
    suite: "sid",
    packages: ["python3-swift", "python3"],
    versionPrefix: "2.",
    required: false,
    programs: ["python3"],
    isPython: true,
    fetchedFor: "sweeps",
  },
  {
    kind: "prometheus",
    suite: "trixie",
    packages: ["prometheus", "promtool"],
    versionPrefix: "2.",
    required: false,
    programs: ["prometheus", "promtool"],
    fetchedFor: "sweeps",
  },
  {
    kind: "redis-exporter",
    suite: "trixie",
    packages: ["prometheus-redis-exporter"],
    versionPrefix: "1.",
    required: false,
    programs: ["prometheus-redis-exporter"],
    fetchedFor: "sweeps",
  },
  {
    // What reads the completion scripts and the manual page.
    kind: "shells",
    suite: "trixie",
    packages: ["zsh", "zsh-common", "fish", "fish-common", "mandoc"],
    versionPrefix: "5.9",
    required: false,
    programs: ["zsh", "fish"],
    keptFolders: ["usr/share"],
    fetchedFor: "sweeps",
  },
  {
    // The least of a Debian that a package can be installed into. From trixie on, packages hold usr/ alone.
    kind: "debian-root",
    suite: "trixie",
    packages: [
      "base-files",
      "base-passwd",
      "coreutils",
      "dash",
      "libc-bin",
      "passwd",
      "systemd-standalone-sysusers",
    ],
    versionPrefix: "13",
    required: false,
    programs: ["env", "getent"],
    isRoot: true,
    fetchedFor: "sweeps",
  },
  {
    // 135 MB with its libraries. The full browser has the same engine and twice as many of them.
    kind: "chromium",
    suite: "bookworm",
    packages: ["chromium-headless-shell", "chromium-common", "fonts-dejavu-core"],
    versionPrefix: "1",
    required: false,
    programs: [],
    keptFolders: ["usr/share/fonts"],
    selfFinding: "usr/lib/chromium",
    fetchedFor: "sweeps",
  },
  {
    kind: "rclone",
    suite: "sid",
    packages: ["rclone"],
    versionPrefix: "1.",
    required: false,
    programs: ["rclone"],
    fetchedFor: "bench",
  },
  {
    kind: "awscli",
    suite: "sid",
    packages: ["awscli", "python3"],
    versionPrefix: "2.",
    required: false,
    programs: ["python3", "aws"],
    isPython: true,
    fetchedFor: "bench",
  },
];

/** Whatever can be fetched. */
export const ALL_RECIPES: readonly PackageRecipe[] = [...RECIPES, ...OTHERS];

/** What to do about a missing server. */
export const HOW_TO_GET_SERVERS = "run `bun run pretest` to fetch the servers";
/** The same for what only sweeps and benchmarks need. */
export const HOW_TO_GET_MORE: Readonly<Record<FetchedFor, string>> = {
  tests: HOW_TO_GET_SERVERS,
  sweeps: "run `bun run pretest:sweeps` to fetch it",
  bench: "run `bun run fetch:bench` to fetch it",
};

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

/**
 * The same for any program of the packages.
 * @param python the interpreter, for a program that is a script.
 */
export function programCommand(
  dir: string,
  stamp: Pick<ServerStamp, "loader" | "libraryPaths">,
  program: string,
  python?: string,
): string[] {
  return [
    join(dir, stamp.loader),
    "--library-path",
    stamp.libraryPaths.map((path) => join(dir, path)).join(":"),
    ...(python === undefined ? [] : [join(dir, "usr/bin", python)]),
    join(dir, "usr/bin", program),
  ];
}

/** The variables that an unpacked Python needs to find its own library and no other. */
export function pythonEnvironment(dir: string): Record<string, string> {
  return { PYTHONHOME: join(dir, "usr"), PYTHONDONTWRITEBYTECODE: "1", PYTHONNOUSERSITE: "1" };
}

/**
 * Returns the folder and the stamp of what has been fetched.
 * @throws Error that says how to get it, if it wasn't.
 */
export function fetched<K extends PackageKind>(kind: K): { dir: string; stamp: ServerStamp<K> } {
  const stamp = readStamp(kind);
  if (stamp !== undefined) return { dir: serverDir(kind), stamp };
  const recipe = ALL_RECIPES.find((candidate) => candidate.kind === kind);
  const reason = unavailableReason(kind);
  const why = reason === undefined ? "" : ` (${reason})`;
  throw new Error(`${kind} is not here${why}: ${HOW_TO_GET_MORE[recipe?.fetchedFor ?? "tests"]}`);
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
      // Programs look for these in folders of their own.
      for (const own of ["ceph", "pulseaudio", "nss"]) {
        if (existsSync(join(dir, path, own))) libraryPaths.push(join(path, own));
      }
      const found = readdirSync(join(dir, path)).find((file) => /^ld-linux.*\.so\.\d+$/.test(file));
      if (found !== undefined) loader = join(path, found);
    }
  }
  if (loader === undefined) throw new Error("the packages hold no dynamic loader (ld-linux)");
  return { loader, libraryPaths };
}
