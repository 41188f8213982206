import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { thrownBy } from "../support/error-of.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { runProgram } from "../support/run-program.ts";
import { availableServers, type ServerKind, tool } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { REPLID, smallRdb } from "./bad-input-rig.ts";
import { outermost } from "../support/sweep.ts";

const PASSWORD = "open sesame";
const NO_KEYS = "ERR this replica keeps its data on disk and answers no key commands";

const dir = tempDir("port-clients");
const primary = fakePrimary(async (peer) => {
  await standardHandshake(peer, { replid: REPLID, offset: 100 });
  if (peer.index === 0) await peer.send(bulkPayload(smallRdb("a value")));
});
await Bun.write(dir.file("password"), `${PASSWORD}\n`);
const replica = follow(primary.url, realDisk, dir, {
  "requirepass-file": dir.file("password"),
  // This primary is silent, however long the tests take.
  timeout: "10m",
});

beforeAll(async () => {
  await replica.connected();
});

afterAll(async () => {
  await replica[Symbol.asyncDispose]();
  await primary.stop();
  dir.remove();
});

/** Runs `redis-cli`; returns its exit code and output. */
async function cli(kind: ServerKind, words: readonly string[], stdin = "") {
  const argv = [...tool(kind, "redis-cli"), "-p", String(replica.port), ...words];
  const { exitCode, stdout, stderr } = await runProgram(argv, { stdin: Buffer.from(stdin) });
  return { code: exitCode, out: stdout.trimEnd(), err: stderr.trimEnd() };
}

const LOGIN = ["--user", "default", "--pass", PASSWORD, "--no-auth-warning"];

