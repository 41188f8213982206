import { statSync } from "node:fs";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { filesOf } from "../../src/store/generation/layout.ts";
import { DATABASES } from "../faults/seeded-load.ts";
import type { Random } from "../support/fill.ts";
import { runReplica } from "../support/replica-process.ts";
import { ReplyError } from "../support/resp.ts";
import { bootCopyOfDir, type RealServer } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { type Fleet, MAX_MEMORY } from "./fleet.ts";
import type { Load } from "./load.ts";
import { SHORT_KEYS, SHORT_LIFE_MS } from "./moves.ts";
import type { ComparisonKind } from "./report.ts";

const RESTORE_TIMEOUT_MS = 120_000;

/** The contents of a server: a digest of keys, values and expiries, and what DEBUG DIGEST leaves out. */
interface Contents {
  readonly digest: string;
  readonly functions: string;
  readonly groups: string;
}

/** The primary's contents at an offset, and the replica's generation that held that offset. */
interface Moment {
  readonly offset: number;
  readonly generation: number;
  readonly digest: string;
}

/** The offsets that the replica reports just before it is killed. */
interface Promised {
  readonly replid: string;
  readonly acknowledged: number;
  readonly durable: number;
}

/** Compares a restored copy and the downstreams with the primary, at one offset. */
export class Comparer {
  readonly counts: Record<ComparisonKind, number> = { restored: 0, earlier: 0, downstream: 0 };
  /** How often the files of a killed replica were checked against what it had acknowledged. */
  acknowledgedChecks = 0;
  /** How often a killed replica was seen to resume after what it had acknowledged. */
  resumeChecks = 0;
  /** Differences and missing bytes. */
  readonly losses: string[] = [];
  readonly #fleet: Fleet;
  readonly #load: Load;
  readonly #random: Random;
  readonly #program: string;
  readonly #moments: Moment[] = [];
  /** What the replica had acknowledged before its last kill, and the length of its primary's log then. */
  #resume:
    | { readonly acknowledged: number; readonly primary: RealServer; readonly logged: number }
    | undefined;

  constructor(fleet: Fleet, load: Load, random: Random, dir: TempDir) {
    this.#fleet = fleet;
    this.#load = load;
    this.#random = random;
    this.#program = serverScript(dir, fleet.kind);
  }

