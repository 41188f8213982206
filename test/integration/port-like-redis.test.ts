import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { realDisk } from "../../src/store/disk/disk.ts";
import { fakePrimary } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import type { Reply, ReplyError } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { PATIENCE_MS, within } from "../support/wait.ts";
import { behave, smallRdb } from "./bad-input-rig.ts";

const dir = tempDir("port-like-redis");
const primary = fakePrimary(async (peer) => await behave(peer, smallRdb("a value")));
const replica = follow(primary.url, realDisk, dir);
let server: RealServer;

beforeAll(async () => {
  server = await startServer("redis-7.0");
  await replica.connected();
});

afterAll(async () => {
  await server.stop();
  await replica[Symbol.asyncDispose]();
  await primary.stop();
  dir.remove();
});

/** Sends bytes and a PING; returns everything received up to the reply to that, or to the end. */
async function told(port: number, bytes: string): Promise<string> {
  const mark = "the end of the questions";
  const heard = Promise.withResolvers<void>();
  let text = "";
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (_socket, chunk) => {
        text += Buffer.from(chunk).toString("latin1");
        if (text.includes(mark)) heard.resolve();
      },
      close: () => {
        text += "(the end)";
        heard.resolve();
      },
    },
  });
  socket.write(Buffer.from(`${bytes}PING "${mark}"\r\n`, "latin1"));
  await within(PATIENCE_MS, `the answer to ${bytes.slice(0, 40)}`, heard.promise);
  socket.terminate();
  return text.split("(the end)").slice(0, 2).join("(the end)");
}

const lines = (...commands: string[]) => commands.map((command) => `${command}\r\n`).join("");

describe("the same bytes get the same reply as from Redis 7.0", () => {
  const frames = [
    "*1\r\n$4\r\nPING\r\n",
    "*0\r\n",
    "*-5\r\n",
    "\r\n",
    "*2147483648\r\n",
    "*x\r\n",
    "*\r\n",
    "*1\r\nPING\r\n",
    "*1\r\n$-1\r\n",
    "*1\r\n$536870913\r\n",
    "*1\r\n$99999999999999999999\r\n",
    "*1\r\n$x\r\n",
    'PING "a\r\n',
    "PING 'a'b\r\n",
  ];
  const commands = String.raw`
    PING a b
    ECHO
    ECHO "\x00\r\n"
    EXEC
    DISCARD
    SELECT x
    SELECT -1
    SELECT 16
    CLIENT
    CLIENT NOSUCH
    CLIENT KILL
    CLIENT KILL x
    CLIENT KILL ID abc
    CLIENT KILL TYPE abc
    CLIENT KILL FOO bar
    CLIENT SETNAME
    CLIENT SETNAME "a b"
    CLIENT GETNAME x
    CLIENT LIST TYPE x
    CLIENT LIST ID x
    CLIENT LIST x
    CLIENT NO-EVICT x
    CONFIG
    CONFIG GET
    CONFIG GET nosuch
    CONFIG SET
    CONFIG SET a
    CONFIG SET nosuch 1
    CONFIG NOSUCH
    COMMAND NOSUCH
    COMMAND COUNT x
    COMMAND INFO nosuch
    COMMAND DOCS nosuch
    COMMAND LIST x
    AUTH x
    AUTH a b c
    AUTH default x
    AUTH other x
    HELLO 4
    HELLO x
    HELLO 3 FOO
    HELLO 3 AUTH a
    HELLO 2 SETNAME "a b"
    RESET x
    QUIT x
    QUIT
    RESET
    DBSIZE x
    TIME x
    LASTSAVE x
    ROLE x
    REPLICAOF a
    REPLICAOF 127.0.0.1 x
    REPLICAOF 127.0.0.1 70000
    REPLICAOF 127.0.0.1 -1
    SHUTDOWN x
    SHUTDOWN SAVE NOSAVE
    SHUTDOWN ABORT
    SLOWLOG
    SLOWLOG NOSUCH
    SLOWLOG GET 0
    SLOWLOG GET -2
    SLOWLOG GET x
    SLOWLOG GET 1 2
    SLOWLOG LEN x
    SLOWLOG RESET
    SLOWLOG RESET x
    LATENCY
    LATENCY NOSUCH
    LATENCY LATEST
    LATENCY LATEST x
    LATENCY HISTORY
    LATENCY HISTORY fork
    LATENCY HISTOGRAM nosuch
    LATENCY RESET
    LATENCY RESET fork
    PUBLISH a
    PUBLISH a b
    SUBSCRIBE
    UNSUBSCRIBE
    PUNSUBSCRIBE x
    UNSUBSCRIBE a b
    INFO nosuch
    NOSUCH
    NoSuch a b
    constructor
    "" ""
    "a\x00b" "\x00" "a\x00b" c
    "NO\r\nSUCH" "a\r\nb" "\n"
    NOSUCH "\xc3\xa9\xff" it's\x x'y"
  `
    .trim()
    .split(/\n */);
  const sessions = [
    lines("MULTI", "MULTI", "PING", "EXEC"),
    lines("MULTI", "ECHO", "EXEC"),
    lines("MULTI", "SHUTDOWN x", "EXEC"),
    lines("MULTI", "RESET"),
    lines("MULTI", "QUIT"),
    lines("MULTI", "AUTH x", "SELECT 99", "ECHO a", "EXEC"),
    lines("MULTI", "DISCARD", "DISCARD"),
    lines("SUBSCRIBE a", "INFO", "PING", "PING x", "PSUBSCRIBE a*", "UNSUBSCRIBE", "PUNSUBSCRIBE"),
    lines("SUBSCRIBE a a b", "MULTI", "RESET"),
    lines("SUBSCRIBE a", "QUIT"),
    lines("MULTI", "NOSUCH a", "PING", "EXEC"),
    lines("SUBSCRIBE a", "NOSUCH a"),
    lines(`${"n".repeat(200)} a`),
    lines(`NOSUCH ${"a".repeat(300)} b`),
    lines(`NOSUCH ${"a".repeat(124)} bb c`),
    lines(`NOSUCH ${"a".repeat(60)} ${"b".repeat(100)} c`),
    lines(`NOSUCH ${"x ".repeat(60)}`),
    lines("POST / HTTP/1.1", "Host: x", "", "CLIENT SETNAME evil"),
  ];
  const cases = [...frames, ...commands.map((command) => lines(command)), ...sessions];

  test.each(cases.map((bytes) => [JSON.stringify(bytes), bytes]))("%s", async (_name, bytes) => {
    const [theirs, ours] = await Promise.all([told(server.port, bytes), told(replica.port, bytes)]);
    expect(ours).toBe(theirs);
  });
});

