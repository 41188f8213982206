import { describe, expect, test } from "bun:test";
import { thrownBy } from "../support/error-of.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { Port } from "../../src/port/port.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { parseInfo } from "../../src/resp/info-text.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { encodeCommand, type Reply, ReplyError } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** A connected replica, and a way to connect to its port. */
async function serving(more: Record<string, string> = {}) {
  const dir = tempDir("port");
  const primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send(bulkPayload(smallRdb("a value")));
  });
  const following = follow(primary.url, realDisk, dir, more);
  await following.connected();
  const { port } = following;
  return {
    ...following,
    connect: (password?: string) =>
      RespClient.connect({ port, ...(password === undefined ? {} : { password }) }),
    [Symbol.asyncDispose]: async () => {
      await following[Symbol.asyncDispose]();
      await primary.stop();
      dir.remove();
    },
  };
}

/** Sends a command and returns the reply; an error as its text. */
async function ask(client: RespClient, ...words: (string | number)[]): Promise<Reply> {
  const [command = "", ...args] = words.map(String);
  try {
    return text(await client.send(command, ...args));
  } catch (error) {
    if (error instanceof ReplyError) return `-${error.message}`;
    throw error;
  }
}

function text(reply: Reply): Reply {
  return reply instanceof ReplyError ? `-${reply.message}` : reply;
}

