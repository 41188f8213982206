import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { thrownBy } from "./error-of.ts";
import { fakePrimary, standardHandshake } from "./fake-primary.ts";
import { fillAllTypes } from "./fill.ts";
import { freePort } from "./ports.ts";
import { runReplica, startReplica } from "./replica-process.ts";
import { ReplyReader, ReplyError, encodeCommand } from "./resp.ts";
import { RespClient } from "./resp-client.ts";
import { ServerProcesses } from "./s3-server.ts";
import { availableServers, bootCopy, startServer, tool } from "./servers.ts";
import { cpuTime, socketsOf } from "./sockets.ts";
import { tempDir } from "./temp.ts";
import { certificates } from "./tls.ts";
import { until } from "./wait.ts";
import { outermost } from "./sweep.ts";

const replid = "8b3c1e5f0a9d4c7b2e6f8a1d3c5b7e9f0a2c4e6d";

describe("waiting", () => {
  test("until returns the result of the condition", async () => {
    let looks = 0;
    expect(await until(() => (++looks === 3 ? "there" : undefined), { what: "it" })).toBe("there");
  });

  test("until names what it waited for, and the last error", async () => {
    const never = until(
      () => {
        throw new Error("still closed");
      },
      { timeoutMs: 20, what: "the door" },
    );
    expect(await thrownBy(never)).toThrow("waited 20 ms for the door, in vain; last: still closed");
  });

  test("no test gives up before its waits do", () => {
    const short: string[] = [];
    for (const path of new Bun.Glob("**/*.ts").scanSync(join(import.meta.dir, ".."))) {
      const text = readFileSync(join(import.meta.dir, "..", path), "utf8");
      const limits = /setDefaultTimeout\(([\d_]+)\)|^\s*\},? ?\n?\s*([\d_]{5,}),?\n?\s*\);$/gm;
      for (const [, all, one] of text.matchAll(limits)) {
        const limit = Number((all ?? one)!.replaceAll("_", ""));
        if (limit < 150_000) short.push(`${path}: ${limit} ms`);
      }
    }
    expect(short).toEqual([]);
  });

  test("no test waits for a rejection by a matcher, which may never hear of it", () => {
    const folder = join(import.meta.dir, "..");
    const using = [...new Bun.Glob("**/*.test.ts").scanSync(folder)].filter((path) =>
      /\)\s*\.(?:rejects|resolves)\b/.test(readFileSync(join(folder, path), "utf8")),
    );
    expect(using).toEqual([]);
  });
});

test("a temporary folder is removed at the end of its block", () => {
  let path = "";
  {
    using dir = tempDir();
    path = dir.path;
    writeFileSync(dir.file("a"), "1");
    expect(existsSync(join(path, "a"))).toBe(true);
  }
  expect(existsSync(path)).toBe(false);
});

test("a free port is free, and is given out once", () => {
  const port = freePort();
  const listener = Bun.listen({ hostname: "127.0.0.1", port, socket: { data: () => undefined } });
  expect(listener.port).toBe(port);
  expect(freePort()).not.toBe(port);
  listener.stop(true);
});

test.skipIf(process.platform !== "linux")("sockets are listed with what was not read", async () => {
  await using primary = fakePrimary(() => undefined, { speaksFirst: true });
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: primary.port,
    socket: { data: () => undefined },
  });
  client.pause();
  const peer = await until(() => primary.peers[0], { what: "the connection" });
  await peer.send("12345");
  const line = `${client.localPort} to ${primary.port} ESTABLISHED, 0 B unsent, 5 B unread`;
  await until(() => socketsOf([primary.port]).includes(line), { what: line });
  expect(socketsOf([primary.port])).toContainEqual(expect.stringContaining(" LISTEN,"));
  expect(socketsOf([primary.port]).filter((one) => one.includes("ESTABLISHED")).length).toBe(2);
  client.terminate();
});

test.skipIf(process.platform !== "linux")("the CPU's time is told", () => {
  const untilMs = performance.now() + 1_000;
  while (performance.now() < untilMs);
  // A second has passed, whether this process ran or waited for a CPU.
  const { ranSeconds, waitedSeconds } = cpuTime()!;
  expect(ranSeconds + waitedSeconds).toBeGreaterThanOrEqual(1);
});

test("a port in use is not given out", () => {
  const next = freePort() + 1;
  const socket = { data: () => undefined };
  using listener = Bun.listen({ hostname: "127.0.0.1", port: next, socket });
  expect(freePort()).not.toBe(listener.port);
});