/** Whether a command works on keys. `about` is its entry in COMMAND; the tenth element lists subcommands. */
function isOnKeys(about: readonly Reply[]): boolean {
  const flags = (about[2] as Reply[]).map(String);
  const subcommands = (about[9] ?? []) as Reply[][];
  const isFlagged = ["readonly", "write", "movablekeys"].some((flag) => flags.includes(flag));
  return isFlagged || about[3] !== 0 || subcommands.some(isOnKeys);
}

test.each(availableServers())(
  "tells the key commands of %s from unknown commands",
  async (kind) => {
    await using real = await startServer(kind);
    await using client = await RespClient.connect({ port: replica.port });
    const own = ((await client.send("COMMAND", "LIST")) as Reply[]).map(String);
    const all = ((await real.send("COMMAND")) as Reply[][]).filter(
      // In Valkey 9 only its subcommands about slots take keys.
      ([name]) => !own.includes(String(name).toLowerCase()) && name !== "cluster",
    );
    expect(all.length).toBeGreaterThan(200);
    const replies = await client.exchange(all.map(([name]) => [String(name), "x"]));
    const wanted = all.map((about) =>
      isOnKeys(about)
        ? `${about[0]}: ERR this replica keeps its data on disk and answers no key commands`
        : `${about[0]}: ERR unknown command '${about[0]}', with args beginning with: 'x' `,
    );
    const said = replies.map(
      (reply, index) => `${all[index]![0]}: ${(reply as ReplyError).message}`,
    );
    expect(said).toEqual(wanted);
  },
);

describe("differs from Redis:", () => {
  test("control characters of an unknown command are replaced", async () => {
    const said = await told(replica.port, '"NO\\x1b[2J" "a\\x07\\x7fb"\r\n');
    const [line] = said.split("\r\n");
    expect(line).toBe("-ERR unknown command 'NO [2J', with args beginning with: 'a  b' ");
  });

  test.each([
    ["*1000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n(the end)"],
    ["*1\r\n$1073741824\r\n", "-ERR Protocol error: invalid bulk length\r\n(the end)"],
    ["*1\r\n$4\r\nPINGxx", "-ERR Protocol error: expected CRLF after a bulk string\r\n(the end)"],
  ])("%p", async (bytes, says) => {
    expect(await told(replica.port, bytes)).toBe(says);
  });
});
