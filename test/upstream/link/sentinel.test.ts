import { describe, expect, spyOn, test } from "bun:test";
import { thrownBy } from "../../support/error-of.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { parsePrimarySource } from "../../../src/config/primary-source.ts";
import { parsePrimaryUrl } from "../../../src/config/primary-url.ts";
import { realClock } from "../../../src/base/clock.ts";
import { logger } from "../../../src/base/logger.ts";
import { Sentinels } from "../../../src/upstream/link/sentinel.ts";
import { fakePrimary } from "../../support/fake-primary.ts";
import { fakeSentinel, named, sentinelUrl, UNKNOWN } from "../../support/fake-sentinel.ts";
import { freePort } from "../../support/ports.ts";
import { tempDir } from "../../support/temp.ts";
import { certificates } from "../../support/tls.ts";
import { PATIENCE_MS, until, within, withinOwnTime } from "../../support/wait.ts";

const never = new AbortController().signal;

function ask(url: string, flags: Record<string, string> = {}) {
  const source = parsePrimarySource(url);
  if (source.kind !== "sentinel") throw new Error(`${url} names no sentinel`);
  const settings = loadSettings({ flags: new Map(Object.entries(flags)), env: {} });
  return new Sentinels(source, realClock, settings);
}

/** Why nobody names a primary. */
async function complaint(sentinels: Sentinels): Promise<ReplicaError> {
  try {
    await sentinels.locate(never);
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    expect(error).toMatchObject({ code: "PRIMARY_UNKNOWN", retry: "backoff" });
    expect(error.message).toStartWith("no sentinel names the primary: ");
    return error;
  }
  throw new Error("a primary was named");
}

