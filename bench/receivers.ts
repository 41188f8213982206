import * as fs from "node:fs";
import { join } from "node:path";
import { SERVER_KINDS, type ServerKind } from "../test/support/server-catalog.ts";
import { freePort } from "../test/support/ports.ts";
import { installed, tool } from "../test/support/servers.ts";
import { until } from "../test/support/wait.ts";
import { type Figures, Measured } from "./measure.ts";

const PROJECT = join(import.meta.dir, "..");
const PROGRAM = join(PROJECT, "dist/replica");
const SOURCE = [process.execPath, join(PROJECT, "src/main.ts")];
/** A server's transfer and load may take minutes. */
const SERVER_LIMIT_MS = 600_000;

/** Where a receiver reads from and writes to. */
interface Run {
  /** The primary's port on loopback. */
  readonly port: number;
  /** An empty directory; removed after the run. */
  readonly dir: string;
  /** The same bytes in a file, in the page cache. */
  readonly source: string | undefined;
}

/** Receives a whole snapshot, in its own process. */
export interface Receiver {
  readonly name: string;
  /** Its kind, for the chart. */
  readonly kind: "replica" | "peer" | "floor";
  run(run: Run): Promise<Figures>;
}

function url(port: number): string {
  return `redis://127.0.0.1:${port}`;
}

/** `replica backup`, until it exits. */
export function replicaBackup(binary: "compiled" | "bun run", io: string): Receiver {
  return {
    name: `replica backup --io ${io}, ${binary}`,
    kind: "replica",
    run: ({ port, dir }) =>
      new Measured([
        ...(binary === "compiled" ? [PROGRAM] : SOURCE),
        "backup",
        url(port),
        join(dir, "out.rdb"),
        "--force",
        "--io",
        io,
        "--no-progress",
      ]).ends(),
  };
}

/** `replica follow`, until it logs that it is connected. */
/** @param links how many links the full sync may take; not told where undefined. */
export function replicaFollow(binary: "compiled" | "bun run", io: string, links?: 1 | 2): Receiver {
  const told = links === undefined ? "" : `, ${links === 1 ? "one link" : "two links"}`;
  return {
    name: `replica follow --io ${io}, ${binary}${told}`,
    kind: "replica",
    run: async ({ port, dir }) => {
      const program = binary === "compiled" ? [PROGRAM] : SOURCE;
      const flags = ["--dir", join(dir, "data"), "--port", "0", "--io", io, "--no-progress"];
      if (links !== undefined) flags.push("--sync-links", String(links));
      const follower = new Measured([...program, "follow", url(port), ...flags]);
      await follower.says(/connected by full resync/);
      const figures = follower.figures();
      await follower.kill("SIGTERM");
      return figures;
    },
  };
}

/** The transfer without its checksum, compiled into `dir` like the program, to show the cost of the checksum. */
export function unchecked(dir: string, io: string): Receiver {
  const program = join(dir, "unchecked");
  if (!fs.existsSync(program)) {
    const source = join(import.meta.dir, "receivers/unchecked.ts");
    const flags = ["build", "--compile", "--bytecode", "--minify", source, "--outfile", program];
    const built = Bun.spawnSync([process.execPath, ...flags], { stdout: "ignore" });
    if (built.exitCode !== 0) throw new Error(`bun build: ${built.stderr.toString()}`);
  }
  return {
    name: `replica backup --io ${io}, compiled, without the checksum`,
    kind: "floor",
    run: ({ port, dir }) => new Measured([program, url(port), join(dir, "out.rdb"), io]).ends(),
  };
}

export const redisCli: Receiver = {
  name: "redis-cli --rdb (verifies nothing)",
  kind: "peer",
  run: ({ port, dir }) =>
    new Measured([
      ...tool("redis-7.0", "redis-cli"),
      "-p",
      String(port),
      "--rdb",
      join(dir, "out.rdb"),
    ]).ends(),
};

/** A real server as a replica, until its file is durable and renamed; then it loads the file. */
function realReplica(kind: ServerKind): Receiver {
  return {
    name: `${kind} replica, until its file is durable`,
    kind: "peer",
    run: async ({ port, dir }) => {
      const config = ["--save", "", "--dir", dir, "--port", String(freePort())];
      const server = new Measured(
        [...tool(kind, "redis-server"), ...config, "--replicaof", "127.0.0.1", String(port)],
        dir,
      );
      const wait = { timeoutMs: SERVER_LIMIT_MS, everyMs: 1 };
      try {
        await until(() => fs.existsSync(join(dir, "dump.rdb")), { ...wait, what: "its file" });
        const durable = server.figures();
        await server.says(/Finished with success/);
        const loadSeconds = server.seconds - durable.seconds;
        return { ...durable, more: { loadSeconds } };
      } finally {
        await server.kill("SIGKILL");
      }
    },
  };
}

/** The installed servers, one of each product. */
export function realReplicas(): Receiver[] {
  const kinds = SERVER_KINDS.filter((kind) => installed(kind));
  const newest = kinds.findLast((kind) => kind.startsWith("valkey"));
  return kinds.filter((kind) => kind === "redis-7.0" || kind === newest).map(realReplica);
}

export const dropped: Receiver = {
  name: "Bun, bytes dropped",
  kind: "floor",
  run: ({ port }) =>
    new Measured([
      process.execPath,
      join(import.meta.dir, "receivers/drop.ts"),
      String(port),
    ]).ends(),
};

export const rawDisk: Receiver = {
  name: "the disk alone: dd bs=1M oflag=direct",
  kind: "floor",
  run: ({ dir, source }) => {
    const [from, to] = [`if=${source}`, `of=${join(dir, "out.rdb")}`];
    // conv=fdatasync: until durable, like all the others.
    return new Measured(["dd", from, to, "bs=1M", "oflag=direct", "conv=fdatasync"]).ends();
  },
};

/** Compiles one of the C programs into `dir`; undefined if there is no compiler. */
export function compiledC(dir: string, name: string): string | undefined {
  const compiler = Bun.which("cc");
  if (compiler === null) return undefined;
  const program = join(dir, name);
  const source = join(import.meta.dir, `receivers/${name}.c`);
  const compiled = Bun.spawnSync([compiler, "-O2", "-o", program, source]);
  if (compiled.exitCode !== 0) throw new Error(`cc: ${compiled.stderr.toString()}`);
  return program;
}

/** The C receivers; none if there is no compiler. @param dir where to put the program. */
export function cFloors(dir: string): Receiver[] {
  const program = compiledC(dir, "floor");
  if (program === undefined) return [];
  const floor = (name: string, how: string): Receiver => ({
    name,
    kind: "floor",
    run: ({ port, dir }) => new Measured([program, String(port), join(dir, "out.rdb"), how]).ends(),
  });
  return [floor("C, read and write", "read"), floor("C, splice", "splice")];
}

/** @throws Error if the compiled program is missing, or older than its source. */
export function refuseWithoutProgram(): void {
  const built = fs.statSync(PROGRAM, { throwIfNoEntry: false });
  if (built === undefined) throw new Error(`there is no ${PROGRAM}: run \`bun run build\` first`);
  const sources = fs.readdirSync(join(PROJECT, "src"), { recursive: true, encoding: "utf8" });
  const newer = sources.find(
    (name) => fs.statSync(join(PROJECT, "src", name)).mtimeMs > built.mtimeMs,
  );
  if (newer !== undefined) {
    throw new Error(`${PROGRAM} is older than src/${newer}: run \`bun run build\` first`);
  }
}
