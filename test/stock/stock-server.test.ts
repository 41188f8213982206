import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { type ErrorCode, ReplicaError } from "../../src/base/errors.ts";
import { findServer } from "../../src/stock/server-program.ts";
import { makePrivateDirectory } from "../../src/stock/private-directory.ts";
import { checkRestored, serveRestored } from "../../src/stock/stock-server.ts";
import { lockDirectory } from "../../src/store/generation/lock.ts";
import type { Layout } from "../../src/store/restore/restore.ts";
import { endingWithParent, endWithProcess } from "../support/children.ts";
import { fillAllTypes } from "../support/fill.ts";
import { folderOf } from "../support/path.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { encodeCommand, ReplyError } from "../support/resp.ts";
import { availableServers, type ServerKind, startServer } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import {
  fingerprint,
  layRestored,
  ownParts,
  type Parts,
  processesIn,
  serverScript,
  SHORT_VALUE,
} from "../support/stock.ts";
import { tempDir } from "../support/temp.ts";
import { PATIENCE_MS, until, within } from "../support/wait.ts";

const LAYOUTS: Layout[] = ["multipart", "single"];
const never = new AbortController().signal;
const caught = (error: unknown): unknown => error;

function expectError(error: unknown, code: ErrorCode, said: RegExp | string): void {
  if (!(error instanceof ReplicaError)) throw new Error(`not a ReplicaError: ${error}`);
  expect(error.message).toMatch(said);
  expect(error.code).toBe(code);
  expect(error.message).not.toMatch(/\n|overcommit|SYNC/);
}

/** Ends a server that is left over when a test fails. */
function stopper() {
  const controller = new AbortController();
  const stop = () => controller.abort(new ReplicaError("STOPPED", { message: "stopped" }));
  return { signal: controller.signal, stop, [Symbol.dispose]: stop };
}