describe("the primary", () => {
  test("is the one that the sentinel names, with the URL's login", async () => {
    await using sentinel = fakeSentinel(() => named(7000, "10.1.2.3"));
    const url = sentinelUrl([sentinel], { login: "u:p@", master: "the%20one" });
    expect(await ask(url).locate(never)).toEqual({
      kind: "tcp",
      host: "10.1.2.3",
      port: 7000,
      username: "u",
      password: "p",
    });
    expect(sentinel.asked).toEqual([["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "the one"]]);
    await until(() => sentinel.peers[0]!.isClosed, { what: "the end of the link" });
  });

  test.each(["::1", "redis-1.example", "fe80::1"])("may be at %s", async (host) => {
    await using sentinel = fakeSentinel(() => named(1, host));
    expect(await ask(sentinelUrl([sentinel])).locate(never)).toMatchObject({ host, port: 1 });
  });

  test("is asked of the next sentinel where the first is down or doesn't know the name", async () => {
    await using strange = fakeSentinel(() => UNKNOWN);
    await using knowing = fakeSentinel(() => named(7000));
    await using unasked = fakeSentinel(() => named(7001));
    const sentinels = ask(sentinelUrl([{ port: freePort() }, strange, knowing, unasked]));
    expect(await sentinels.locate(never)).toMatchObject({ port: 7000 });
    expect([strange, knowing, unasked].map(({ asked }) => asked.length)).toEqual([1, 1, 0]);
    await knowing.stop();
    expect(await sentinels.locate(never)).toMatchObject({ port: 7001 });
  });

  test("is asked first of the sentinel whose primary connected, last of one whose didn't", async () => {
    await using stale = fakeSentinel(() => named(7000));
    await using knowing = fakeSentinel(() => named(7001));
    const sentinels = ask(sentinelUrl([stale, knowing]));
    const next = async () => (await sentinels.locate(never))!;
    const dead = await next();
    expect(dead).toMatchObject({ port: 7000 });
    // Nothing is known of it yet.
    expect(await next()).toMatchObject({ port: 7000 });
    sentinels.judge(dead, false);
    const other = await next();
    expect(other).toMatchObject({ port: 7000 });
    sentinels.judge(other, false);
    const alive = await next();
    expect(alive).toMatchObject({ port: 7001 });
    sentinels.judge(alive, true);
    expect(await next()).toMatchObject({ port: 7001 });
    expect(stale.asked.length).toBe(3);
  });

  test("is the last one followed where every sentinel is away, unless one knows better", async () => {
    const given = parsePrimaryUrl("redis://h:1");
    await using strange = fakeSentinel(() => UNKNOWN);
    const away = { port: freePort() };
    expect(await ask(sentinelUrl([away])).locate(never, given)).toBe(given);
    const asked = ask(sentinelUrl([away, strange])).locate(never, given);
    expect(await thrownBy(asked)).toThrow("no sentinel names the primary");
  });

  test("is told to be tried again once in an outage, not at each attempt", async () => {
    const given = parsePrimaryUrl("redis://h:1");
    const warn = spyOn(logger, "warn");
    try {
      const sentinel = fakeSentinel(() => named(7000));
      const { port } = sentinel;
      const sentinels = ask(sentinelUrl([sentinel]));
      const told = () =>
        warn.mock.calls.filter(([text]) => String(text).includes(`127.0.0.1:${port}`)).length;
      await sentinel.stop();
      for (let attempt = 0; attempt < 5; attempt++) await sentinels.locate(never, given);
      expect(told()).toBe(1);
      await using back = fakeSentinel(() => named(7000), { port });
      expect(await sentinels.locate(never, given)).toMatchObject({ port: 7000 });
      await back.stop();
      await sentinels.locate(never, given);
      expect(told()).toBe(2);
    } finally {
      warn.mockRestore();
    }
  });

  test("may arrive in any pieces", async () => {
    await using sentinel = fakePrimary(async (peer) => {
      await peer.readCommand();
      await peer.sendInChunks(named(7000), 1);
    });
    expect(await ask(sentinelUrl([sentinel])).locate(never)).toMatchObject({ port: 7000 });
  });

  test("is asked for over TLS, and followed over TLS", async () => {
    const tls = { certificate: certificates.server };
    await using sentinel = fakeSentinel(() => named(7000), { tls });
    const url = sentinelUrl([sentinel], { scheme: "rediss" });
    const trusting = ask(url, { "tls-ca": certificates.ca });
    expect(await trusting.locate(never)).toMatchObject({ kind: "tls", port: 7000 });
    const { message } = await complaint(ask(url));
    expect(message).toContain("TLS: ");
    expect(message).toContain("check --tls-ca");
  });
});

describe("a sentinel's own password", () => {
  test("goes before the question, with the user if there is one", async () => {
    using dir = tempDir("password");
    await Bun.write(dir.file("password"), "hunter2\n");
    await using sentinel = fakeSentinel(() => named(7000), { password: "hunter2" });
    const flags = { "sentinel-password-file": dir.file("password") };
    const url = sentinelUrl([sentinel], { login: "u:other@" });
    expect(await ask(url, flags).locate(never)).toMatchObject({ password: "other" });
    await ask(url, { ...flags, "sentinel-username": "watcher" }).locate(never);
    const [first = "", second = ""] = sentinel.peers.map(({ received }) => received.toString());
    expect(first).toStartWith("*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n*3\r\n");
    expect(second).toStartWith("*3\r\n$4\r\nAUTH\r\n$7\r\nwatcher\r\n$7\r\nhunter2\r\n*3\r\n");
  });

  test("is not sent where there is none; the primary's never stands in", async () => {
    await using sentinel = fakeSentinel(() => named(7000), { password: "hunter2" });
    const { message } = await complaint(ask(sentinelUrl([sentinel], { login: "u:hunter2@" })));
    expect(message).toContain(
      "the sentinel requires a password (-NOAUTH Authentication required.)",
    );
    expect(message).toContain("set --sentinel-password-file");
    expect(sentinel.peers[0]!.received.toString()).not.toContain("AUTH");
  });

  test.each([
    ["-WRONGPASS invalid username-password pair", "check --sentinel-username"],
    ["-ERR AUTH <password> called without any password configured", "leave it out"],
    ["-ERR unknown command `AUTH`, with args beginning with: `hunter2`, ", "refuses the login"],
    ["-ERR AUTH hunter2 is not it", "refuses the login (-ERR AUTH *** is not it)"],
    ["*2", "refuses the login"],
  ])("%s", async (reply, reason) => {
    using dir = tempDir("password");
    await Bun.write(dir.file("password"), "hunter2");
    await using sentinel = fakePrimary([{ command: ["AUTH"] }, { send: `${reply}\r\n` }]);
    const flags = { "sentinel-password-file": dir.file("password") };
    const { message } = await complaint(ask(sentinelUrl([sentinel]), flags));
    expect(message).toContain(reason);
    expect(message).not.toContain("hunter2");
  });
});

describe("no primary", () => {
  test("names all sentinels that are down, and the reason once", async () => {
    const [first, second] = [freePort(), freePort()];
    const { message } = await complaint(ask(sentinelUrl([{ port: first }, { port: second }])));
    expect(message).toBe(
      `no sentinel names the primary: connection refused: nothing listens there (127.0.0.1:${first}, 127.0.0.1:${second})`,
    );
  });

  test("says that the name is unknown", async () => {
    await using first = fakeSentinel(() => UNKNOWN);
    await using second = fakeSentinel(() => "$-1\r\n");
    const { message } = await complaint(ask(sentinelUrl([first, second], { master: "mian" })));
    expect(message).toContain(
      `the master's name "mian" is not known there: check the name in the URL (127.0.0.1:`,
    );
  });

  test("gives each sentinel's reason, in order", async () => {
    await using first = fakeSentinel(() => UNKNOWN);
    await using second = fakeSentinel(() => "-LOADING not now\r\n");
    const { message } = await complaint(ask(sentinelUrl([first, second])));
    expect(message).toEndWith(
      `check the name in the URL (127.0.0.1:${first.port}); the sentinel refuses: -LOADING not now (127.0.0.1:${second.port})`,
    );
  });

  test.each([
    ["+PONG\r\n", `this isn't a sentinel: it answers "+PONG"`],
    ["HTTP/1.1 400 Bad Request\r\n\r\n", `this isn't a sentinel: it answers "HTTP/1.1 400 Bad`],
    ["\r\n", "this isn't a sentinel"],
    ["-ERR unknown command 'SENTINEL', with args beginning with: 'x'\r\n", "this isn't a sentinel"],
    ["-NOPERM no permissions\r\n", "set --sentinel-username"],
    ["*3\r\n$1\r\nh\r\n$1\r\n1\r\n$1\r\n2\r\n", "this isn't a sentinel"],
    ["*2\r\nh\r\n", "this isn't a sentinel"],
    ["*2\r\n$-1\r\n", "this isn't a sentinel"],
    ["*2\r\n$99999\r\n", "this isn't a sentinel"],
    ["*2\r\n$3\r\nhost\r\n", "this isn't a sentinel"],
    ["*2\r\n$4\r\nh\r\nt\r\n", "this isn't a sentinel"],
    ["*2\r\n$1\r\nh\r\n:7000\r\n", "this isn't a sentinel"],
    ["*2\r\n$1\r\nh\r\n$5\r\n70000\r\n", "from 1 to 65535"],
    ["*2\r\n$1\r\nh\r\n$1\r\n0\r\n", "from 1 to 65535"],
    ["*2\r\n$1\r\nh\r\n$2\r\n-1\r\n", "from 1 to 65535"],
    ["*2\r\n$0\r\n\r\n$1\r\n1\r\n", "not a valid host name"],
    ["*2\r\n$5\r\nu:p@h\r\n$1\r\n1\r\n", "not a valid host name"],
    ["*2\r\n$3\r\na\x1bb\r\n$1\r\n1\r\n", "not a valid host name"],
  ])("where one says %j", async (reply, reason) => {
    await using sentinel = fakeSentinel(() => reply);
    const { message } = await complaint(ask(sentinelUrl([sentinel])));
    expect(message).toContain(reason);
    expect(message).not.toMatch(/\p{Cc}/u);
    await until(() => sentinel.peers[0]!.isClosed, { what: "the end of the link" });
  });

  test("where one sends a line without an end", async () => {
    await using sentinel = fakeSentinel(() => "x".repeat(100_000));
    const { message } = await complaint(ask(sentinelUrl([sentinel])));
    expect(message).toContain("a line longer than 1024 bytes");
    await until(() => sentinel.peers[0]!.isClosed, { what: "the end of the link" });
  });

  test("where one hangs up", async () => {
    await using sentinel = fakePrimary([{ command: ["SENTINEL"] }, { close: true }]);
    const { message } = await complaint(ask(sentinelUrl([sentinel])));
    expect(message).toContain("the sentinel closed the link before it sent anything");
    expect(message).toContain("use rediss+sentinel://");
  });

  test("where one is silent, or never comes to an end, within --sync-timeout", async () => {
    await using silent = fakePrimary((peer) => peer.closed);
    await using endless = fakePrimary(async (peer) => {
      await peer.send("*2\r\n$1000\r\n");
      while (!peer.isClosed) {
        await peer.send("x").catch(() => undefined);
        await Bun.sleep(5);
      }
    });
    const sentinels = ask(sentinelUrl([silent, endless]), { "sync-timeout": "200ms" });
    const { message } = await within(PATIENCE_MS, "both limits", complaint(sentinels));
    expect(message).toEndWith(
      `no answer within 200 ms (--sync-timeout) (127.0.0.1:${silent.port}, 127.0.0.1:${endless.port})`,
    );
    for (const { peers } of [silent, endless]) await peers[0]!.untilClosed();
  });
});

test("giving up ends at once: no further sentinel is asked", async () => {
  await using silent = fakePrimary((peer) => peer.closed);
  await using next = fakeSentinel(() => named(7000));
  const stop = new AbortController();
  const locating = ask(sentinelUrl([silent, next])).locate(stop.signal);
  await until(() => silent.peers[0], { what: "the connection" });
  stop.abort();
  expect(await withinOwnTime(1_000, "the end", locating)).toBeUndefined();
  await silent.peers[0]!.untilClosed();
  expect(next.peers.length).toBe(0);
});
