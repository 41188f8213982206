import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { thrownBy } from "../support/error-of.ts";
import { limits } from "../../src/config/limits.ts";
import { fakePrimary } from "../support/fake-primary.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { type Reply, encodeCommand } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { behave, followArgs, smallRdb } from "./bad-input-rig.ts";

const MIB = 2 ** 20;
/** More than garbage takes, less than what the clients send. */
const FLAT_BYTES = 100 * MIB;
const PASSWORD = "open sesame";

const dir = tempDir("port-abuse");
const primary = fakePrimary(async (peer) => await behave(peer, smallRdb("a value")));
const open = freePort();
const locked = freePort();
let free: ReplicaProcess;
let guarded: ReplicaProcess;

beforeAll(async () => {
  await Bun.write(dir.file("password"), PASSWORD);
  free = startReplica([...followArgs(primary.url, dir.file("free")), "--port", String(open)]);
  guarded = startReplica([
    ...followArgs(primary.url, dir.file("guarded"), "--requirepass-file", dir.file("password")),
    "--port",
    String(locked),
  ]);
  await free.waitForLine(/connected by full resync/);
  await guarded.waitForLine(/connected by full resync/);
});

afterAll(async () => {
  await free.stop();
  await guarded.stop();
  await primary.stop();
  dir.remove();
});

const descriptors = (replica: ReplicaProcess) => readdirSync(`/proc/${replica.pid}/fd`).length;

/** A misbehaving client: it keeps what it receives as text, or doesn't read. */
class Rude implements Disposable {
  readonly socket: Socket;
  heard = "";
  isClosed = false;