  /** Pauses the load and compares a restored copy and the downstreams with the primary. */
  async compareNow(): Promise<void> {
    await this.#load.pause();
    const { server } = this.#fleet.primary;
    try {
      // Nothing may be evicted during the comparison.
      await server.send("CONFIG", "SET", "maxmemory", 0);
      await endShortLives(server);
      await countAnew(server);
      const { offset, contents } = await stillContents(server);
      await this.#fleet.caughtUp(offset);
      const control = await contentsOf(this.#fleet.heir.server);
      const differs = (what: string, other: Contents) => {
        const parts = different(contents, other).map((part) => difference(part, contents, other));
        if (parts.length === 0) return;
        const own = different(contents, control);
        const note =
          own.length === 0 ? "" : ` (the server's own replica differs, too: ${own.join(", ")})`;
        this.losses.push(`${what} at offset ${offset}: ${parts.join("; ")}${note}`);
      };
      const kept = this.#keptFrom(offset);
      const generation = await this.#compareRestored(kept, differs);
      for (const downstream of this.#fleet.downstreams) {
        const name = `the downstream at port ${downstream.port}`;
        differs(name, await contentsOf(downstream));
        const ahead = (await downstream.offset()) - (await server.offset());
        if (ahead > 0) this.losses.push(`${name} counts ${ahead} bytes more than there are`);
        this.counts.downstream++;
      }
      this.#moments.push({ offset: kept, generation, digest: contents.digest });
      await server.send("CONFIG", "SET", "maxmemory", MAX_MEMORY);
    } finally {
      this.#load.resume();
    }
  }

  /** A newer snapshot begins after that offset; only PINGs lie between. */
  #keptFrom(offset: number): number {
    using catalogue = new Catalogue(this.#fleet.dataDir);
    const current = catalogue.generations.find(({ state }) => state === "current");
    return Math.max(offset, current?.baseOffset ?? 0);
  }

  async #compareRestored(
    offset: number,
    differs: (what: string, other: Contents) => void,
  ): Promise<number> {
    using folder = tempDir("restored");
    const target = folder.file("target");
    // Without an offset, everything durable is restored: up to this offset, and a PING or two.
    const where = this.#random.below(2) === 0 ? [] : ["--offset", String(offset)];
    const layout = ["multipart", "single"][this.#random.below(2)]!;
    const words = ["restore", this.#fleet.dataDir, target, ...where, "--layout", layout, "--json"];
    const { exitCode, stdout, stderr } = await runReplica(words, { timeoutMs: RESTORE_TIMEOUT_MS });
    if (exitCode !== 0) throw new Error(`${words.join(" ")} ended with ${exitCode}: ${stderr}`);
    const { generation } = JSON.parse(stdout) as { generation: number };
    await using copy = await bootCopyOfDir(this.#fleet.kind, target, {
      args: ["--appendonly", "yes", "--aof-load-truncated", "no"],
    });
    differs(`${words.slice(3).join(" ")} of generation ${generation}`, await contentsOf(copy));
    this.counts.restored++;
    return generation;
  }

  /** Restores a moment compared earlier, if its generation is still kept. */
  async compareEarlier(): Promise<void> {
    const kept = this.#kept();
    const moments = this.#moments.filter(({ generation }) => kept.has(generation));
    if (moments.length === 0) return;
    const { offset, generation, digest } = moments[this.#random.below(moments.length)]!;
    using folder = tempDir("earlier");
    const words = ["restore", this.#fleet.dataDir, folder.file("target")];
    words.push("--offset", String(offset), "--generation", String(generation));
    words.push("--check", "--digest", "--server", this.#program, "--json");
    const { exitCode, stdout, stderr } = await runReplica(words, { timeoutMs: RESTORE_TIMEOUT_MS });
    if (exitCode !== 0) {
      // Retention may have removed it meanwhile.
      if (!this.#kept().has(generation)) return;
      throw new Error(`${words.join(" ")} ended with ${exitCode}: ${stderr}`);
    }
    const { check } = JSON.parse(stdout) as { check: { digest: string } };
    this.counts.earlier++;
    if (check.digest === digest) return;
    this.losses.push(`offset ${offset} of generation ${generation}, restored later: other data`);
  }

  #kept(): ReadonlySet<number> {
    using catalogue = new Catalogue(this.#fleet.dataDir);
    return new Set(catalogue.generations.map(({ id }) => id));
  }

  /** Runs `replica verify` beside everything else. @throws Error if it finds damage. */
  async verify(): Promise<void> {
    const words = ["verify", this.#fleet.dataDir];
    const { exitCode, stdout, stderr } = await runReplica(words, { timeoutMs: RESTORE_TIMEOUT_MS });
    if (exitCode !== 0) throw new Error(`verify ended with ${exitCode}: ${stdout}${stderr}`);
  }

  /** The offsets acknowledged now; undefined while the replica starts or follows no primary. */
  async promised(): Promise<Promised | undefined> {
    const { server } = this.#fleet.primary;
    const info = await this.#fleet.replicaInfo().catch(() => undefined);
    if (info === undefined) return undefined;
    const primary = await server.info("replication");
    const replid = primary["master_replid"] ?? "";
    const line = Object.values(primary).find((text) =>
      text.includes(`port=${this.#fleet.replicaPort},state=online,`),
    );
    const isFollowed = info.get("state") === "connected" && info.get("master_replid") === replid;
    if (!isFollowed || line === undefined) return undefined;
    const acknowledged = Number(/offset=(\d+)/.exec(line)?.[1]);
    return { replid, acknowledged, durable: Number(info.get("durable_offset")) };
  }

  /** Checks that the files of a killed replica hold what it had acknowledged. */
  lookUp({ replid, acknowledged, durable }: Promised): void {
    using catalogue = new Catalogue(this.#fleet.dataDir);
    const current = catalogue.generations.find(({ state }) => state === "current");
    // Another history may have begun in between.
    if (current?.replicationIds.at(-1)?.replid !== replid) return;
    const logBytes = statSync(filesOf(current).log).size - current.logHeaderBytes;
    const written = current.baseOffset + logBytes;
    this.acknowledgedChecks++;
    if (written < acknowledged) {
      this.losses.push(`acknowledged up to ${acknowledged}, after a kill kept up to ${written}`);
    }
    const { server: primary } = this.#fleet.primary;
    this.#resume = { acknowledged, primary, logged: primary.log().length };
    if (current.durableOffset < durable) {
      this.losses.push(`durable up to ${durable}, after a kill only to ${current.durableOffset}`);
    }
  }

  /** Checks that a killed replica, once it follows again, asked for no byte that it had acknowledged. */
  lookAtResume(): void {
    const { stderr } = this.#fleet.replica;
    const resume = this.#resume;
    if (resume === undefined || !stderr.includes("connected by")) return;
    this.#resume = undefined;
    // After a full resync the offset may be lower.
    if (stderr.includes("connected by full")) return;
    const { acknowledged, primary, logged } = resume;
    const granted = new RegExp(
      `:${this.#fleet.replicaPort} accepted\\. Sending \\d+ bytes of backlog starting from offset (\\d+)`,
    );
    const from = granted.exec(primary.log().slice(logged))?.[1];
    if (from === undefined) return;
    this.resumeChecks++;
    if (Number(from) > acknowledged) return;
    this.losses.push(
      `acknowledged up to ${acknowledged}, after a kill it asked again from ${from}`,
    );
  }
}

/** Waits until all short-lived keys have expired; removes those without an expiry. */
async function endShortLives(server: RealServer): Promise<void> {
  await using client = await server.connect();
  const untilMs = performance.now() + 2 * SHORT_LIFE_MS;
  await until(
    async () => {
      // A server removes an expired key when it is looked up.
      const word = performance.now() > untilMs ? "UNLINK" : "EXISTS";
      const replies = await client.exchange(
        DATABASES.flatMap((database) => [
          ["SELECT", database],
          [word, ...SHORT_KEYS],
          ["EXISTS", ...SHORT_KEYS],
        ]),
      );
      return replies.every((reply, i) => i % 3 !== 2 || reply === 0);
    },
    { what: "the short-lived keys to be gone", everyMs: 50, timeoutMs: 50_000 },
  );
}

/**
 * Has each HyperLogLog counted anew, by all. The count is cached in its value: a PFCOUNT that reaches a server while that is a
 * replica changes it there alone, so after a promotion two stock servers have other bytes for the same registers.
 */
async function countAnew(server: RealServer): Promise<void> {
  await using client = await server.connect();
  for (const database of DATABASES) {
    await client.send("SELECT", database);
    const keys = (await client.send("KEYS", "hll:*")) as string[];
    await client.exchange(
      keys.flatMap((key) => [
        ["PFMERGE", key],
        ["PFCOUNT", key],
      ]),
    );
  }
}

/** The contents of a server to which nobody writes, and an offset at which they were so. */
async function stillContents(server: RealServer): Promise<{ offset: number; contents: Contents }> {
  return await until(
    async () => {
      const before = await contentsOf(server);
      const offset = await server.offset();
      // A PING may move the offset; an eviction would change the contents.
      const contents = await contentsOf(server);
      return different(before, contents).length === 0 ? { offset, contents } : undefined;
    },
    { what: "the primary's data to stand still", timeoutMs: 50_000 },
  );
}

async function contentsOf(server: RealServer): Promise<Contents> {
  await using client = await server.connect();
  const digest = String(await client.send("DEBUG", "DIGEST"));
  const libraries = (await client.send("FUNCTION", "LIST", "WITHCODE")) as unknown[];
  const functions = libraries
    .map((library) => JSON.stringify(library))
    .toSorted()
    .join("\n");
  const groups: unknown[] = [];
  for (const database of DATABASES) {
    await client.send("SELECT", database);
    const streams = ((await client.send("KEYS", "stream:*")) as string[]).toSorted();
    for (const stream of streams)
      groups.push([database, stream, ...(await groupsOf(client, stream))]);
  }
  return { digest, functions, groups: groups.map((group) => JSON.stringify(group)).join("\n") };
}

/** The consumer groups of a stream and their pending entries, which the digest leaves out. */
async function groupsOf(client: Awaited<ReturnType<RealServer["connect"]>>, stream: string) {
  const groups = (await client.send("XINFO", "GROUPS", stream)) as (string | number)[][];
  const told: unknown[] = [];
  for (const fields of groups) {
    const field = (name: string) => fields[fields.indexOf(name) + 1];
    const name = String(field("name"));
    const pending = await client.send("XPENDING", stream, name, "-", "+", 1000);
    if (!Array.isArray(pending) || pending instanceof ReplyError) throw new Error("no array");
    // The idle time changes all the time.
    const entries = pending.map((entry) => (entry as unknown[]).filter((_, i) => i !== 2));
    // Consumers are left out: one that XAUTOCLAIM created without an entry isn't propagated.
    told.push([name, field("last-delivered-id"), entries]);
  }
  return told;
}

/** The parts in which the two differ. */
function different(one: Contents, other: Contents): (keyof Contents)[] {
  return (["digest", "functions", "groups"] as const).filter((part) => one[part] !== other[part]);
}

/** The first line that differs, for the report. */
function difference(part: keyof Contents, one: Contents, other: Contents): string {
  const lines = [one[part].split("\n"), other[part].split("\n")] as const;
  const at = lines[0].findIndex((line, i) => line !== lines[1][i]);
  const [expected, found] = lines.map((all) => (all[at] ?? "").slice(0, 500));
  return `${part}: ${found} instead of ${expected}`;
}