describe.each(outermost(availableServers()))("redis-cli of %s", (kind) => {
  const answers: [string[], RegExp][] = [
    [["PING"], /^PONG$/],
    [["ECHO", "hi"], /^hi$/],
    [["SELECT", "3"], /^OK$/],
    [["INFO"], /^# Server\r\n[^]*\r\n# Replica\r\n/],
    [["INFO", "replication"], /^# Replication\r\nrole:slave\r\n/],
    [["ROLE"], /^slave\n127\.0\.0\.1\n\d+\nconnected\n100$/],
    [["CONFIG", "GET", "max*"], /^maxclients[ \n]1000\nmaxmemory[ \n]0\n/],
    [["CONFIG", "GET", "*"], /^port[ \n]\d+\n(?:tls-[\w-]+[ \n].*\n)+bind[ \n]127\.0\.0\.1\n/],
    [["CONFIG", "SET", "appendonly", "yes"], /^OK$/],
    [["CONFIG", "REWRITE"], /^OK$/],
    [["CONFIG", "RESETSTAT"], /^OK$/],
    [["CLIENT", "ID"], /^\d+$/],
    [["CLIENT", "LIST"], /^id=\d+ addr=127\.0\.0\.1:\d+ [^]*cmd=client/],
    [["CLIENT", "INFO"], /^id=\d+ addr=127\.0\.0\.1:\d+ /],
    [["CLIENT", "SETNAME", "cli"], /^OK$/],
    [["CLIENT", "NO-EVICT", "on"], /^OK$/],
    [["CLIENT", "KILL", "TYPE", "pubsub"], /^0$/],
    [["COMMAND", "COUNT"], /^\d+$/],
    [["COMMAND", "DOCS", "ping"], /^ping[ \n]summary[ \n]/],
    [["COMMAND", "INFO", "ping"], /^ping\n-1\n/],
    [["HELLO", "3"], /^server redis\nversion /],
    [["LASTSAVE"], /^\d+$/],
    [["DBSIZE"], new RegExp(`^(\\(error\\) )?${NO_KEYS}: neither its primary nor its snapshot`)],
    [["TIME"], /^\d+\n\d+$/],
    [["PUBLISH", "news", "hi"], /^0$/],
    [["REPLICAOF", "127.0.0.1", new URL(primary.url.replace("redis:", "http:")).port], /^OK/],
    [["RESET"], /^RESET$/],
    [["QUIT"], /^OK$/],
  ];

  test("gets a reply to each command, in RESP2 and RESP3", async () => {
    for (const words of [LOGIN, [...LOGIN, "-3"]]) {
      for (const [command, says] of answers) {
        const answer = await cli(kind, [...words, ...command]);
        expect([command, answer.code, answer.err]).toEqual([command, 0, ""]);
        expect(answer.out).toMatch(says);
      }
    }
  });

  test("gets an error for commands that the port doesn't have", async () => {
    for (const line of ["GET a", "SCAN 0", "MEMORY USAGE a", "EVAL x 0"]) {
      const { code, out } = await cli(kind, [...LOGIN, ...line.split(" ")]);
      expect([line, code, out]).toEqual([line, 0, NO_KEYS]);
    }
    for (const line of ["MODULE LIST", "ACL WHOAMI", "MONITOR"]) {
      const { code, out } = await cli(kind, [...LOGIN, ...line.split(" ")]);
      const [name = ""] = line.split(" ");
      expect([line, code, out]).toEqual([
        line,
        0,
        expect.stringContaining(`ERR unknown command '${name}'`),
      ]);
    }
    for (const mode of ["--scan", "--bigkeys"]) {
      const { code, err } = await cli(kind, [...LOGIN, mode]);
      expect([mode, code]).toEqual([mode, 1]);
      expect(err).toContain(NO_KEYS);
    }
    expect((await cli(kind, [...LOGIN, "PING"])).out).toBe("PONG");
  });

  test("logs in with the right password, and not with a wrong or a missing one", async () => {
    // Wrong passwords of an address are counted: only a few are allowed.
    expect((await cli(kind, ["PING"])).out).toBe("NOAUTH Authentication required.");
    expect((await cli(kind, ["-a", "wrong", "PING"])).err).toContain("WRONGPASS");
    expect((await cli(kind, ["-a", PASSWORD, "PING"])).out).toBe("PONG");
  });

  test("runs a session with a transaction, and a bulk load", async () => {
    const session = await cli(kind, LOGIN, "MULTI\nPING\nCLIENT GETNAME\nEXEC\nHELLO 3\nPING x\n");
    expect(session.out.replaceAll("\n", " ")).toMatch(/^OK QUEUED QUEUED ?PONG .*server .*x$/);
    const { out } = await cli(kind, [...LOGIN, "--pipe"], "PING\r\nGET a\r\n".repeat(5_000));
    expect(out).toContain("errors: 5000, replies: 10000");
  });

  test("keeps printing lines with --stat", async () => {
    let out = "";
    const lines = () => out.match(/^\d.*\(\+\d+\)/gm) ?? [];
    const child = Bun.spawn(
      [...tool(kind, "redis-cli"), "-p", String(replica.port), "--stat", "-i", "0.05"],
      {
        env: { ...process.env, REDISCLI_AUTH: PASSWORD },
        // Without a terminal it buffers its lines.
        terminal: { data: (_terminal, bytes) => (out += Buffer.from(bytes).toString()) },
      },
    );
    await until(() => lines().length >= 3, { what: "three lines" });
    child.kill();
    await child.exited;
    // Keys, memory, clients, blocked, requests and connections: all have values.
    expect(out).toMatch(/^0 +\d+\.\d+M +\d+ +0 +\d+ \(\+\d+\) +\d+/m);
    expect(out).not.toMatch(/-\d{5}/);
  });
});

describe("ioredis", () => {
  function connect(password = PASSWORD): Redis {
    const client = new Redis({
      port: replica.port,
      password,
      lazyConnect: true,
      // Wrong passwords of an address are counted: don't retry.
      retryStrategy: () => (password === PASSWORD ? 10 : null),
    });
    client.on("error", () => undefined);
    return client;
  }

  test("connects with its ready check, and asks what tools ask", async () => {
    const client = connect();
    await client.connect();
    expect(client.status).toBe("ready");
    expect(await client.role()).toEqual([
      "slave",
      "127.0.0.1",
      expect.any(Number),
      "connected",
      100,
    ]);
    expect(await client.info("replication")).toContain("master_link_status:up");
    const config = await client.config("GET", "*");
    expect(config).toContain("maxclients");
    expect(await client.client("SETNAME", "tool")).toBe("OK");
    expect(await client.client("LIST")).toContain(" name=tool ");
    expect(await thrownBy(client.dbsize())).toThrow(NO_KEYS);
    expect(await client.lastsave()).toBeGreaterThan(1e9);
    expect(await thrownBy(client.get("a"))).toThrow(NO_KEYS);
    const done = await client.multi().ping().client("GETNAME").exec();
    expect(done).toEqual([
      [null, "PONG"],
      [null, "tool"],
    ]);
    expect(await client.pipeline(Array.from({ length: 1000 }, () => ["ping"])).exec()).toHaveLength(
      1000,
    );
    expect(await client.quit()).toBe("OK");
  });

  test("what is published comes", async () => {
    const [listener, speaker] = [connect(), connect()];
    const came: string[][] = [];
    listener.on("message", (...words: string[]) => came.push(words));
    listener.on("pmessage", (...words: string[]) => came.push(words));
    expect(await listener.subscribe("news")).toBe(1);
    expect(await listener.psubscribe("n*")).toBe(2);
    expect(await speaker.publish("news", "now")).toBe(2);
    await until(() => came.length === 2, { what: "the messages" });
    expect(came.toSorted()).toEqual([
      ["n*", "news", "now"],
      ["news", "now"],
    ]);
    expect(await listener.unsubscribe("news")).toBe(1);
    expect(await listener.punsubscribe("n*")).toBe(0);
    expect(await listener.ping()).toBe("PONG");
    listener.disconnect();
    speaker.disconnect();
  });

  test("comes back after CLIENT KILL", async () => {
    const client = connect();
    await client.connect();
    const id = await client.client("ID");
    await using other = await RespClient.connect({ port: replica.port, password: PASSWORD });
    expect(await other.send("CLIENT", "KILL", "ID", Number(id))).toBe(1);
    await until(() => client.status !== "ready", { what: "the break" });
    expect(await client.client("ID")).not.toBe(id);
    client.disconnect();
  });

  test("is told that its password is wrong", async () => {
    const client = connect("wrong");
    const told: string[] = [];
    client.on("error", (error) => told.push(error.message));
    expect(await thrownBy(client.connect())).toThrow();
    await until(() => told.some((message) => message.startsWith("WRONGPASS")), {
      what: "the refusal",
    });
    client.disconnect();
  });
});

test("redis_exporter's way of reading INFO and CLIENT LIST", async () => {
  await using client = await RespClient.connect({ port: replica.port, password: PASSWORD });
  const info = String(await client.send("INFO", "ALL"));
  // The replica's own section comes last, and has texts of any kind.
  const [redis = "", own = ""] = info.split("# Replica\r\n");
  expect(
    own
      .trimEnd()
      .split("\r\n")
      .every((line) => /^[a-z0-9_]+:/.test(line)),
  ).toBe(true);
  const fields = redis.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("# "));
  const texts = new Set([
    "redis_version",
    "redis_mode",
    "os",
    "replica_version",
    "run_id",
    "maxmemory_policy",
    "aof_last_write_status",
    "rdb_last_bgsave_status",
    "role",
    "master_host",
    "master_link_status",
    "master_failover_state",
    "master_replid",
    "master_replid2",
    "listener0",
  ]);
  const wrong = fields.filter((line) => {
    const [, name = "", value = ""] = /^([a-z0-9_]+):(.*)\r$/.exec(line) ?? [];
    const isText = texts.has(name) || name.endsWith("_human");
    return name === "" || (!isText && !/^-?\d+(\.\d+)?$/.test(value));
  });
  expect(wrong).toEqual([]);
  const list = String(await client.send("CLIENT", "LIST")).trimEnd();
  for (const line of list.split("\n")) {
    expect(line).toMatch(/^id=\d+ addr=\S+:\d+( [a-z-]+=[^= ]*)+$/);
    expect(line).toMatch(/ age=\d+ idle=\d+ flags=\w+ db=\d+ /);
  }
});