  constructor(port: number, bytes: string | Uint8Array = "") {
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("error", () => undefined);
    this.socket.on("close", () => (this.isClosed = true));
    this.socket.on("data", (data) => (this.heard += data.toString("latin1")));
    this.socket.write(bytes);
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** Expects the port to serve other clients still. */
async function expectWell(port: number, password?: string): Promise<void> {
  await using client = await RespClient.connect({
    port,
    ...(password === undefined ? {} : { password }),
  });
  expect(await client.send("PING")).toBe("PONG");
}

const TAKEN = `127.0.0.1:${open}`;

test.each([
  [
    ["--port", String(open)],
    `listen on ${TAKEN}: the port is in use; choose another --port, or 0 for a free one`,
  ],
  [
    ["--bind", "192.0.2.1", "--port", "7001", "--unprotected"],
    "listen on 192.0.2.1:7001: this machine has no such address; choose another --bind",
  ],
  [
    ["--bind", "2001:db8::1", "--port", "7001", "--unprotected"],
    "listen on [2001:db8::1]:7001: this machine has no such address; choose another --bind",
  ],
  [
    ["--bind", "nosuch.invalid", "--port", "7001", "--unprotected"],
    "listen on nosuch.invalid:7001: no address is known for that name; choose another --bind",
  ],
  [
    ["--port", "0", "--http", "192.0.2.1:7001"],
    "serve HTTP on 192.0.2.1:7001: this machine has no such address; choose another --http",
  ],
  [
    ["--port", "0", "--http", "nosuch.invalid:7001"],
    "serve HTTP on nosuch.invalid:7001: no address is known for that name; choose another --http",
  ],
])("an address that can't be used, %p, ends with 1 and says what to do", async (args, says) => {
  const ended = await runReplica([...followArgs(primary.url, dir.file("taken")), ...args]);
  expect(ended.exitCode).toBe(1);
  expect(ended.stderr).toContain(`replica: can't ${says}\n`);
});

test("a taken port for HTTP is a warning: the replica follows, and serves once it is free", async () => {
  const port = freePort();
  const holder = Bun.listen({ hostname: "127.0.0.1", port, socket: { data: () => undefined } });
  await using replica = startReplica([
    ...followArgs(primary.url, dir.file("patient")),
    "--port",
    "0",
    "--http",
    `127.0.0.1:${port}`,
  ]);
  await replica.waitForLine(
    /warn .*can't serve HTTP on .*: the port is in use; .* code=PORT_IN_USE/,
  );
  await replica.waitForLine(/connected by full resync/);
  holder.stop(true);
  await replica.waitForLine(new RegExp(`serving metrics and health at http://127.0.0.1:${port}`));
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
});

// If every user may use every port, none is refused.
const lowestPort = Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
if (lowestPort <= 80) console.warn("every user may use port 80 here: its refusal is NOT tested");

test.skipIf(lowestPort <= 80)(
  "a privileged port without the privilege ends with 1 and says what to do",
  async () => {
    const rights = ["--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"];
    const under = process.getuid?.() === 0 ? ["setpriv", ...rights] : [];
    const more = [
      [
        ["--port", "80"],
        "listen on 127.0.0.1:80: permission denied; choose a port above 1023 with --port",
      ],
      [
        ["--port", "0", "--http", "127.0.0.1:80"],
        "serve HTTP on 127.0.0.1:80: permission denied; choose a port above 1023 with --http",
      ],
    ] as const;
    for (const [args, says] of more) {
      const ended = await runReplica([...followArgs(primary.url, dir.file("low")), ...args], {
        under,
      });
      expect(ended.exitCode).toBe(1);
      expect(ended.stderr).toContain(`replica: can't ${says}\n`);
    }
  },
);

test("too large a length is refused at its line, and no memory is reserved for it", async () => {
  const announced = [
    "*1\r\n$1073741824\r\n",
    "*1000000\r\n",
    "*2\r\n$4\r\nECHO\r\n$99999999999999\r\n",
    "*1\r\n$-1\r\n",
    "*1024\r\n" +
      `$${limits.command.maxArgBytes}\r\n${"x".repeat(limits.command.maxArgBytes)}\r\n`.repeat(5),
    "x".repeat(1_000_000),
    `*1\r\n$${"1".repeat(1_000_000)}`,
  ];
  const before = free.rssBytes();
  for (const bytes of announced) {
    const clients = Array.from({ length: 50 }, () => new Rude(open, bytes));
    for (const client of clients) {
      await until(() => client.isClosed, { what: `the end of ${bytes.slice(0, 20)}` });
      // A client that is still sending may see a reset instead of the reason.
      expect(client.heard).toMatch(/^(-ERR Protocol error: (invalid|too big) .*\r\n)?$/);
    }
    if (bytes.length < 100_000) expect(clients.some(({ heard }) => heard !== "")).toBe(true);
  }
  expect(free.rssBytes() - before).toBeLessThan(FLAT_BYTES);
  await expectWell(open);
});

test("before its login a client may send no more than a login", async () => {
  using long = new Rude(locked, `*2\r\n$4\r\nAUTH\r\n$${64 * 1024 + 1}\r\n`);
  using wide = new Rude(locked, "*11\r\n");
  await until(() => long.isClosed && wide.isClosed, { what: "the refusals" });
  expect(long.heard).toStartWith("-ERR Protocol error: invalid bulk length");
  expect(wide.heard).toStartWith("-ERR Protocol error: invalid multibulk length");
  await using client = await RespClient.connect({ port: locked });
  // A login has fewer than eleven words.
  const hello = ["HELLO", "3", "AUTH", "default", PASSWORD, "SETNAME", "name"];
  await client.exchange([hello]);
  expect(await client.send("CLIENT", "LIST", "ID", ...Array(12).fill("1"))).toBeString();
});

test("a client that sends too much without a login is disconnected, at no cost to others", async () => {
  const before = guarded.rssBytes();
  for (const line of ["\r\n", "PING\r\n"]) {
    const flood = line.repeat(500_000 / line.length);
    const strangers = Array.from({ length: 400 }, () => new Rude(locked, flood));
    await until(() => strangers.every(({ isClosed }) => isClosed), { what: "the disconnects" });
    // A client that is still sending may see a reset instead of the reason.
    expect(strangers.some(({ heard }) => /too much input without a login/.test(heard))).toBeTrue();
  }
  // What was read of all of them at once is given back once it is seen to be too much.
  await until(() => guarded.rssBytes() - before < FLAT_BYTES, { what: "memory to be given back" });
  // A pipeline may begin with the login.
  await using client = await RespClient.connect({ port: locked });
  const pings = Array.from({ length: 20_000 }, () => ["PING"]);
  expect((await client.exchange([["AUTH", PASSWORD], ...pings])).at(-1)).toBe("PONG");
});

test("serves the first thousand clients, tells the others, and releases all descriptors", async () => {
  const before = descriptors(free);
  const many = Array.from({ length: limits.clients + 200 }, () => new Rude(open));
  const turnedAway = () => many.filter(({ isClosed }) => isClosed);
  await until(() => turnedAway().length === 200, { what: "200 to be turned away" });
  for (const { heard } of turnedAway())
    expect(heard).toBe("-ERR max number of clients reached\r\n");
  const served = many.filter(({ isClosed }) => !isClosed);
  for (const { socket } of served) socket.write("PING\r\n");
  await until(() => served.every(({ heard }) => heard === "+PONG\r\n"), { what: "their answers" });
  for (const one of many) one[Symbol.dispose]();
  await until(() => descriptors(free) <= before, { what: "the descriptors to be released" });
  await using client = await RespClient.connect({ port: open });
  expect(await client.send("INFO", "stats")).toContain("rejected_connections:200\r\n");
  expect(free.stderr.match(/clients are connected: further ones are refused/g)).toHaveLength(1);
});

test("with few descriptors there are fewer places, and the replica still opens what it needs", async () => {
  const port = freePort();
  await using replica = startReplica(
    [...followArgs(primary.url, dir.file("few")), "--port", String(port)],
    { under: ["sh", "-c", 'ulimit -n 300; exec "$@"', "sh"] },
  );
  await replica.waitForLine(/connected by full resync/);
  await using client = await RespClient.connect({ port });
  const [, places] = (await client.send("CONFIG", "GET", "maxclients")) as string[];
  expect(Number(places)).toBe(300 - limits.ownDescriptors);
  expect(await client.send("INFO", "clients")).toContain(`maxclients:${places}\r\n`);
  const many = Array.from({ length: 400 }, () => new Rude(port));
  await until(() => many.filter(({ isClosed }) => isClosed).length > 200, {
    what: "the end of some",
  });
  expect(await client.send("BGSAVE")).toBe("Background saving started");
  await replica.waitForLine(/generation 2 replaces generation 1/);
  for (const one of many) one[Symbol.dispose]();
});

test("those that are silent before a login keep out nobody who logs in", async () => {
  const silent = Array.from({ length: limits.clients + 200 }, () => new Rude(locked));
  const gaveWay = () => silent.filter(({ isClosed }) => isClosed);
  await until(() => gaveWay().length >= 200, { what: "200 to give way" });
  for (const { heard } of gaveWay()) expect(heard).toBe("");
  await expectWell(locked, PASSWORD);
  for (const one of silent) one[Symbol.dispose]();
});

test("a client that doesn't read its replies isn't read from; one that reads late gets them all", async () => {
  const before = free.rssBytes();
  // Some 30 MB of answers, to each of twenty: far more than may be held for all of them.
  const asked = 5_000;
  const rude = Array.from({ length: 20 }, () => new Rude(open));
  for (const { socket } of rude) {
    socket.pause();
    socket.write("INFO\r\n".repeat(asked));
  }
  await using client = await RespClient.connect({ port: open });
  const others = async () => String(await client.send("CLIENT", "LIST"));
  await until(async () => (await others()).match(/ omem=[1-9]/g)?.length === rude.length, {
    what: "their answers to wait",
  });
  expect(free.rssBytes() - before).toBeLessThan(FLAT_BYTES);
  const [late, ...rest] = rude;
  for (const one of rest) one[Symbol.dispose]();
  const count = () => late!.heard.split("# Server").length - 1;
  late!.socket.resume();
  await until(() => count() === asked, { what: "all answers", everyMs: 50 });
  late![Symbol.dispose]();
});

test("a large pipeline waits its turn like any other client", async () => {
  const each = 20_000;
  await using client = await RespClient.connect({ port: open });
  const floods = Array.from({ length: 20 }, () => new Rude(open));
  await until(() => floods.every(({ socket }) => !socket.connecting), { what: "the links" });
  await client.send("CONFIG", "RESETSTAT");
  free.signal("SIGSTOP");
  let stats: Promise<Reply>;
  try {
    // The kernel takes it all.
    for (const { socket } of floods)
      await new Promise<void>((resolve) => socket.write("PING\r\n".repeat(each), () => resolve()));
    stats = client.send("INFO", "stats");
    await Bun.sleep(100);
  } finally {
    free.signal("SIGCONT");
  }
  const answered = /^total_commands_processed:(\d+)/m.exec(String(await stats))?.[1];
  expect(Number(answered)).toBeLessThan((floods.length * each) / 8);
  const all = each * "+PONG\r\n".length;
  await until(() => floods.every(({ heard }) => heard.length === all), { what: "all answers" });
  for (const one of floods) one[Symbol.dispose]();
});

test("a subscriber that doesn't read is disconnected, at no cost to others", async () => {
  const before = free.rssBytes();
  const deaf = Array.from({ length: 20 }, () => new Rude(open, "SUBSCRIBE news\r\n"));
  await until(() => deaf.every(({ heard }) => heard !== ""), { what: "them to listen" });
  for (const { socket } of deaf) socket.pause();
  await using client = await RespClient.connect({ port: open });
  const message = "x".repeat(60_000);
  await until(async () => (await client.send("PUBLISH", "news", message)) === 0, {
    what: "the subscribers to be disconnected",
    everyMs: 0,
  });
  expect(free.rssBytes() - before).toBeLessThan(FLAT_BYTES);
  for (const one of deaf) one[Symbol.dispose]();
});

test("the size of a transaction's replies is bounded", async () => {
  await using client = await RespClient.connect({ port: open });
  await client.send("MULTI");
  const large = Array.from({ length: 1000 }, () => ["INFO"]);
  const queued = await client.exchange(large);
  expect(queued.at(-1)).toBe("QUEUED");
  expect(await thrownBy(client.send("EXEC"))).toThrow();
  await expectWell(open);
});

test("an HTTP request with commands in its body is cut off at its first line", async () => {
  const page = (verb: string) =>
    `${verb} / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30\r\n\r\nCLIENT SETNAME evil\r\nSHUTDOWN\r\n`;
  using listener = new Rude(open, "SUBSCRIBE /\r\n");
  await until(() => listener.heard.includes("subscribe"), { what: "the subscription" });
  for (const port of [open, locked]) {
    // Where the page's own name leads here, it chooses the method.
    for (const verb of ["POST", "PUT", "GET", "PATCH", "PUBLISH", "INFO"]) {
      using browser = new Rude(port, page(verb));
      await until(() => browser.isClosed, { what: "the end" });
      expect(browser.heard).toBe("");
    }
  }
  listener.socket.write("PING\r\n");
  await until(() => listener.heard.includes("pong"), { what: "all that was published before" });
  expect(listener.heard).not.toContain("message");
  await expectWell(open);
  await expectWell(locked, PASSWORD);
  expect(free.stderr.match(/disconnected a client of the port that spoke HTTP/g)).toHaveLength(1);
});

test("a TLS client that was made to carry commands is cut off at its first byte", async () => {
  for (const port of [open, locked]) {
    for (const commands of ["\r\nSHUTDOWN\r\n", "\n*1\r\n$8\r\nSHUTDOWN\r\n"]) {
      using carrier = new Rude(port, `\x16\x03\x01\x02\x00${commands}`);
      await until(() => carrier.isClosed, { what: "the end" });
      expect(carrier.heard).toBe("-ERR Protocol error: TLS, which this port doesn't speak\r\n");
    }
  }
  await expectWell(open);
  await expectWell(locked, PASSWORD);
});

test("a silent client, or one that never completes a command, is disconnected in time", async () => {
  const listen = "SUBSCRIBE news\r\n";
  const slow = [
    new Rude(locked),
    new Rude(locked, "*2\r\n$4\r\nAUTH\r\n"),
    new Rude(open, "*2\r\n"),
    new Rude(open, "PIN"),
    new Rude(open, `${listen}*2\r\n$4\r\nPI`),
  ];
  const [idle, listening] = [new Rude(open, "PING\r\n"), new Rude(open, listen)];
  // Single bytes don't extend the time.
  const drip = setInterval(() => {
    for (const { socket } of slow.slice(1)) if (socket.writable) socket.write("1");
  }, 1000);
  const chatty = new Rude(locked);
  const chat = setInterval(() => {
    if (chatty.socket.writable) chatty.socket.write("PING\r\n");
  }, 1000);
  await until(() => [...slow, chatty].every(({ isClosed }) => isClosed), {
    what: "the slow clients to be disconnected",
  });
  clearInterval(drip);
  clearInterval(chat);
  expect([idle.isClosed, listening.isClosed]).toEqual([false, false]);
  for (const one of [idle, listening]) one[Symbol.dispose]();
});

test("floods of subscriptions, transactions and garbage are refused", async () => {
  const before = free.rssBytes();
  const name = (n: number) => `${n}`.padStart(60_000, "x");
  const subscribing = Array.from({ length: 2_000 }, (_, n) => encodeCommand(["SUBSCRIBE", `${n}`]));
  // Names that are too long: a few of them show it, and more would be measured as what is held.
  const long = Array.from({ length: 30 }, (_, n) => encodeCommand(["PSUBSCRIBE", name(n)]));
  const queueing = [encodeCommand(["MULTI"]), ...Array(5_000).fill(encodeCommand(["PING"]))];
  const garbage = [crypto.getRandomValues(new Uint8Array(60_000))];
  const floods = [subscribing, long, queueing, garbage].map((flood) => Buffer.concat(flood));
  const clients = floods.flatMap((flood) =>
    Array.from({ length: 10 }, () => new Rude(open, flood)),
  );
  await until(
    () =>
      clients.slice(0, 20).every(({ heard }) => /-ERR (too many|pattern is longer)/.test(heard)),
    {
      what: "the subscriptions to be refused",
    },
  );
  await until(() => clients.slice(20, 30).every(({ heard }) => heard.includes("-ERR too much")), {
    what: "the transactions to be refused",
  });
  expect(free.rssBytes() - before).toBeLessThan(FLAT_BYTES);
  for (const client of clients) client[Symbol.dispose]();
  await expectWell(open);
});

// Near the end: from here on a wrong password costs the connection.
test("answers ten wrong passwords at once: one by one, in a pipeline, in a transaction", async () => {
  await using inside = await RespClient.connect({ port: locked, password: PASSWORD });
  await using client = await RespClient.connect({ port: locked });
  const wrong = (count: number) => Array.from({ length: count }, (_, n) => ["AUTH", `guess ${n}`]);
  const said = (replies: Reply[]) =>
    replies.map((reply) => (reply instanceof Error ? reply.message.slice(0, 12) : reply));
  const told = said(await client.exchange(wrong(4)));
  // They count within a transaction, too.
  await inside.send("MULTI");
  await inside.exchange(wrong(4));
  told.push(...said((await inside.send("EXEC")) as Reply[]));
  const hello = ["HELLO", "3", "AUTH", "default", "guess", "AUTH", "default", PASSWORD];
  told.push(...said(await client.exchange([hello, ["AUTH", "other", PASSWORD], ...wrong(1)])));
  expect(told).toEqual([...Array(10).fill("WRONGPASS in"), "ERR too many"]);
  // The rest of the pipeline is ignored.
  using guesser = new Rude(locked, Buffer.concat(wrong(9).map((words) => encodeCommand(words))));
  await until(() => guesser.isClosed, { what: "the guesser to be disconnected" });
  expect(guesser.heard.match(/^-ERR too many/gm)).toHaveLength(1);
  // The right password is accepted from there still.
  await using owner = await RespClient.connect({ port: locked, password: PASSWORD });
  expect(await owner.send("PING")).toBe("PONG");
  // However many guess there: each waits, and none learns more by being quick.
  const guessers = Array.from({ length: 50 }, (_, n) => new Rude(locked, `AUTH other${n}\r\n`));
  await using late = await RespClient.connect({ port: locked, password: PASSWORD });
  expect(await late.send("PING")).toBe("PONG");
  await until(() => guessers.every(({ isClosed }) => isClosed), { what: "their answers" });
  // Nor does it help to send more while it waits.
  using pushy = new Rude(locked, Buffer.concat([Buffer.from("AUTH x\r\n"), Buffer.alloc(MIB, 10)]));
  await until(() => pushy.isClosed, { what: "the end" });
  // Authenticated clients stay.
  expect(await inside.send("PING")).toBe("PONG");
  expect(guarded.stderr.match(/too many wrong passwords from 127\.0\.0\.1/g)).toHaveLength(1);
});

test("a client that has left before it is accepted costs nothing", async () => {
  const before = descriptors(free);
  free.signal("SIGSTOP");
  try {
    const rude = Array.from({ length: 20 }, () => new Rude(open, "PING\r\n"));
    await until(() => rude.every(({ socket }) => !socket.connecting), { what: "their links" });
    for (const { socket } of rude) socket.resetAndDestroy();
    await until(() => rude.every(({ isClosed }) => isClosed), { what: "them to be gone" });
  } finally {
    free.signal("SIGCONT");
  }
  await expectWell(open);
  await until(() => descriptors(free) <= before, { what: "the descriptors to be released" });
  expect(free.stderr).not.toMatch(/ error /);
});
