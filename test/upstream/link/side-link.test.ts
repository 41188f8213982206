import { expect, test } from "bun:test";
import { thrownBy } from "../../support/error-of.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { limits } from "../../../src/config/limits.ts";
import type { PrimaryTarget } from "../../../src/config/primary-url.ts";
import { SideLink } from "../../../src/upstream/link/side-link.ts";
import { until } from "../../support/wait.ts";

const TLS = {
  caFile: undefined,
  certFile: undefined,
  keyFile: undefined,
  serverName: undefined,
  insecure: false,
};

/** A server that answers each chunk with the next of these texts, and closes where there is none. */
function answering(...texts: readonly string[]) {
  const left = [...texts];
  let received = "";
  let connections = 0;
  let unsent: Buffer = Buffer.alloc(0);
  const send = (socket: { write(bytes: Buffer): number }) => {
    unsent = unsent.subarray(Math.max(0, socket.write(unsent)));
  };
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      drain: send,
      open: () => void connections++,
      data: (socket, bytes) => {
        received += bytes.toString("latin1");
        const text = left.shift();
        if (text === undefined) socket.end();
        else {
          unsent = Buffer.from(text);
          send(socket);
        }
      },
    },
  });
  const target: PrimaryTarget = {
    kind: "tcp",
    host: "127.0.0.1",
    port: listener.port,
    username: undefined,
    password: undefined,
  };
  return {
    target,
    connections: () => connections,
    received: () => received,
    [Symbol.dispose]: () => listener.stop(true),
  };
}

function linkTo(
  target: PrimaryTarget,
  password?: string,
  syncTimeoutMs = 20_000,
): SideLink & Disposable {
  const login = password === undefined ? undefined : { username: "me", password, from: "the test" };
  const link = new SideLink(target, { tls: TLS, login: { read: () => login }, syncTimeoutMs });
  return Object.assign(link, { [Symbol.dispose]: () => link.close() });
}

test("asks over one connection, with the login first, and takes arrays apart", async () => {
  using server = answering("+OK\r\n$3\r\na:1\r\n", "*2\r\n$1\r\nn\r\n$1\r\nv\r\n-ERR no\r\n");
  using link = linkTo(server.target, "secret");
  expect(await link.ask(["INFO"])).toEqual([{ isError: false, text: "a:1" }]);
  expect((await link.ask(["CONFIG", "GET", "n"], ["X"])).map(({ text }) => text)).toEqual([
    "2",
    "n",
    "v",
    "ERR no",
  ]);
  expect(server.connections()).toBe(1);
  expect(server.received()).toStartWith(
    "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n*1\r\n$4\r\nINFO",
  );
});

test.each([
  ["a wrong login", ["-WRONGPASS no\r\n"], "AUTH_FAILED"],
  ["another protocol", ["+OK\r\nHTTP/1.1 400\r\n"], "PROTOCOL"],
  ["a reply that never ends", [`+OK\r\n$${limits.statusReplyBytes}\r\n`], "PROTOCOL"],
  ["a close", [], "LINK_LOST"],
] as const)("%s fails the question, and the next one connects anew", async (_name, texts, code) => {
  using server = answering(...texts);
  using link = linkTo(server.target, "secret");
  for (const connections of [1, 2]) {
    const failure = await link.ask(["INFO"]).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ReplicaError);
    if (connections === 1) expect((failure as ReplicaError).code).toBe(code);
    expect((failure as ReplicaError).message).not.toContain("secret");
    expect(link.isAsking).toBe(false);
    await until(() => server.connections() === connections, { what: "a connection" });
  }
});

test("shows no password that the server repeats", async () => {
  using refusing = answering("-ERR hunter2 is wrong\r\n");
  using refused = linkTo(refusing.target, "hunter2");
  expect((await refused.ask(["INFO"]).catch((error: unknown) => error)) as Error).toMatchObject({
    message: expect.stringContaining("(-ERR *** is wrong)"),
  });
  using repeating = answering("+OK\r\n-ERR you are hunter2\r\n");
  using link = linkTo(repeating.target, "hunter2");
  expect(await link.ask(["INFO"])).toEqual([{ isError: true, text: "ERR you are ***" }]);
});

test("a server that doesn't answer in time, or isn't there", async () => {
  using server = answering("$100\r\n");
  using link = linkTo(server.target, undefined, 50);
  expect(await thrownBy(link.ask(["INFO"]))).toThrow("no answer within 50 ms (--sync-timeout)");
  using nobody = linkTo({ ...server.target, kind: "tcp", port: 1 } as PrimaryTarget);
  expect(await thrownBy(nobody.ask(["INFO"]))).toThrow("connection refused");
});

test("a login that can't be read fails the question", async () => {
  using server = answering();
  const login = () => {
    throw new ReplicaError("AUTH_FAILED", { message: "the password's file is gone" });
  };
  const options = { tls: TLS, login: { read: login }, syncTimeoutMs: 20_000 };
  const link = new SideLink(server.target, options);
  expect(await thrownBy(link.ask(["INFO"]))).toThrow("the password's file is gone");
  expect([link.isAsking, server.connections()]).toEqual([false, 0]);
});

test("a question that is given up ends at once", async () => {
  using server = answering("$100\r\n");
  using link = linkTo(server.target);
  const asked = link.ask(["INFO"]);
  expect(link.isAsking).toBe(true);
  link.close();
  expect(await thrownBy(asked)).toThrow("not asked any more");
});

test("arrays in arrays without end are refused before they take memory", async () => {
  using server = answering("*1\r\n".repeat(1_000));
  using link = linkTo(server.target);
  expect(await thrownBy(link.ask(["INFO"]))).toThrow("got more than 64 replies to one question");
});

test("drops a peer whose replies are short enough each, and too much together", async () => {
  const each = limits.statusReplyBytes - 100;
  const some = Math.ceil(limits.answerBytes / each) + 1;
  using server = answering(`*${some}\r\n${`$${each}\r\n${"x".repeat(each)}\r\n`.repeat(some)}`);
  using link = linkTo(server.target);
  const error = await link.ask(["CONFIG", "GET", "*"]).catch((cause: unknown) => cause);
  expect(error).toMatchObject({ code: "PROTOCOL" });
  expect((error as ReplicaError).message).toContain("in answer to one question");
});
