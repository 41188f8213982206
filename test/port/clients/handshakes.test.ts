import { expect, test } from "bun:test";
import { limits } from "../../../src/config/limits.ts";
import { Alarms } from "../../../src/port/clients/alarms.ts";
import { Handshakes } from "../../../src/port/clients/handshakes.ts";
import type { Client } from "../../../src/port/clients/client.ts";
import { certificates, tlsOptions } from "../../support/tls.ts";
import { until } from "../../support/wait.ts";

/** A socket that notes what is done with it. */
function noted() {
  const done: string[] = [];
  const socket = {
    remoteAddress: "192.0.2.7",
    remotePort: 7,
    timeout: (seconds: number) => void done.push(`timeout ${seconds}`),
    terminate: () => void done.push("terminate"),
  };
  return { done, socket: socket as unknown as Bun.Socket<Client> };
}

test("a handshake has limited time, which its bytes don't extend", async () => {
  const handshakes = new Handshakes(new Alarms(), false);
  const { done, socket } = noted();
  handshakes.begin(socket);
  expect(done).toEqual([`timeout ${limits.loginSeconds}`]);
  expect(handshakes.expired(socket)).toBe(true);
  expect(done.at(-1)).toBe("terminate");
  expect(handshakes.finish(socket, true, null)).toBe(false);

  // Bun's own timeout runs on while bytes of a handshake come: with one of a second, they come all the time.
  const none = () => undefined;
  const listener = Bun.listen<Client>({
    hostname: "127.0.0.1",
    port: 0,
    tls: tlsOptions(certificates.server),
    socket: {
      open: (one) => {
        handshakes.begin(one);
        one.timeout(1);
      },
      handshake: none,
      timeout: (one) => void handshakes.expired(one),
      data: none,
      error: none,
    },
  });
  try {
    let isClosed = false;
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port: listener.port,
      socket: { data: none, error: none, close: () => void (isClosed = true) },
    });
    // The head of a handshake of 512 bytes, which then come one by one.
    client.write(Buffer.from("16030102000100", "hex"));
    await until(
      () => {
        client.write(Buffer.of(0));
        return isClosed;
      },
      { what: "it to be disconnected" },
    );
  } finally {
    listener.stop(true);
  }
}, 150_000);

test("a client that just leaves is no failure, and is not let in", () => {
  const handshakes = new Handshakes(new Alarms(), true);
  const { socket } = noted();
  handshakes.begin(socket);
  const gone = Object.assign(new Error("gone"), { code: "ECONNRESET" });
  expect(handshakes.finish(socket, false, gone)).toBe(false);
  expect(handshakes.expired(socket)).toBe(false);
});
