import type { Socket, TCPSocketListener } from "bun";
import { afterEach, expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { status } from "../../../src/cli/commands/status.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { fixedPassword } from "../../../src/config/password.ts";
import type { Settings } from "../../../src/config/settings.ts";
import { Screen } from "./screen.ts";

let listener: TCPSocketListener | undefined;
afterEach(() => {
  listener?.stop(true);
  listener = undefined;
});

/** A port that answers with `reply`. */
function serve(reply: (sent: string, socket: Socket<undefined>) => void): number {
  let sent = "";
  listener = Bun.listen<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        sent += chunk.toString();
        reply(sent, socket);
      },
    },
  });
  return listener.port;
}

const info = (state: string): string =>
  [
    "# Replication",
    "master_host:10.0.0.1",
    "master_port:6379",
    "master_link_status:up",
    "slave_repl_offset:1234567",
    "master_replid:0000000000000000000000000000000000000001",
    "",
    "# Replica",
    `state:${state}`,
    `ready:${state === "connected" ? 1 : 0}`,
    "durable_offset:1234000",
    "generation:2",
    "log_bytes:1048576",
    "rdb_bytes:8388608",
    "rdb_crc64:1234567890123456",
    "full_syncs:1",
    "partial_syncs:3",
    "last_error:",
    "",
  ].join("\r\n");

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const infoCommand = "*1\r\n$4\r\nINFO\r\n";

async function ask(
  options: {
    port: number;
    json?: boolean;
    watch?: boolean;
    args?: string[];
    signal?: AbortSignal;
    screen?: Screen;
  } & Partial<Pick<Settings, "requirepass" | "bind">>,
): Promise<{ code: number; text: string }> {
  const { json = false, watch = false, args = [], ...more } = options;
  const { signal = new AbortController().signal, screen = new Screen(), ...given } = more;
  const settings = { ...loadSettings({}), ...given };
  const stderr = new Screen().output;
  const switches = Object.entries({ json, watch }).filter(([, isOn]) => isOn);
  const flags = new Map(switches.map(([name]) => [name, "true"]));
  const context = {
    settings,
    args,
    options: flags,
    env: {},
    clock: realClock,
    signal,
    stdout: screen.output,
    stderr,
  };
  const code = await status(context);
  return { code, text: screen.text };
}

function complaint(options: Parameters<typeof ask>[0]): Promise<ReplicaError> {
  return rejectionOf(() => ask(options));
}

test("prints a screen, and exits with 0 when it is ready", async () => {
  const port = serve((sent, socket) => {
    expect(sent).toBe(infoCommand);
    socket.write(bulk(info("connected")));
  });
  const { code, text } = await ask({ port });
  expect(code).toBe(0);
  expect(text).toStartWith(`127.0.0.1:${port} is ready\n\nstate         connected, `);
  expect(text).toEndWith("\n");
});

test("exits with 1 when it is not", async () => {
  const port = serve((_sent, socket) => void socket.write(bulk(info("connect"))));
  const { code, text } = await ask({ port });
  expect(code).toBe(1);
  expect(text).toStartWith(`127.0.0.1:${port} is not ready:`);
});

test("--json prints every field, numbers as numbers", async () => {
  const port = serve((_sent, socket) => void socket.write(bulk(info("connected"))));
  const { text } = await ask({ port, json: true });
  expect(JSON.parse(text)).toEqual({
    master_host: "10.0.0.1",
    master_port: 6379,
    master_link_status: "up",
    slave_repl_offset: 1234567,
    master_replid: "0000000000000000000000000000000000000001",
    state: "connected",
    ready: 1,
    durable_offset: 1234000,
    generation: 2,
    log_bytes: 1048576,
    rdb_bytes: 8388608,
    rdb_crc64: "1234567890123456",
    full_syncs: 1,
    partial_syncs: 3,
    last_error: "",
  });
  expect(text.trimEnd()).not.toContain("\n");
});

test("accepts an answer that arrives byte by byte", async () => {
  const port = serve((_sent, socket) => {
    socket.setNoDelay(true);
    void (async () => {
      for (const byte of Buffer.from(bulk(info("connected")))) {
        socket.write(new Uint8Array([byte]));
        await Promise.resolve();
      }
    })();
  });
  expect((await ask({ port })).code).toBe(0);
});