/** Where the servers' directories go, so that leftovers are noticed. */
const temporary = tempDir("stock");
const tmpBefore = process.env["TMPDIR"];
beforeAll(() => {
  process.env["TMPDIR"] = temporary.path;
  process.env["REPLICA_PASSWORD"] = "not for others";
});
afterAll(() => {
  if (tmpBefore === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = tmpBefore;
  delete process.env["REPLICA_PASSWORD"];
  temporary.remove();
});

const stockFolders = (): string[] =>
  fs.readdirSync(temporary.path).filter((name) => name.startsWith("replica-stock-"));

function expectNothingLeft(): void {
  expect(stockFolders()).toEqual([]);
  expect(processesIn(`${temporary.path}/replica-stock-`)).toEqual([]);
}

const partsOf = new Map<ServerKind, ReturnType<typeof ownParts>>();
/** Files written by a server of that kind; made once. */
function madeBy(kind: ServerKind): ReturnType<typeof ownParts> {
  const made = partsOf.get(kind) ?? ownParts(kind);
  partsOf.set(kind, made);
  return made;
}

const keysOf = (databases: readonly { database: number; keys: number }[]) =>
  Object.fromEntries(databases.map(({ database, keys }) => [database, keys]));

describe.each(outermost(availableServers()))("%s", (kind) => {
  test.each(LAYOUTS)("loads its own file, and leaves it unchanged: %s", async (layout) => {
    using dir = tempDir("stock");
    const { digest, keys, ...parts } = await madeBy(kind);
    const restored = layRestored(dir.file("to"), layout, parts);
    const before = fingerprint(restored.dir);
    const server = await findServer(serverScript(dir, kind));
    expect(`${server.product.toLowerCase()}-${server.version}`).toStartWith(kind);
    const result = await checkRestored(restored, server, { digest: true, signal: never });
    expect(keysOf(result.databases)).toEqual(keys);
    expect(result.digest).toBe(digest);
    expect(result.databases[0]?.expires).toBeGreaterThan(0);
    expect(fingerprint(restored.dir)).toEqual(before);
    expectNothingLeft();
  });

  test("loads what replica restore writes, in both layouts", async () => {
    using dir = tempDir("stock");
    await using primary = await startServer(kind, { args: ["--databases", "300"] });
    // A database beyond the default 16, in the snapshot and in the log.
    await fillAllTypes(primary, { keys: 400, databases: [0, 1, 200] });
    const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
    await using replica = startReplica(argv);
    await replica.waitForLine(/connected by full resync/);
    await fillAllTypes(primary, { keys: 400, databases: [2, 201], seed: 2 });
    await primary.acknowledgedBy(1);
    const digest = await primary.digest();
    expect((await replica.stop()).exitCode).toBe(0);
    const server = await findServer(serverScript(dir, kind));
    for (const layout of LAYOUTS) {
      const restored = { dir: dir.file(layout), layout };
      const argv = ["restore", dir.file("data"), restored.dir, "--layout", layout];
      expect(await runReplica(argv)).toMatchObject({ exitCode: 0 });
      const result = await checkRestored(restored, server, { digest: true, signal: never });
      expect(result.digest).toBe(digest);
      expect(keysOf(result.databases)).toEqual(await primary.keysPerDatabase());
    }
    expectNothingLeft();
  });

  test.each(LAYOUTS)("reports damaged files, and leaves them unchanged: %s", async (layout) => {
    using dir = tempDir("stock");
    const { base, log } = await madeBy(kind);
    const flipped = Buffer.from(base);
    const at = flipped.indexOf(SHORT_VALUE);
    expect(at).toBeGreaterThan(0);
    flipped[at]! ^= 1;
    const damaged: [Parts, RegExp][] = [
      [{ base: flipped, log }, /"Wrong RDB checksum expected/],
      [{ base, log: log.subarray(0, -5) }, /"Unexpected end of file reading the append only file/],
    ];
    const server = await findServer(serverScript(dir, kind));
    for (const [place, [parts, said]] of damaged.entries()) {
      const restored = layRestored(dir.file(String(place)), layout, parts);
      const before = fingerprint(restored.dir);
      const error = await checkRestored(restored, server, { digest: false, signal: never }).catch(
        caught,
      );
      expectError(error, "RESTORE_UNUSABLE", said);
      expectError(error, "RESTORE_UNUSABLE", restored.dir);
      expect(fingerprint(restored.dir)).toEqual(before);
    }
    expectNothingLeft();
  });

  test("an abort during a load ends the server and removes its directory", async () => {
    using dir = tempDir("stock");
    const restored = layRestored(dir.file("to"), "multipart", await madeBy(kind));
    const more = "--key-load-delay 20000 --loading-process-events-interval-bytes 1024";
    const server = await findServer(serverScript(dir, kind, { more }));
    const stopping = new AbortController();
    const reason = new ReplicaError("STOPPED", { message: "stopped" });
    const seen: [number, number][] = [];
    const error = await checkRestored(restored, server, {
      digest: false,
      signal: stopping.signal,
      onProgress: (loadedBytes, totalBytes) => {
        seen.push([loadedBytes, totalBytes]);
        if (loadedBytes === 0) return;
        expect(stockFolders()).toHaveLength(1);
        stopping.abort(reason);
      },
    }).catch(caught);
    expect(error).toBe(reason);
    const [loadedBytes, totalBytes] = seen.at(-1)!;
    expect(loadedBytes).toBeLessThan(totalBytes);
    const { base, log } = await madeBy(kind);
    expect(totalBytes).toBe(base.length + log.length);
    expectNothingLeft();
  });

  test.each(LAYOUTS)("serves read-only until stopped: %s", async (layout) => {
    using dir = tempDir("stock");
    const { base, log, keys } = await madeBy(kind);
    const past = Date.now() - 60_000;
    const expired = encodeCommand(["SET", "expired", "x", "PXAT", past]);
    const select = encodeCommand(["SELECT", "0"]);
    const restored = layRestored(dir.file("to"), layout, {
      base,
      log: Buffer.concat([log, select, expired]),
    });
    const before = fingerprint(restored.dir);
    const server = await findServer(serverScript(dir, kind));
    using stopping = stopper();
    const served = await serveRestored(restored, server, { port: 0, signal: stopping.signal });
    await using client = await RespClient.connect({ port: served.port });
    expect(await client.send("GET", "short")).toBe(SHORT_VALUE);
    expect(await client.send("GET", "by-script")).toBe("x");
    expect(await client.send("EVAL", "return redis.call('GET', KEYS[1])", 1, "short")).toBe(
      SHORT_VALUE,
    );
    // The key is there, as of that moment, but hidden because it has expired since.
    expect(String(await client.send("INFO", "keyspace"))).toContain(`db0:keys=${keys[0]! + 1},`);
    expect(await client.send("GET", "expired")).toBeNull();

    const readOnly = /^READONLY/;
    const denied = /^NOPERM/;
    const refused: [RegExp, ...string[]][] = [
      [readOnly, "SET", "short", "x"],
      [readOnly, "FLUSHALL"],
      [readOnly, "EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "short"],
      [readOnly, "FUNCTION", "FLUSH"],
      [readOnly, "FCALL", "filled_get", "1", "short"],
      [denied, "REPLICAOF", "NO", "ONE"],
      [denied, "CONFIG", "SET", "replica-read-only", "no"],
      [denied, "DEBUG", "DIGEST"],
      [denied, "ACL", "SETUSER", "default", "+@all"],
      [denied, "BGREWRITEAOF"],
      [denied, "SHUTDOWN"],
    ];
    for (const [why, ...words] of refused) {
      const [reply] = await client.exchange([words]);
      expect(reply, words.join(" ")).toBeInstanceOf(ReplyError);
      expect(String((reply as ReplyError).message)).toMatch(why);
    }
    const transaction = await client.exchange([["MULTI"], ["SET", "short", "x"], ["EXEC"]]);
    expect(transaction.map(String).join()).toMatch(/OK,Error: READONLY.*,Error: EXECABORT/);
    expect(await client.send("GET", "short")).toBe(SHORT_VALUE);

    const [pid] = processesIn(`${temporary.path}/replica-stock-`);
    expect(fs.readFileSync(`/proc/${pid}/environ`, "latin1")).not.toContain("not for others");
    stopping.stop();
    await within(PATIENCE_MS, "the server to end", served.ended);
    expectNothingLeft();
    expect(await RespClient.connect({ port: served.port }).catch(caught)).toBeInstanceOf(Error);
    expect(fingerprint(restored.dir)).toEqual(before);
  });

  test("reports a port in use", async () => {
    using dir = tempDir("stock");
    const restored = layRestored(dir.file("to"), "single", await madeBy(kind));
    const server = await findServer(serverScript(dir, kind));
    const holder = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: () => undefined },
    });
    const error = await serveRestored(restored, server, { port: holder.port, signal: never }).catch(
      caught,
    );
    holder.stop(true);
    expectError(error, "PORT_IN_USE", `127.0.0.1:${holder.port}`);
    expectNothingLeft();
  });

  test("reports a server that ends by itself", async () => {
    using dir = tempDir("stock");
    const restored = layRestored(dir.file("to"), "multipart", await madeBy(kind));
    const server = await findServer(serverScript(dir, kind));
    using stopping = stopper();
    const served = await serveRestored(restored, server, { port: 0, signal: stopping.signal });
    const ended = served.ended.catch(caught);
    const [pid] = processesIn(`${temporary.path}/replica-stock-`);
    process.kill(pid!, "SIGTERM");
    expectError(await ended, "SERVER_FAILED", /ended by itself.*exit code 0/);
    expectNothingLeft();
  });
});

test.each(outermost(availableServers().filter((kind) => kind !== "redis-7.0")))(
  "an older server than %s says that it is one",
  async (kind) => {
    using dir = tempDir("stock");
    const server = await findServer(serverScript(dir, "redis-7.0"));
    for (const layout of LAYOUTS) {
      const restored = layRestored(dir.file(layout), layout, await madeBy(kind));
      const error = await checkRestored(restored, server, { digest: false, signal: never }).catch(
        caught,
      );
      expectError(error, "RESTORE_UNUSABLE", /^Redis 7\.0\.\d+ can't read .* older .* --server$/);
    }
    expectNothingLeft();
  },
);

test.each(outermost(availableServers()))(
  "%s: refuses what the server passed over, and went on after",
  async (kind) => {
    using dir = tempDir("stock");
    const { digest: _, keys: _keys, ...parts } = await madeBy(kind);
    const passedOver = encodeCommand(["SELECT", "10000"]);
    const log = Buffer.concat([parts.log, passedOver, encodeCommand(["SET", "key", "value"])]);
    const restored = layRestored(dir.file("to"), "multipart", { ...parts, log });
    const server = await findServer(serverScript(dir, kind));
    const said = /passed over a command while it loaded, .*: .*out of range.* \(SELECT\); give/;
    const checked = checkRestored(restored, server, { digest: false, signal: never });
    expectError(await checked.catch(caught), "RESTORE_UNUSABLE", said);
    const served = serveRestored(restored, server, { port: 0, signal: never });
    expectError(await served.catch(caught), "RESTORE_UNUSABLE", said);
    expectNothingLeft();
  },
  150_000,
);

test.each(outermost(availableServers()))(
  "%s: a script that failed in a transaction did the same at the primary, and is not refused",
  async (kind) => {
    using dir = tempDir("stock");
    const { digest: _, keys, ...parts } = await madeBy(kind);
    const failing = "redis.call('SET', KEYS[1], 'x') return redis.call('INCR', KEYS[1])";
    const more = [["SELECT", "15"], ["MULTI"], ["EVAL", failing, "1", "key"], ["EXEC"]];
    const log = Buffer.concat([parts.log, ...more.map((words) => encodeCommand(words))]);
    const restored = layRestored(dir.file("to"), "multipart", { ...parts, log });
    const server = await findServer(serverScript(dir, kind));
    const { databases } = await checkRestored(restored, server, { digest: false, signal: never });
    expect(keysOf(databases)).toEqual({ ...keys, 15: 1 });
  },
  150_000,
);

describe("a server older than Redis 7", () => {
  test("loads a copy of the single file, but no append-only directory", async () => {
    using dir = tempDir("stock");
    const { digest, keys: _keys, ...parts } = await madeBy("redis-7.0");
    const server = await findServer(serverScript(dir, "redis-7.0", { version: "6.2.14" }));
    expect(server).toMatchObject({ product: "Redis", version: "6.2.14", major: 6, minor: 2 });
    const single = layRestored(dir.file("single"), "single", parts);
    const before = fingerprint(single.dir);
    // The newer server behind that name moves its copy of the file into a directory.
    const more = { name: "with-debug", version: "6.2.14", more: "--enable-debug-command yes" };
    const debugging = await findServer(serverScript(dir, "redis-7.0", more));
    const result = await checkRestored(single, debugging, { digest: true, signal: never });
    expect(result.digest).toBe(digest);
    expect(fingerprint(single.dir)).toEqual(before);

    const multipart = layRestored(dir.file("multipart"), "multipart", parts);
    const error = await checkRestored(multipart, server, { digest: false, signal: never }).catch(
      caught,
    );
    expectError(error, "USAGE", "restore with --layout single");

    const nothing = { dir: dir.file("nothing"), layout: "single" } as const;
    const missing = await checkRestored(nothing, server, { digest: false, signal: never }).catch(
      caught,
    );
    expectError(missing, "DISK_FAILED", dir.file("nothing", "appendonly.aof"));
    expectNothingLeft();
  });

  test("can read neither layout before Redis 4", async () => {
    using dir = tempDir("stock");
    const server = await findServer(serverScript(dir, "redis-7.0", { version: "3.2.12" }));
    const single = layRestored(dir.file("single"), "single", await madeBy("redis-7.0"));
    const error = await checkRestored(single, server, { digest: false, signal: never }).catch(
      caught,
    );
    expectError(error, "USAGE", "Redis 4 or later");
  });
});

describe("does not blame the files for what fails before they are loaded", () => {
  test("a server that rejects the settings", async () => {
    using dir = tempDir("stock");
    const restored = layRestored(dir.file("to"), "multipart", await madeBy("redis-7.0"));
    const server = await findServer(serverScript(dir, "redis-7.0", { more: "--nonsense 1" }));
    const error = await checkRestored(restored, server, { digest: false, signal: never }).catch(
      caught,
    );
    expectError(error, "SERVER_FAILED", "nonsense");
    expectNothingLeft();
  });

  test("a server program that has been removed", async () => {
    using dir = tempDir("stock");
    const restored = layRestored(dir.file("to"), "multipart", await madeBy("redis-7.0"));
    const path = serverScript(dir, "redis-7.0");
    const server = { ...(await findServer(path)), argv: [path] };
    fs.rmSync(path);
    const error = await checkRestored(restored, server, { digest: false, signal: never }).catch(
      caught,
    );
    expectError(error, "SERVER_FAILED", path);
    expectNothingLeft();
  });

  test("a signal that was already aborted", async () => {
    using dir = tempDir("stock");
    const restored = layRestored(dir.file("to"), "multipart", await madeBy("redis-7.0"));
    const server = await findServer(serverScript(dir, "redis-7.0"));
    const reason = new ReplicaError("STOPPED", { message: "stopped" });
    const options = { digest: false, signal: AbortSignal.abort(reason) };
    expect(await checkRestored(restored, server, options).catch(caught)).toBe(reason);
    expectNothingLeft();
  });
});

test("reports a directory that is not a restore", async () => {
  using dir = tempDir("stock");
  const server = await findServer(serverScript(dir, "redis-7.0"));
  for (const layout of LAYOUTS) {
    const restored = { dir: dir.path, layout };
    const error = await checkRestored(restored, server, { digest: false, signal: never }).catch(
      caught,
    );
    expectError(error, "RESTORE_UNUSABLE", dir.path);
    expect(fs.readdirSync(dir.path)).toEqual(["redis-7.0.sh"]);
  }
  expectNothingLeft();
});

test.skipIf(process.platform !== "linux")("it doesn't outlive a killed program", async () => {
  using dir = tempDir("stock");
  const restored = layRestored(dir.file("to"), "multipart", await madeBy("redis-7.0"));
  const path = serverScript(dir, "redis-7.0");
  const at = `${import.meta.dir}/../../src/stock`;
  const code = `
    import { findServer } from ${JSON.stringify(`${at}/server-program.ts`)};
    import { serveRestored } from ${JSON.stringify(`${at}/stock-server.ts`)};
    const server = await findServer(${JSON.stringify(path)});
    const signal = new AbortController().signal;
    const { port, ended } = await serveRestored(${JSON.stringify(restored)}, server, { port: 0, signal });
    console.log(port);
    await ended;`;
  fs.writeFileSync(dir.file("serve.ts"), code);
  // Short: a socket's path has to fit behind it.
  const shortDir = temporary.file("t");
  fs.mkdirSync(shortDir);
  const child = Bun.spawn(endingWithParent([process.execPath, dir.file("serve.ts")]), {
    stdout: "pipe",
    env: { ...process.env, TMPDIR: shortDir },
  });
  endWithProcess(child);
  for await (const chunk of child.stdout) {
    if (chunk.includes(10)) break;
  }
  const servers = (): number[] => processesIn(`${shortDir}/replica-stock-`);
  expect(servers()).toHaveLength(1);
  child.kill("SIGKILL");
  // Its server may end before anyone has taken note of its own end.
  await child.exited;
  await until(() => servers().length === 0, { what: "the server to end" });
  // What it has left goes with the next one; what isn't known to be left stays.
  const left = fs.readdirSync(shortDir);
  expect(left).toEqual([expect.stringMatching(/^replica-stock-\d+-.{6}$/)]);
  const others = [
    `replica-stock-${process.ppid}-abcdef`,
    "replica-stock-abcdef",
    `replica-stock-${child.pid}-a`,
  ];
  for (const name of others) fs.mkdirSync(`${shortDir}/${name}`);
  process.env["TMPDIR"] = shortDir;
  try {
    await checkRestored(restored, await findServer(path), { digest: false, signal: never });
  } finally {
    process.env["TMPDIR"] = temporary.path;
  }
  expect(fs.readdirSync(shortDir).toSorted()).toEqual(others.toSorted());
});

test("a directory whose process can't be seen stays for as long as it is locked", async () => {
  // Short: a socket's path has to fit behind it. No process has an id that high.
  const shortDir = temporary.file("u");
  const path = `${shortDir}/replica-stock-4194304-abcdef`;
  fs.mkdirSync(path, { recursive: true });
  const lock = lockDirectory(path);
  process.env["TMPDIR"] = shortDir;
  try {
    await makePrivateDirectory().remove();
    expect(fs.existsSync(path)).toBe(true);
    lock.release();
    await makePrivateDirectory().remove();
    expect(fs.existsSync(path)).toBe(false);
  } finally {
    process.env["TMPDIR"] = temporary.path;
  }
});

test("kills a server that ignores SIGTERM", async () => {
  using dir = tempDir("stock");
  const restored = layRestored(dir.file("to"), "multipart", await madeBy("redis-7.0"));
  const server = await findServer(serverScript(dir, "redis-7.0"));
  using stopping = stopper();
  const served = await serveRestored(restored, server, { port: 0, signal: stopping.signal });
  const [pid] = processesIn(`${temporary.path}/replica-stock-`);
  process.kill(pid!, "SIGSTOP");
  stopping.stop();
  await within(PATIENCE_MS, "the server to end", served.ended);
  expectNothingLeft();
});

describe("finding the server", () => {
  test("reports a program that is not a server", async () => {
    using dir = tempDir("stock");
    for (const path of ["/bin/true", dir.path, dir.file("missing"), "no-such-program-at-all"]) {
      const error = await findServer(path).catch(caught);
      expectError(error, "USAGE", path);
      expectError(error, "USAGE", "--server PATH");
    }
  });

  test("prefers redis-server on PATH; if there is no server, the error says what to do", async () => {
    using dir = tempDir("stock");
    const path = process.env["PATH"];
    try {
      // None of the machine's own: it may have a server.
      const setpriv = Bun.which("setpriv") === null ? [] : ["setpriv"];
      const others = folderOf(dir, ["echo", ...setpriv]);
      process.env["PATH"] = `${dir.path}:${others}`;
      expectError(await findServer(undefined).catch(caught), "SERVER_FAILED", "install one");
      fs.symlinkSync(
        serverScript(dir, "redis-7.0", { version: "8.1.9" }),
        dir.file("valkey-server"),
      );
      expect((await findServer(undefined)).version).toBe("8.1.9");
      fs.symlinkSync(
        serverScript(dir, "redis-7.0", { name: "b", version: "7.9.9" }),
        dir.file("redis-server"),
      );
      expect((await findServer(undefined)).version).toBe("7.9.9");
    } finally {
      process.env["PATH"] = path;
    }
  });
});