describe("RESP", () => {
  const wire =
    "+OK\r\n-ERR no\r\n:42\r\n$3\r\na\r\n\r\n*2\r\n$-1\r\n*0\r\n%1\r\n+k\r\n,1.5\r\n>1\r\n+p\r\n";

  test.each([1, 2, 3, 7, wire.length])("parses replies in pieces of %d bytes", (size) => {
    const reader = new ReplyReader();
    const values: unknown[] = [];
    for (let at = 0; at < wire.length; at += size) {
      reader.push(Buffer.from(wire.slice(at, at + size)));
      for (let next = reader.next(); next !== undefined; next = reader.next()) {
        values.push(next.push ? { push: next.value } : next.value);
      }
    }
    const map = new Map([["k", 1.5]]);
    const error = new ReplyError("ERR no");
    expect(values).toEqual(["OK", error, 42, "a\r\n", [null, []], map, { push: ["p"] }]);
  });

  test("encodes a command as bulk strings, with lengths in bytes", () => {
    expect(encodeCommand(["SET", "ü", 1]).toString()).toBe(
      "*3\r\n$3\r\nSET\r\n$2\r\nü\r\n$1\r\n1\r\n",
    );
  });
});

describe("the fake primary", () => {
  test("plays steps and keeps a transcript", async () => {
    await using primary = fakePrimary([
      { command: ["PING"] },
      { send: "+PONG\r\n" },
      { expect: /\*\d\r\n\$4\r\nECHO\r\n\$2\r\nhi\r\n/ },
      { sendInChunks: "$2\r\nhi\r\n", size: 1 },
      { close: true },
    ]);
    const client = await RespClient.connect({ port: primary.port });
    expect(await client.send("ping")).toBe("PONG");
    expect(await client.send("ECHO", "hi")).toBe("hi");
    await client.closed;
    await primary.finished();
    expect(primary.peers[0]?.sent.toString()).toBe("+PONG\r\n$2\r\nhi\r\n");
    expect(primary.peers[0]?.received.toString()).toContain("ECHO");
  });

  test("answers a handshake and returns its commands", async () => {
    let commands: string[][] = [];
    await using primary = fakePrimary(async (peer) => {
      commands = await standardHandshake(peer, { replid, offset: 7, password: "pw" });
      expect(await peer.readAck(9)).toEqual({ ack: 9, fack: 8 });
    });
    await using client = await RespClient.connect({ port: primary.port });
    expect(await client.send("PING")).toBe("PONG");
    expect(await thrownBy(client.send("AUTH", "wrong"))).toThrow("WRONGPASS");
    expect(await client.send("AUTH", "pw")).toBe("OK");
    expect(await client.send("REPLCONF", "capa", "eof")).toBe("OK");
    expect(await client.send("PSYNC", "?", "-1")).toBe(`FULLRESYNC ${replid} 7`);
    await client.write(encodeCommand(["REPLCONF", "ACK", 3]));
    await client.write("\n");
    await client.write(encodeCommand(["REPLCONF", "ACK", 9, "FACK", 8]));
    await primary.finished();
    expect(commands.map((words) => words[0])).toEqual([
      "PING",
      "AUTH",
      "AUTH",
      "REPLCONF",
      "PSYNC",
    ]);
  });

  test("reports unexpected bytes", async () => {
    await using primary = fakePrimary([{ expect: "PING\r\n" }]);
    const client = await RespClient.connect({ port: primary.port });
    await client.write("QUIT\r\n");
    await client.closed;
    expect(await thrownBy(primary.finished())).toThrow(
      String.raw`connection 1: expected "PING\r\n", received "QUIT\r\n"`,
    );
  });

  test("reports silence, and a closed connection", async () => {
    await using silent = fakePrimary([{ expect: "PING" }], { timeoutMs: 20, speaksFirst: true });
    await using left = fakePrimary([{ expect: "PING" }], { speaksFirst: true });
    const client = await RespClient.connect({ port: silent.port });
    (await RespClient.connect({ port: left.port })).close();
    await client.closed;
    expect(await thrownBy(silent.finished())).toThrow(
      'expected "PING" within 20 ms, received nothing',
    );
    await until(() => left.failures.length > 0, { what: "a failure" });
    expect(await thrownBy(left.finished())).toThrow("received nothing, then the end");
  });

  test("plays one script per connection, and refuses connections past the last", async () => {
    await using primary = fakePrimary(
      { connections: [[{ send: "+first\r\n" }, { reset: true }], [{ send: "+second\r\n" }]] },
      { speaksFirst: true },
    );
    for (const word of ["first", "second"]) {
      const client = await RespClient.connect({ port: primary.port });
      await until(() => client.pushes[0] === word, { what: word });
      if (word === "second") client.close();
      await client.closed;
    }
    await (
      await RespClient.connect({ port: primary.port })
    ).closed;
    expect(await thrownBy(primary.finished())).toThrow("no script is left for connection 3");
  });

  test("sends more than a socket takes at once", async () => {
    const payload = Buffer.alloc(32 * 1024 * 1024, "x");
    await using primary = fakePrimary([{ send: `$${payload.length}\r\n` }, { send: payload }], {
      speaksFirst: true,
    });
    await using client = await RespClient.connect({ port: primary.port });
    await primary.finished();
    expect(primary.peers[0]?.sentBytes).toBe(payload.length + 11);
    expect(client.isClosed).toBe(false);
  });

  test("listens on a unix socket", async () => {
    using dir = tempDir();
    await using primary = fakePrimary([{ send: "+hello\r\n" }], {
      socketPath: dir.file("s.sock"),
      speaksFirst: true,
    });
    await using client = await RespClient.connect({ socketPath: dir.file("s.sock") });
    await until(() => client.pushes[0] === "hello", { what: "hello" });
    expect(primary.url).toBe(`unix://${dir.file("s.sock")}`);
  });

  test("speaks TLS, and can require a client certificate", async () => {
    const certificate = certificates.server;
    await using open = fakePrimary([{ send: "+hello\r\n" }], {
      tls: { certificate },
      speaksFirst: true,
    });
    await using strict = fakePrimary([{ send: "+hello\r\n" }], {
      tls: { certificate, clients: "yes" },
      speaksFirst: true,
    });
    for (const [port, tls] of [
      [open.port, {}],
      [strict.port, { client: certificates.client }],
    ] as const) {
      await using client = await RespClient.connect({ host: "localhost", port, tls });
      await until(() => client.pushes[0] === "hello", { what: "hello" });
    }
    const stranger = await RespClient.connect({ port: strict.port, tls: {} }).catch(
      () => undefined,
    );
    await stranger?.closed;
    expect(stranger?.pushes ?? []).toEqual([]);
    expect(strict.peers).toHaveLength(1);
  });
});

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("starts, answers by TCP, TLS and unix socket, restarts and ends", async () => {
    const server = await startServer(kind, {
      password: "se cret",
      tls: { clients: "yes" },
      unixSocket: true,
    });
    const { pid, port, dir } = server;
    expect(await server.send("PING")).toBe("PONG");
    expect(await server.cli("ECHO", "hi")).toBe("hi");
    const password = "se cret";
    await using unix = await RespClient.connect({ socketPath: server.socketPath ?? "", password });
    expect(await unix.send("PING")).toBe("PONG");
    const tls = { client: certificates.client };
    await using secure = await RespClient.connect({ port: server.tlsPort ?? 0, tls, password });
    expect(await secure.send("PING")).toBe("PONG");
    await server.restart();
    expect(server.pid).not.toBe(pid);
    expect(server.port).toBe(port);
    expect((await server.info("server"))["tcp_port"]).toBe(String(port));
    await server[Symbol.asyncDispose]();
    expect(() => process.kill(pid, 0)).toThrow();
    expect(existsSync(dir)).toBe(false);
  });

  test("gets the same data from the same seed, and from a copy of its files", async () => {
    await using server = await startServer(kind, { args: ["--appendonly", "yes"] });
    await using twin = await startServer(kind);
    const counts = await fillAllTypes(server, { keys: 3000, seed: 5 });
    await fillAllTypes(twin, { keys: 3000, seed: 5 });
    expect(await server.keysPerDatabase()).toEqual(Object.fromEntries(counts));
    expect(await twin.digest()).toBe(await server.digest());
    await using copy = await bootCopy(kind, join(server.dir, "appendonlydir"));
    expect(await copy.digest()).toBe(await server.digest());
    await copy.kill9();
    await copy.restart();
    expect(await copy.digest()).toBe(await server.digest());
  });

  test("fails with its log if it doesn't start", async () => {
    expect(await thrownBy(startServer(kind, { args: ["--nonsense", "1"] }))).toThrow("nonsense");
    using dir = tempDir();
    mkdirSync(dir.file("gen"));
    writeFileSync(dir.file("gen", "appendonly.aof.manifest"), "file gone.aof seq 1 type i\n");
    expect(await thrownBy(bootCopy(kind, dir.file("gen")))).toThrow("gone.aof");
  });

  test("comes with its tools", async () => {
    for (const name of ["redis-cli", "redis-benchmark"] as const) {
      const child = Bun.spawn([...tool(kind, name), "--version"], { stderr: "ignore" });
      expect(await new Response(child.stdout).text()).toContain(name.replace("redis", ""));
    }
    for (const name of ["redis-check-rdb", "redis-check-aof"] as const) {
      const child = Bun.spawn(tool(kind, name), { stdout: "pipe", stderr: "pipe" });
      const texts = [new Response(child.stdout).text(), new Response(child.stderr).text()];
      expect((await Promise.all(texts)).join("")).toContain("Usage");
    }
  });
});

