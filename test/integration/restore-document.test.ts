import { beforeAll, afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { runTool, toolCommand } from "../support/archive-tools.ts";
import { endWithProcess, endingWithParent } from "../support/children.ts";
import { freePort } from "../support/ports.ts";
import { programEnvironment, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { RECIPES } from "../support/server-catalog.ts";
import { availableServers, type ServerKind, startServer, tool } from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { compiledProgram } from "../support/compiled.ts";
import { until } from "../support/wait.ts";

const projectDir = join(import.meta.dir, "../..");
const text = await Bun.file(join(projectDir, "docs/RESTORE.md")).text();

/** The commands that RESTORE.md marks as run, by the name it gives them. */
const blocks = new Map(
  Array.from(text.matchAll(/<!-- run: ([\w-]+) -->\n\n```sh\n([\s\S]*?)```/g), (match) => [
    match[1]!,
    match[2]!,
  ]),
);

/** What RESTORE.md writes, and what stands for it here. */
interface Stage {
  readonly data: string;
  readonly archive?: string;
  readonly identity?: string;
  /** The moment before the accident. */
  readonly moment: string;
  /** The port of the primary, where it still runs, and the offset before an accident. */
  readonly primaryPort?: number;
  readonly offset?: string;
  /** The server of the restore; the one at /opt/redis-7.0 is always Redis 7.0. */
  readonly kind?: ServerKind;
}

/** Commands that go on until they are stopped: each has a terminal of its own. */
const STAYS =
  /^(?:\/opt\/redis-7\.0\/bin\/)?redis-server |^replica (?:--offline|restore .* --serve) /;

/** Lines that belong together, and those that stay, in order. */
function steps(block: string): string[] {
  const found: string[] = [];
  for (const line of block.trimEnd().split("\n")) {
    const last = found.at(-1);
    if (last === undefined || STAYS.test(line) || STAYS.test(last)) found.push(line);
    else found[found.length - 1] = `${last}\n${line}`;
  }
  return found;
}

/** Runs a block as it stands, but for folders, ports and the moment; returns what its last step printed. */
async function run(name: string, stage: Stage): Promise<string> {
  const block = blocks.get(name);
  if (block === undefined) throw new Error(`RESTORE.md has no commands named ${name}`);
  using dir = tempDir("document");
  const ports = { "7000": freePort(), "7001": freePort(), "6380": freePort() };
  layPrograms(dir, stage.kind ?? "redis-7.0");
  const here = (script: string) =>
    script
      .replaceAll("/var/lib/replica", stage.data)
      .replaceAll("/mnt/archive", stage.archive ?? "")
      .replaceAll("/etc/replica/identity.txt", stage.identity ?? "")
      .replaceAll("/srv/", `${dir.path}/`)
      .replaceAll("/opt/redis-7.0/bin/redis-server", dir.file("older-server"))
      .replaceAll("2026-01-31T11:59:00Z", stage.moment)
      .replaceAll("130001100", stage.offset ?? "")
      .replaceAll(/(?<=-p |127\.0\.0\.1:)6379\b/g, String(stage.primaryPort))
      .replaceAll(/(?<=-p |--port |--serve |127\.0\.0\.1 )(7000|7001|6380)\b/g, (port) =>
        String(ports[port as keyof typeof ports]),
      );
  const env = { ...programEnvironment(), PATH: `${dir.path}:${process.env["PATH"]}` };
  const running: Bun.Subprocess[] = [];
  // Files, since a pipe's reader in Bun 1.4.5 now and then hears nothing more.
  const spawn = (script: string, output: string) =>
    Bun.spawn(endingWithParent(["sh", "-euc", script]), {
      cwd: dir.path,
      env,
      stdin: "ignore",
      stdout: Bun.file(output),
      stderr: "inherit",
    });
  let printed = "";
  // The empty server that is promoted: the block only speaks to it.
  await using empty =
    name === "promote"
      ? await startServer(stage.kind ?? "redis-7.0", { port: ports["7001"] })
      : undefined;
  void empty;
  try {
    for (const [at, written] of steps(block).entries()) {
      const script = here(written);
      if (STAYS.test(written)) {
        const child = spawn(`exec ${script}`, "/dev/null");
        endWithProcess(child);
        running.push(child);
        await answers(Number(/--(?:port|serve) (\d+)/.exec(script)![1]));
        continue;
      }
      const output = dir.file(`output-${at}`);
      expect([script, await spawn(script, output).exited]).toEqual([script, 0]);
      printed = readFileSync(output, "utf8");
    }
    return printed.trim();
  } finally {
    for (const child of running) child.kill("SIGTERM");
    await Promise.all(running.map(({ exited }) => exited));
  }
}

/** Something answers there, and has loaded all that it loads. */
async function answers(port: number): Promise<void> {
  await until(
    async () => {
      await using client = await RespClient.connect({ port });
      return (await client.send("PING")) === "PONG";
    },
    { what: `an answer at port ${port}` },
  );
}

/** The programs that the commands name, in a folder that comes first on PATH. */
function layPrograms(dir: TempDir, kind: ServerKind): void {
  const quoted = (words: readonly string[]) => words.map((word) => `'${word}'`).join(" ");
  const programs: Record<string, string> = {
    replica: quoted([compiledProgram()]),
    "redis-server": quoted(tool(kind, "redis-server")),
    "redis-cli": quoted(tool(kind, "redis-cli")),
    "older-server": quoted(tool("redis-7.0", "redis-server")),
    zstd: quoted(toolCommand("zstd")),
    age: quoted(toolCommand("age")),
    sqlite3: quoted([process.execPath, join(import.meta.dir, "../support/sqlite3.ts")]),
  };
  for (const [name, words] of Object.entries(programs)) {
    writeFileSync(dir.file(name), `#!/bin/sh\nexec ${words} "$@"\n`);
    chmodSync(dir.file(name), 0o755);
  }
}

/** Where the newest log of an archive in a folder ends; -1 while a generation there lacks its base. */
function endOf(archive: string): number {
  if (!existsSync(archive)) return -1;
  const names = readdirSync(archive, { recursive: true }).map(String);
  const count = (what: RegExp) => names.filter((name) => what.test(name)).length;
  if (count(/^generations\/[^/]+$/) > count(/^generations\/[^/]+\/base\.json$/)) return -1;
  const ends = names.map((name) => /\/log\/\d+-(\d+)-/.exec(name)?.[1]);
  return Math.max(-1, ...ends.filter((to) => to !== undefined).map(Number));
}

describe.each(["redis-7.0", "redis-8.0"] as const)("of %s", (kind) => {
  // Without a server that the setup requires, these fail; the setup says which of the others could not be had.
  const { required } = RECIPES.find((recipe) => recipe.kind === kind)!;
  const isHere = required || availableServers().includes(kind);
  const dir = tempDir("document-data");
  const archive = dir.file("archive");
  const stage = { data: dir.file("data"), archive, moment: "", kind };
  const encrypted = { ...stage, archive: dir.file("encrypted"), identity: dir.file("identity") };

  /** Five keys in the first generation; four more in the second; then FLUSHALL, and one key behind it. */
  beforeAll(async () => {
    if (!isHere) return;
    await using primary = await startServer(kind);
    const archiving = ["--port", "0", "--archive-every", "100ms"];
    const argv = ["follow", primary.url(), "--dir", stage.data, ...archiving];
    await using replica = startReplica([...argv, "--archive", `file://${archive}`]);
    await replica.waitForLine(/connected by full resync/);
    for (let n = 0; n < 4; n++) await primary.cli("set", `first:${n}`, "1");
    await primary.cli("set", "greeting", "hello");
    await primary.acknowledgedBy(1);
    replica.signal("SIGUSR1");
    await replica.waitForLine(/generation 2 replaces generation 1/);
    for (let n = 0; n < 4; n++) await primary.cli("set", `user:42:${n}`, "1", "EX", "100000");
    // Marks are a second apart, and the moment is a whole second.
    await Bun.sleep(2_500);
    stage.moment = new Date(Math.floor(Date.now() / 1000) * 1000).toISOString().replace(".000", "");
    await Bun.sleep(1_500);
    await primary.cli("flushall");
    await primary.cli("set", "after", "1");
    await primary.acknowledgedBy(1);
    const end = await primary.offset();
    await until(() => endOf(archive) >= end, { what: "the end in the archive" });
    expect((await replica.stop()).exitCode).toBe(0);
    // The same data, for another archive.
    const key = runTool("age-keygen", []).toString();
    writeFileSync(encrypted.identity, key);
    const words = ["follow", primary.url(), "--dir", dir.file("other"), ...archiving];
    words.push("--archive", `file://${encrypted.archive}`);
    words.push("--archive-recipient", /age1\w+/.exec(key)![0]);
    await using other = startReplica(words);
    await until(() => endOf(encrypted.archive) >= end, { what: "the end in the other archive" });
    expect((await other.stop()).exitCode).toBe(0);
  });
  afterAll(() => dir.remove());

  test.skipIf(!isHere)("restores the moment before FLUSHALL", async () => {
    expect(await run("moment", stage)).toBe("9");
    expect(await run("serve", stage)).toBe("hello");
  });

  test.skipIf(!isHere)("restores some keys of that moment, and no others", async () => {
    expect(await run("some-keys", stage)).toBe("4");
  });

  test.skipIf(!isHere)("checks all that is kept", async () => {
    expect(await run("check", stage)).toMatch(/\bdb0 +1 +0\n+digest [0-9a-f]{40}$/);
  });

  test.skipIf(!isHere)("promotes a server that was attached to the moment", async () => {
    expect(await run("promote", stage)).toBe("OK\nOK\n9");
  });

  test.skipIf(!isHere)("restores with a stock server and cp alone", async () => {
    expect(await run("stock", stage)).toBe("1");
    expect(await run("stock-durable", stage)).toBe("1");
    expect(await run("stock-moment", stage)).toBe("9");
    expect(await run("single", stage)).toBe("1");
  });

  test.skipIf(!isHere)(
    "restores a generation by its id, and joins it with the log of the next one",
    async () => {
      expect(await run("generation", stage)).toContain("generation 1 up to offset");
      expect(await run("join", stage)).toBe("1");
    },
  );

  test.skipIf(!isHere)("restores without replica.db", async () => {
    using copy = tempDir("document-copy");
    const data = copy.file("data");
    cpSync(stage.data, data, { recursive: true, verbatimSymlinks: true });
    for (const suffix of ["", "-wal", "-shm"])
      rmSync(join(data, `replica.db${suffix}`), { force: true });
    expect(await run("no-database", { ...stage, data })).toBe("1");
  });

  test.skipIf(!isHere)("restores from an archive with zstd and age alone", async () => {
    expect(await run("archive", stage)).toBe("1");
    expect(await run("archive-encrypted", encrypted)).toBe("1");
    const marks = (await run("archive-marks", stage)).split("\n");
    for (const line of marks) {
      expect(JSON.parse(line)).toMatchObject({ from: expect.any(Number), to: expect.any(Number) });
    }
    expect(marks.join("")).toContain(`"timeMs":`);
  });

  test.skipIf(!isHere)("loads into a server that can't read the snapshot", async () => {
    expect(await run("older", stage)).toBe("1");
  });
});

test("every command that RESTORE.md marks as run is run here", async () => {
  const source = await Bun.file(import.meta.path).text();
  const run = [...source.matchAll(/run\("([\w-]+)"/g)].map((match) => match[1]!);
  expect([...blocks.keys()].toSorted()).toEqual([...new Set(run)].toSorted());
});

test("finds deleted keys in the log, and brings them back into the primary", async () => {
  using dir = tempDir("undelete");
  await using primary = await startServer("redis-7.0");
  const data = dir.file("data");
  await using replica = startReplica(["follow", primary.url(), "--dir", data, "--port", "0"]);
  await replica.waitForLine(/connected by full resync/);
  const moment = new Date().toISOString();
  await primary.cli("mset", "user:42:0", "a", "user:42:1", "b", "user:42:2", "c", "other", "d");
  const digest = await primary.digest();
  await primary.cli("del", "user:42:0", "user:42:1", "user:42:2");
  await primary.cli("set", "later", "e");
  await primary.acknowledgedBy(1);
  const stage = { data, moment, primaryPort: primary.port };
  const line = /^\S+Z +(\d+) +0 +DEL user:42:0 user:42:1 user:42:2$/m;
  const [, offset] = await until(async () => line.exec(await run("find-deletes", stage)), {
    what: "the DEL to be durable",
  });
  const printed = await run("undelete", { ...stage, offset: offset! });
  expect(printed).toContain("3 keys would be restored");
  expect(printed).toMatch(/: 3 keys restored .*\n3$/);
  await primary.cli("del", "later");
  expect(await primary.digest()).toBe(digest);
}, 150_000);
