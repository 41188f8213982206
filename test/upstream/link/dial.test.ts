import { expect, test } from "bun:test";
import type { Socket } from "bun";
import {
  type ConnectTo,
  dial,
  type Handlers,
  resolveHost,
} from "../../../src/upstream/link/dial.ts";

/** Dials addresses that do what their names say, and returns all that was reported. */
function dialing(addresses: readonly string[], isOver = () => false) {
  const reported: string[] = [];
  const tried: string[] = [];
  const sockets = new Map<string, { socket: Socket; handlers: Parameters<ConnectTo>[1] }>();
  const tell = (what: string) => void reported.push(what);
  const handlers: Handlers = {
    open: (socket) => tell(`open ${String(socket)}`),
    handshake: () => tell("handshake"),
    data: (socket, bytes) => tell(`data ${String(socket)} ${Buffer.from(bytes).toString()}`),
    drain: () => tell("drain"),
    end: () => tell("end"),
    close: () => tell("close"),
    error: () => tell("error"),
  };
  const connect: ConnectTo = async (address, given) => {
    tried.push(address);
    const socket = {
      toString: () => address,
      terminate: () => tell(`terminated ${address}`),
    } as unknown as Socket;
    sockets.set(address, { socket, handlers: given });
    if (address.startsWith("refuses")) {
      void given.connectError?.(socket, new Error(address));
      throw new Error(address);
    }
    if (address.startsWith("answers")) void given.open?.(socket);
  };
  const over = Promise.withResolvers<unknown>();
  const failed = (cause: unknown) => {
    tell(`failed ${(cause as Error).message}`);
    over.resolve(cause);
  };
  dial(addresses, connect, handlers, failed, isOver);
  return { reported, tried, sockets, over: over.promise };
}

/** Lets everything that is due now happen. */
const settle = async () => await new Promise((resolve) => setImmediate(resolve));

test("the next address is tried where one refuses; what the one reports that answers is reported", async () => {
  const { reported, tried, sockets } = dialing(["refuses-1", "answers-2", "answers-3"]);
  await settle();
  expect(tried).toEqual(["refuses-1", "answers-2"]);
  const { socket, handlers } = sockets.get("answers-2")!;
  void handlers.data?.(socket as never, Buffer.from("x"));
  void handlers.end?.(socket as never);
  void handlers.close?.(socket as never);
  expect(reported).toEqual(["open answers-2", "data answers-2 x", "end", "close"]);
});

test("where all refuse, the last one's reason is told, once", async () => {
  const { reported, tried, over } = dialing(["refuses-1", "refuses-2"]);
  await over;
  await settle();
  expect(tried).toEqual(["refuses-1", "refuses-2"]);
  expect(reported).toEqual(["failed refuses-2"]);
});

test("one that never answers doesn't hold up the next; if it does after all, it is closed", async () => {
  const { reported, sockets } = dialing(["silent-1", "answers-2"]);
  while (reported.length === 0) await Bun.sleep(5);
  expect(reported).toEqual(["open answers-2"]);
  const late = sockets.get("silent-1")!;
  void late.handlers.open?.(late.socket as never);
  void late.handlers.data?.(late.socket as never, Buffer.from("x"));
  void late.handlers.close?.(late.socket as never);
  expect(reported).toEqual(["open answers-2", "terminated silent-1"]);
});

test("one that is silent while all others refuse may still answer", async () => {
  const { reported, tried, sockets } = dialing(["silent-1", "refuses-2"]);
  while (tried.length < 2) await Bun.sleep(5);
  await settle();
  expect(reported).toEqual([]);
  const { socket, handlers } = sockets.get("silent-1")!;
  void handlers.close?.(socket as never, new Error("gave up"));
  expect(reported).toEqual(["failed gave up"]);
});

test("nothing more is tried once nobody waits", async () => {
  let asked = 0;
  const { reported, tried } = dialing(["refuses-1", "answers-2"], () => asked++ > 0);
  await settle();
  expect(tried).toEqual(["refuses-1"]);
  expect(reported).toEqual([]);
});

test("an address is its own; a name is looked up, and one that nobody has is an error with a code", async () => {
  expect(await resolveHost("127.0.0.3")).toEqual(["127.0.0.3"]);
  expect(await resolveHost("fe80::1%eth0")).toEqual(["fe80::1%eth0"]);
  expect(await resolveHost("localhost")).toContain("127.0.0.1");
  const error = await resolveHost("no-such-host.invalid").catch((cause: unknown) => cause);
  expect(String((error as { code?: string }).code)).toMatch(
    /ENOTFOUND|EAI_AGAIN|ESERVFAIL|ENODATA/,
  );
});