test("names the command that fetches a missing server", () => {
  const configured = process.env["REPLICA_TEST_SERVERS"];
  using dir = tempDir();
  process.env["REPLICA_TEST_SERVERS"] = dir.path;
  try {
    expect(() => tool("redis-7.0", "redis-cli")).toThrow(
      "redis-7.0 is not here: run `bun run pretest` to fetch the servers",
    );
  } finally {
    if (configured === undefined) delete process.env["REPLICA_TEST_SERVERS"];
    else process.env["REPLICA_TEST_SERVERS"] = configured;
  }
});

describe("the processes of a server", () => {
  test("end together with their folder", async () => {
    const processes = new ServerProcesses("processes");
    processes.start("one", ["sleep", "1000"]);
    processes.start("two", ["sleep", "1000"]);
    const { pids } = processes;
    expect(await processes.run("three", ["echo", "said"])).toBe("said\n");
    const folder = processes.file();
    await processes.end();
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect(pids).toHaveLength(2);
    expect(existsSync(folder)).toBe(false);
  });

  test("show what they said when they don't start", async () => {
    const processes = new ServerProcesses("processes");
    const failing = ["sh", "-c", "echo its reason >&2; exit 3"];
    expect(await thrownBy(processes.run("failing", failing))).toThrow(
      "failing ended with 3; the log of failing:\nits reason",
    );
    processes.start("dying", failing);
    expect(await thrownBy(processes.up("it to answer", async () => false))).toThrow(
      "dying ended while starting; the log of dying:\nits reason",
    );
    await processes.end();
  });
});

