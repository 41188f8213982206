import { expect, test } from "bun:test";
import { join } from "node:path";
import { Link } from "../../../src/upstream/link/link.ts";

test("says that no descriptor is free, instead of connection refused", async () => {
  const script = join(import.meta.dir, "link-without-descriptors.ts");
  const child = Bun.spawn(["sh", "-c", 'ulimit -n 64; exec "$0" "$1"', process.execPath, script], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const said = await new Response(child.stdout).text();
  expect(said).toStartWith("CONNECT_FAILED this process has no free file descriptor (EMFILE): ");
  expect(await child.exited).toBe(0);
});

/** What a link by TLS comes to, to a peer that answers whatever it is sent with `answer`, then ends. */
async function tlsOutcome(answer: string, peer: "the primary" | "the sentinel"): Promise<string> {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: (socket) => {
        socket.write(answer);
        socket.end();
      },
    },
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const target = { kind: "tls", host: "127.0.0.1", port: listener.port } as const;
  const files = { caFile: undefined, certFile: undefined, keyFile: undefined };
  const events = {
    opened: () => resolve("opened"),
    bytes: () => undefined,
    lost: ({ code, message }: { code: string; message: string }) => resolve(`${code} ${message}`),
  };
  const link = new Link(target, { ...files, serverName: undefined, insecure: false }, events, peer);
  const outcome = await promise;
  link.close();
  listener.stop(true);
  return outcome;
}

test("doesn't blame certificates where the peer speaks no TLS, or ends it", async () => {
  expect(await tlsOutcome("-ERR unknown command\r\n", "the primary")).toBe(
    "TLS_FAILED the primary does not speak TLS: use redis://",
  );
  expect(await tlsOutcome("-ERR unknown command\r\n", "the sentinel")).toBe(
    "TLS_FAILED the sentinel does not speak TLS: use redis+sentinel://",
  );
  expect(await tlsOutcome("", "the primary")).toBe(
    "LINK_LOST the primary closed the link during the TLS handshake: see its log",
  );
});

/** What a link reports once its peer has reset it; `writes` sends to the dead link first. */
async function resetOutcome(writes: boolean): Promise<string> {
  const accepted = Promise.withResolvers<Bun.Socket>();
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => accepted.resolve(socket),
      data: () => undefined,
    },
  });
  const lost = Promise.withResolvers<string>();
  const target = { kind: "tcp", host: "127.0.0.1", port: listener.port } as const;
  const files = { caFile: undefined, certFile: undefined, keyFile: undefined };
  const heard = Promise.withResolvers<void>();
  const link = new Link(
    target,
    { ...files, serverName: undefined, insecure: false },
    {
      opened: () => undefined,
      bytes: () => heard.resolve(),
      lost: ({ code, message }) => lost.resolve(`${code} ${message}`),
    },
  );
  const socket = await accepted.promise;
  socket.write("+PONG\r\n");
  await heard.promise;
  socket.terminate();
  if (writes) link.send(Buffer.from("PING\r\n"));
  const outcome = await lost.promise;
  link.close();
  listener.stop(true);
  return outcome;
}

test("tells a reset from a close, unless a write has taken the reset from the socket", async () => {
  expect(await resetOutcome(false)).toBe("LINK_LOST the primary reset the connection");
  // Bun doesn't give the error of a write, and the end that follows has none.
  expect(await resetOutcome(true)).toBe("LINK_LOST the primary closed the link");
});