test("sends AUTH with the password, and continues if none is needed", async () => {
  let sent = "";
  const port = serve((all, socket) => {
    sent = all;
    socket.write(
      `-ERR AUTH <password> called without any password configured for the default user.\r\n${bulk(info("connected"))}`,
    );
  });
  expect((await ask({ port, requirepass: fixedPassword("the test", "s3cret") })).code).toBe(0);
  expect(sent).toBe(`*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n${infoCommand}`);
});

test("asks the address given as an argument", async () => {
  const port = serve((_sent, socket) => void socket.write(bulk(info("connected"))));
  for (const address of [`127.0.0.1:${port}`, `localhost:${port}`, `:${port}`, `${port}`]) {
    expect((await ask({ port: 1, args: [address] })).code).toBe(0);
  }
  expect((await ask({ port, args: ["127.0.0.1"] })).code).toBe(0);
  expect((await ask({ port, bind: "0.0.0.0" })).code).toBe(0);
});

test.each([
  "",
  "0",
  "65536",
  "123456",
  "a b:1",
  "127.0.0.1:0",
  "127.0.0.1:70000",
  "[x]:1",
  "[1.2.3.4]:1",
  "::1",
  "h:x",
])("%p is no address", async (address) => {
  const error = await complaint({ port: 6380, args: [address] });
  expect(error.code).toBe("USAGE");
  expect(error.message).toContain("HOST:PORT");
  expect(error.message).toContain("or a port from 1 to 65535");
});

test("refuses --port 0", async () => {
  expect((await complaint({ port: 0 })).code).toBe("USAGE");
});

test("reports that nothing answers", async () => {
  const port = serve(() => undefined);
  listener?.stop(true);
  expect((await complaint({ port })).message).toBe(
    `nothing answers at 127.0.0.1:${port}: is replica running there?`,
  );
});

test.each([
  ["-NOAUTH Authentication required.\r\n", "AUTH_FAILED", "give --requirepass-file FILE"],
  ["-WRONGPASS invalid pair\r\n", "AUTH_FAILED", "rejects the password in --requirepass-file"],
  ["-ERR something\r\n", "PROTOCOL", "answered: ERR something"],
  ["-ERR \x1b[2J\x9b\r\n", "PROTOCOL", "answered: ERR ?[2J?"],
  ["-LOADING the replica is starting\r\n", "CONNECT_FAILED", "is still starting"],
  ["HTTP/1.1 400 Bad Request\r\n\r\n", "PROTOCOL", "is it another service?"],
  ["x".repeat(2 * 1024 * 1024), "PROTOCOL", "is it another service?"],
  [`$9999999\r\n${"x".repeat(2 * 1024 * 1024)}`, "PROTOCOL", "is it another service?"],
  ["$-1\r\n", "PROTOCOL", "is it another service?"],
  ["\0\xff\r\n\r\n", "PROTOCOL", "is it another service?"],
  [bulk("redis_version:7.2.0\r\nrole:master\r\n"), "PROTOCOL", "is not this kind of replica"],
] as const)("refuses the answer %.20j", async (answer, code, message) => {
  const port = serve((_sent, socket) => void socket.write(answer));
  const error = await complaint({ port });
  expect(error.code).toBe(code);
  expect(error.message).toContain(message);
});

test("reports a connection closed without an answer", async () => {
  const port = serve((_sent, socket) => void socket.end());
  expect((await complaint({ port })).message).toContain("closed the connection");
});

test("stops waiting for a silent peer when stopped", async () => {
  const stop = new AbortController();
  const port = serve(() => stop.abort(new ReplicaError("STOPPED", { message: "stopped" })));
  expect((await complaint({ port, signal: stop.signal })).code).toBe("STOPPED");
});

test("what a peer sends can't steer the terminal", async () => {
  // The second one is the same sequence by a single character, which JSON does not escape.
  const port = serve((_sent, socket) => void socket.write(bulk(info("x\x1b[2Jx\u009b2J"))));
  for (const json of [false, true]) {
    const { text } = await ask({ port, json });
    expect([json, text.replaceAll("\n", "").match(/\p{Cc}/u)]).toEqual([json, null]);
  }
});

test("--watch keeps asking over the same connection until stopped, and exits with 0", async () => {
  const stop = new AbortController();
  const sockets = new Set<unknown>();
  const port = serve((sent, socket) => {
    sockets.add(socket);
    if (sent.length === 2 * infoCommand.length) stop.abort();
    else socket.write(bulk(info("connect")));
  });
  const { code, text } = await ask({ port, watch: true, json: true, signal: stop.signal });
  expect(code).toBe(0);
  expect(sockets.size).toBe(1);
  expect(JSON.parse(text)).toMatchObject({ state: "connect", ready: 0 });
});