describe("the replica's own port", () => {
  test("answers the commands that clients send to any server", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    expect(await ask(client, "PING")).toBe("PONG");
    expect(await ask(client, "ping", "hi")).toBe("hi");
    expect(await ask(client, "ECHO", "é\r\n")).toBe("é\r\n");
    expect(await ask(client, "ECHO")).toBe("-ERR wrong number of arguments for 'echo' command");
    expect(await ask(client, "SELECT", 15)).toBe("OK");
    expect(await ask(client, "SELECT", 16)).toBe("-ERR DB index is out of range");
    expect(await ask(client, "SELECT", "x")).toMatch(/^-ERR value is not an integer/);
    expect(await ask(client, "DBSIZE")).toMatch(/^-ERR this replica keeps its data on disk and/);
    const [seconds] = (await client.send("TIME")) as Reply[];
    expect(Math.abs(Number(seconds) - Date.now() / 1000)).toBeLessThan(5);
    for (const words of [
      ["GET", "a"],
      ["SET", "a", "b"],
      ["KEYS", "*"],
    ]) {
      expect(await ask(client, ...words)).toBe(
        "-ERR this replica keeps its data on disk and answers no key commands",
      );
    }
    expect(await ask(client, "RESET")).toBe("RESET");
    expect(await ask(client, "QUIT")).toBe("OK");
  });

  test("COMMAND lists and describes the commands", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    const names = ((await client.send("COMMAND", "LIST")) as Reply[]).map((name) => text(name));
    expect(names).toContain("subscribe");
    expect(await ask(client, "COMMAND", "COUNT")).toBe(names.length);
    expect((await client.send("COMMAND")) as Reply[]).toHaveLength(names.length);
    const [ping, none] = (await client.send("COMMAND", "INFO", "PING", "GET")) as Reply[][];
    expect([text(ping![0]!), ping![1]]).toEqual(["ping", -1]);
    expect(none).toBeNull();
    const docs = (await client.send("COMMAND", "DOCS", "ping")) as Reply[];
    expect(text(docs[0]!)).toBe("ping");
    // As many replies would take longer than a turn may.
    for (const about of ["INFO", "DOCS"]) {
      const many = Array.from({ length: 101 }, () => "ping");
      const refused = await ask(client, "COMMAND", about, ...many);
      expect(refused).toBe("-ERR too many names: at most 100");
    }
  });

  test("CLIENT names, lists and kills clients", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    await using other = await replica.connect();
    expect(await ask(client, "CLIENT", "GETNAME")).toBeNull();
    expect(await ask(client, "CLIENT", "SETNAME", "a b")).toMatch(/^-ERR Client names cannot/);
    expect(await ask(client, "CLIENT", "SETNAME", "tool")).toBe("OK");
    expect(await ask(client, "CLIENT", "SETINFO", "lib-name", "lib")).toBe("OK");
    expect(await ask(client, "CLIENT", "SETINFO", "lib-age", "1")).toMatch(/Unrecognized option/);
    const id = Number(await ask(client, "CLIENT", "ID"));
    expect(await ask(client, "CLIENT", "INFO")).toMatch(
      new RegExp(String.raw`^id=${id} addr=127\.0\.0\.1:\d+ .*name=tool .*lib-name=lib`),
    );
    const listed = String(await ask(client, "CLIENT", "LIST"))
      .trim()
      .split("\n");
    expect(listed).toHaveLength(2);
    const otherId = Number(await ask(other, "CLIENT", "ID"));
    expect(await ask(client, "CLIENT", "LIST", "ID", otherId)).toStartWith(`id=${otherId} `);
    expect(await ask(client, "CLIENT", "KILL", "ID", otherId)).toBe(1);
    await other.closed;
    expect(await ask(client, "CLIENT", "KILL", "TYPE", "normal")).toBe(0);
    expect(await ask(client, "CLIENT", "KILL", "127.0.0.1:1")).toBe("-ERR No such client");
    expect(await ask(client, "CLIENT", "FROB")).toMatch(/unknown subcommand 'FROB'/);
    expect(await ask(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")).toBe(1);
    await client.closed;
  });

  test("HELP lists only subcommands that exist", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    for (const name of ["CLIENT", "CONFIG", "COMMAND"]) {
      const lines = (await client.send(name, "HELP")) as string[];
      expect(lines[0]).toBe(`${name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`);
      expect(lines.slice(-2)).toEqual(["HELP", "    Prints this help."]);
      for (const usage of lines.slice(1).filter((line) => /^[A-Z]/.test(line))) {
        const [word = ""] = usage.split(/[ |]/);
        expect(String(await ask(client, name, word))).not.toContain("unknown subcommand");
      }
    }
  });

  test("INFO counts bytes on the wire, and shows memory in Redis's format", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    const tell = async () => parseInfo(String(await client.send("INFO", "stats", "memory")));
    const before = await tell();
    const ask = encodeCommand(["PING", "x".repeat(1_000)]);
    const [reply] = await client.exchangeBytes(ask, 1);
    expect(reply).toBe("x".repeat(1_000));
    const after = await tell();
    const grown = (name: string) => Number(after.get(name)) - Number(before.get(name));
    const infoBytes = encodeCommand(["INFO", "stats", "memory"]).length;
    expect(grown("total_net_input_bytes")).toBe(ask.length + infoBytes);
    expect(grown("total_net_output_bytes")).toBeGreaterThan(1_000);
    expect(after.get("total_net_repl_input_bytes")).toBe(String(smallRdb("a value").length));
    expect(after.get("used_memory_human")).toMatch(/^\d+\.\d\d[KMG]$/);
    const [peak, rss] = ["used_memory_peak", "used_memory_rss"].map((name) => +after.get(name)!);
    expect(peak).toBeGreaterThanOrEqual(rss!);
    expect(after.get("mem_fragmentation_ratio")).toMatch(/^\d+\.\d\d$/);
    await client.send("CONFIG", "RESETSTAT");
    const { length } = smallRdb("a value");
    const anew = Number((await tell()).get("total_net_input_bytes"));
    expect(anew).toBe(length + infoBytes);
  });

  test("CONFIG SET refuses a setting and names its flag, if it has one", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    const refused = "-ERR CONFIG SET failed (possibly related to argument";
    const told = [
      ["appendfsync", ": restart with --fsync"],
      ["loglevel", ": restart with --log-level"],
      ["repl-timeout", ": restart with --timeout"],
      ["timeout", ""],
      ["save", ""],
    ];
    for (const [name = "", hint] of told) {
      const said = await ask(client, "CONFIG", "SET", name, "another");
      expect(said).toBe(`${refused} '${name}') - can't set immutable config${hint}`);
    }
    expect(await ask(client, "REPLICAOF", "h".repeat(254), "6379")).toBe(
      "-ERR Invalid master host",
    );
  });

  test("MULTI queues commands, EXEC runs them, and a refused command aborts the transaction", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    expect(await ask(client, "EXEC")).toBe("-ERR EXEC without MULTI");
    expect(await ask(client, "MULTI")).toBe("OK");
    expect(await ask(client, "MULTI")).toMatch(/nested/);
    expect(await ask(client, "PING")).toBe("QUEUED");
    expect(await ask(client, "CLIENT", "GETNAME")).toBe("QUEUED");
    expect((await client.send("EXEC")) as Reply[]).toEqual(["PONG", null]);
    await ask(client, "MULTI");
    expect(await ask(client, "GET", "a")).toMatch(/^-ERR this replica/);
    expect(await ask(client, "EXEC")).toMatch(/^-EXECABORT/);
    await ask(client, "MULTI");
    expect(await ask(client, "DISCARD")).toBe("OK");
    expect(await ask(client, "DISCARD")).toBe("-ERR DISCARD without MULTI");
  });

  test("PUBLISH reaches subscribers by channel and by pattern", async () => {
    await using replica = await serving();
    await using listener = await replica.connect();
    await using speaker = await replica.connect();
    expect(((await listener.send("SUBSCRIBE", "news")) as Reply[]).map(text)).toEqual([
      "subscribe",
      "news",
      1,
    ]);
    expect(((await listener.send("PSUBSCRIBE", "n*s")) as Reply[]).map(text)).toEqual([
      "psubscribe",
      "n*s",
      2,
    ]);
    expect(await ask(listener, "INFO")).toMatch(/^-ERR Can't execute 'info': only/);
    expect(((await listener.send("PING")) as Reply[]).map(text)).toEqual(["pong", ""]);
    expect(await ask(speaker, "PUBLISH", "news", "now")).toBe(2);
    expect(await ask(speaker, "PUBLISH", "other", "now")).toBe(0);
    await until(() => listener.pushes.length === 2, { what: "the messages" });
    expect((listener.pushes as Reply[][]).map((message) => message.map(text))).toEqual([
      ["message", "news", "now"],
      ["pmessage", "n*s", "news", "now"],
    ]);
    await listener.send("UNSUBSCRIBE", "news");
    await listener.send("PUNSUBSCRIBE");
    expect(await ask(listener, "PING")).toBe("PONG");
    expect(await ask(speaker, "PUBLISH", "news", "now")).toBe(0);
  });

  test("limits the subscriptions and the transaction of one client", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    const large = "x".repeat(60_000);
    await ask(client, "MULTI");
    const queued: Reply[] = [];
    for (let n = 0; n < 20; n++) queued.push(await ask(client, "PING", large));
    expect(queued[0]).toBe("QUEUED");
    expect(queued.at(-1)).toBe("-ERR too much in one transaction");
    expect(await ask(client, "EXEC")).toMatch(/^-EXECABORT/);
    const long = "-ERR channel name is longer than 1024 bytes";
    for (const verb of ["SUBSCRIBE", "PUBLISH"]) {
      const more = verb === "PUBLISH" ? ["x"] : [];
      expect(await ask(client, verb, large, ...more)).toBe(long);
    }
    const subscribed: Reply[] = [];
    for (let n = 0; n < 1001; n++) subscribed.push(await ask(client, "SUBSCRIBE", n));
    expect((subscribed.at(-2) as Reply[]).at(-1)).toBe(1000);
    expect(subscribed.at(-1)).toBe("-ERR too many subscriptions: at most 1000 a client");
    await ask(client, "RESET");
    const again = (await client.send("SUBSCRIBE", "news")) as Reply[];
    expect(again.at(-1)).toBe(1);
  });

  test("limits patterns: their length, and how many one client and all together have", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    const long = "x".repeat(257);
    const tooLong = "-ERR pattern is longer than 256 bytes";
    expect(await ask(client, "PSUBSCRIBE", long)).toBe(tooLong);
    expect(await ask(client, "CONFIG", "GET", long)).toBe(tooLong);
    const many = Array.from({ length: 33 }, (_, n) => `pattern ${n}`);
    expect(await ask(client, "CONFIG", "GET", ...many)).toBe("-ERR too many patterns: at most 32");
    const told: Reply[] = [];
    for (const one of many) told.push(await ask(client, "PSUBSCRIBE", one));
    expect((told.at(-2) as Reply[]).at(-1)).toBe(32);
    expect(told.at(-1)).toBe("-ERR too many patterns: at most 32 a client");
    // The same pattern of another client counts, too.
    const others: RespClient[] = [];
    for (let n = 0; n < 7; n++) others.push(await replica.connect());
    for (const other of others)
      await other.exchange(many.slice(0, 32).map((one) => ["PSUBSCRIBE", one]));
    await using last = await replica.connect();
    const all = "-ERR too many patterns: at most 256 of all clients together";
    expect(await ask(last, "PSUBSCRIBE", "one more")).toBe(all);
    // Those of a client that has left are free again.
    await others[0]![Symbol.asyncDispose]();
    await until(async () => (await ask(last, "PSUBSCRIBE", "one more")) !== all, {
      what: "room for a pattern",
    });
    for (const other of others.slice(1)) await other[Symbol.asyncDispose]();
  });

  test("slow commands, in a pipeline or in a transaction, hold up nobody", async () => {
    await using replica = await serving();
    const listeners: RespClient[] = [];
    for (let n = 0; n < 8; n++) listeners.push(await replica.connect());
    const pattern = (n: number) => `*${"a".repeat(240)}${n}`;
    for (const [n, listener] of listeners.entries()) {
      const own = Array.from({ length: 32 }, (_, at) => ["PSUBSCRIBE", pattern(32 * n + at)]);
      await listener.exchange(own);
    }
    await using slow = await replica.connect();
    await using other = await replica.connect();
    const order: string[] = [];
    const note = async (what: string, reply: Promise<unknown>) => {
      await reply;
      order.push(what);
    };
    // Each takes longer than a round, so that as many as a pipeline gets at once take much longer.
    const publish = ["PUBLISH", "a".repeat(1024), "news"];
    const many = Array.from({ length: 16 }, () => publish);
    await Promise.all([
      note("the pipeline", slow.exchange(many)),
      note("another client", other.send("PING")),
    ]);
    await slow.send("MULTI");
    await slow.exchange([...many, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"], ["PING"]]);
    const exec = slow.send("EXEC");
    await Promise.all([note("the transaction", exec), note("another client", other.send("PING"))]);
    expect(order).toEqual(["another client", "the pipeline", "another client", "the transaction"]);
    // It is closed after its last reply, not within the transaction.
    expect((await exec) as Reply[]).toEqual([...many.map(() => 0), 2, "PONG"]);
    await slow.closed;
    for (const listener of listeners) await listener[Symbol.asyncDispose]();
  });

  test("asks for the password first, and closes the connection of a client that guesses", async () => {
    using dir = tempDir("password");
    await Bun.write(dir.file("password"), "sésame\n");
    await using replica = await serving({ "requirepass-file": dir.file("password") });
    await using client = await replica.connect();
    expect(await ask(client, "PING")).toBe("-NOAUTH Authentication required.");
    expect(await ask(client, "AUTH", "wrong")).toMatch(/^-WRONGPASS/);
    expect(await ask(client, "AUTH", "somebody", "sésame")).toMatch(/^-WRONGPASS/);
    expect(await ask(client, "HELLO", 3)).toMatch(/^-NOAUTH/);
    expect(await ask(client, "AUTH", "sésame")).toBe("OK");
    expect(await ask(client, "PING")).toBe("PONG");
    expect(await ask(client, "RESET")).toBe("RESET");
    expect(await ask(client, "PING")).toBe("-NOAUTH Authentication required.");
    const guesses: Reply[] = [];
    for (let n = 0; n < 9; n++) guesses.push(await ask(client, "AUTH", `guess ${n}`));
    expect(guesses.at(-1)).toMatch(/^-ERR too many wrong passwords/);
    // The guessing client is disconnected. The right password is accepted, from the same address too.
    expect(await thrownBy(client.send("PING"))).toThrow();
    await using other = await replica.connect();
    expect(await ask(other, "AUTH", "sésame")).toBe("OK");
    expect(await ask(other, "AUTH", "wrong")).toMatch(/^-ERR too many wrong passwords/);
  });

  test("SHUTDOWN stops the replica as a signal does", async () => {
    await using replica = await serving();
    await using client = await replica.connect();
    expect(await ask(client, "SHUTDOWN", "SOON")).toBe("-ERR syntax error");
    client.send("SHUTDOWN", "NOW").catch(() => undefined);
    await until(() => replica.replica.state.at === "none", { what: "the end" });
  });
});

test("answers LOADING to each command before there is anything to answer it with", async () => {
  const settings = loadSettings({ flags: new Map([["port", "0"]]), env: {} });
  const port = new Port(settings, "0.0.0");
  try {
    await using client = await RespClient.connect({ port: port.port });
    const loading = "-LOADING the replica is starting";
    for (let time = 0; time < 4; time++) expect(await ask(client, "PING")).toBe(loading);
    const replies = await client.exchange([["PING"], ["ECHO", "x"], ["PING"]]);
    expect(replies.map(text)).toEqual([loading, loading, loading]);
  } finally {
    port.stop();
  }
});