describe("setup-servers", () => {
  const setup = join(import.meta.dir, "setup-servers.ts");

  test("says in one line why it can't fetch a required server", async () => {
    using cache = tempDir();
    const child = Bun.spawn([process.execPath, setup], {
      env: { PATH: cache.path, REPLICA_TEST_SERVERS: cache.file("servers") },
      stderr: "pipe",
    });
    const lines = (await new Response(child.stderr).text()).trim().split("\n");
    expect(lines.at(-1)).toBe(
      "servers: redis-7.0 could not be fetched, and the tests need it: " +
        "apt-get is not on this machine (Debian or a descendant is needed)",
    );
    expect(await child.exited).toBe(1);
  });
});

describe("the replica process", () => {
  test("returns its output and its exit code", async () => {
    const version = await runReplica(["--version"]);
    expect(version).toMatchObject({ exitCode: 0, signal: null, stderr: "" });
    expect(version.stdout).toMatch(/\d+\.\d+\.\d+/);
    expect((await runReplica(["--no-such-flag"])).exitCode).toBe(2);
  });

  test("waits for a line, and shows all output if it never comes", async () => {
    await using help = startReplica(["--help"]);
    expect((await help.waitForLine(/(replica) /))[1]).toBe("replica");
    await using version = startReplica(["--version"]);
    expect(await thrownBy(version.waitForLine(/never said/))).toThrow(
      /replica ended \(exit code 0, signal null\)[^]*stdout:\n.*\d+\.\d+/,
    );
  });

  test("reports its memory, and ends on a signal", async () => {
    using dir = tempDir();
    const args = ["redis://127.0.0.1:1", "--dir", dir.file("data"), "--port", "0"];
    await using replica = startReplica(args);
    await until(() => replica.rssBytes() > 20e6, { what: "the program to have loaded" });
    expect(replica.rssPeakBytes()).toBeGreaterThanOrEqual(20e6);
    expect(await replica.kill9()).toEqual({ exitCode: null, signal: "SIGKILL" });
    expect(replica.rssPeakBytes()).toBeGreaterThanOrEqual(20e6);
  });
});
