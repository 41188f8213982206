import { afterEach, describe, expect, test } from "bun:test";
import { copyFileSync, chmodSync, writeFileSync } from "node:fs";
import { connect, type ConnectionOptions } from "node:tls";
import { resetSync } from "@logtape/logtape";
import { configureLogging } from "../../src/cli/terminal/logging.ts";
import { certificateRenewal } from "../../src/program/certificate-renewal.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { limits } from "../../src/config/limits.ts";
import { Screen } from "../cli/commands/screen.ts";
import { usageErrorOf } from "../support/error-of.ts";
import { relaying } from "../support/relaying.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { certificates, type CertificateFiles, tlsOptions } from "../support/tls.ts";
import { until } from "../support/wait.ts";

afterEach(() => resetSync());

const own = {
  "port-tls-cert": certificates.server.cert,
  "port-tls-key": certificates.server.key,
};
const withClients = { ...own, "port-tls-ca": certificates.ca };
const trusted = tlsOptions(certificates.client);

/** What is logged from now on. */
function logged() {
  const screen = new Screen();
  configureLogging({ level: "info", format: "text", output: screen.output });
  return (about: RegExp) => screen.text.split("\n").filter((line) => about.test(line));
}

function settingsOf(flags: Record<string, string>) {
  return loadSettings({ flags: new Map(Object.entries({ port: "0", ...flags })), env: {} });
}

/** A replica whose port is served with these settings. */
async function listening(flags: Record<string, string>) {
  const relay = await relaying(flags);
  return { ...relay, renew: certificateRenewal(relay.settings) ?? (() => undefined) };
}

/** What PING is answered over TLS: the reply, why not, or "closed"; with the serial number of the certificate. */
async function ping(port: number, options: ConnectionOptions = {}) {
  const { promise, resolve } = Promise.withResolvers<string>();
  let serial = "";
  let heard = "";
  const socket = connect({ host: "127.0.0.1", port, ca: trusted.ca, ...options }, () => {
    serial = socket.getPeerCertificate().serialNumber;
    socket.write("PING\r\n");
  });
  socket.on("data", (bytes) => {
    heard += bytes.toString();
    if (heard.includes("\r\n")) resolve(heard.trim());
  });
  socket.on("error", (error) => resolve(error.message));
  socket.on("close", () => resolve("closed"));
  const said = await promise;
  socket.destroy();
  return { said, serial };
}

/** What a client without TLS hears until it is disconnected. */
async function plain(port: number, bytes: string): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const heard: Buffer[] = [];
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (socket) => void socket.write(bytes),
      data: (_socket, chunk) => void heard.push(chunk),
      close: () => resolve(),
      error: () => resolve(),
    },
  });
  await promise;
  return Buffer.concat(heard);
}

test("a client without TLS hears an alert and is disconnected; one line a minute says so", async () => {
  const lines = logged();
  await using served = await listening(own);
  for (const bytes of ["PING\r\n", "GET / HTTP/1.1\r\n\r\n", "*1\r\n$4\r\nPING\r\n"]) {
    const heard = await plain(served.port, bytes);
    // An alert of TLS ("RFC 8446, 5.1"), and nothing of ours.
    if (heard.length > 0) expect(heard.subarray(0, 2).toString("hex")).toBe("1503");
    expect(heard.length).toBeLessThanOrEqual(7);
  }
  expect(lines(/does not speak TLS/)).toHaveLength(1);
  expect(lines(/does not speak TLS/)[0]).toMatch(/use rediss:\/\/ or redis-cli --tls client=127/);
  expect((await ping(served.port)).said).toBe("+PONG");
});

test("takes TLS 1.2 and 1.3, and nothing older", async () => {
  const lines = logged();
  await using served = await listening(own);
  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    const only = { minVersion: version, maxVersion: version };
    expect((await ping(served.port, only)).said).toBe("+PONG");
  }
  const old = await ping(served.port, { minVersion: "TLSv1", maxVersion: "TLSv1.1" });
  expect(old.said).toMatch(/PROTOCOL_VERSION|closed/i);
  expect(lines(/older than 1\.2/)).toHaveLength(1);
});

describe("with --port-tls-ca", () => {
  const { cert, key } = trusted;
  const cases: [string, ConnectionOptions, RegExp][] = [
    ["no certificate", {}, /shows no certificate/],
    ["one of another authority", tlsOptions(certificates.foreignClient), /is not valid/],
    ["an expired one", tlsOptions(certificates.expired), /is not valid/],
  ];
  test.each(cases)("a client with %s gets no answer", async (_name, options, says) => {
    const lines = logged();
    await using served = await listening(withClients);
    for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
      const shown = { ...options, ca: trusted.ca, minVersion: version, maxVersion: version };
      const { said } = await ping(served.port, shown);
      expect(said).not.toContain("PONG");
    }
    expect(lines(says)).toHaveLength(1);
    expect((await ping(served.port, { cert, key })).said).toBe("+PONG");
  });
});

test("handshakes that are not finished take no client's place, and the oldest make room", async () => {
  const lines = logged();
  await using served = await listening(own);
  let closed = 0;
  const silent = await Promise.all(
    Array.from({ length: limits.handshakes + 20 }, () =>
      Bun.connect({
        hostname: "127.0.0.1",
        port: served.port,
        socket: { data: () => undefined, close: () => void closed++, error: () => undefined },
      }),
    ),
  );
  await until(() => closed >= 20, { what: "the oldest to be disconnected" });
  expect(closed).toBe(20);
  expect((await ping(served.port)).said).toBe("+PONG");
  expect(lines(/began no TLS, or did not finish its handshake/)).toHaveLength(1);
  for (const socket of silent) socket.terminate();
});

describe("a renewal", () => {
  function files() {
    const dir = tempDir("certificates");
    const [cert, key] = [dir.file("port.crt"), dir.file("port.key")];
    const put = (from: CertificateFiles) => {
      copyFileSync(from.cert, cert);
      copyFileSync(from.key, key);
      chmodSync(key, 0o600);
    };
    put(certificates.server);
    const flags = { "port-tls-cert": cert, "port-tls-key": key };
    return { dir, cert, key, put, flags, [Symbol.dispose]: () => dir.remove() };
  }
  const anybody = { rejectUnauthorized: false };

  test("gives new connections the new certificate, and established ones live on", async () => {
    using given = files();
    await using served = await listening(given.flags);
    await using before = await RespClient.connect({ port: served.port, tls: {} });
    const first = await ping(served.port, anybody);
    for (const next of [certificates.foreignServer, certificates.server]) {
      given.put(next);
      expect((await ping(served.port, anybody)).serial).not.toBe("");
      served.renew();
      const { said, serial } = await ping(served.port, anybody);
      expect(said).toBe("+PONG");
      expect(serial === first.serial).toBe(next === certificates.server);
      expect(await before.send("PING")).toBe("PONG");
    }
  });

  test("with a bad file keeps the old certificate, and says what to do", async () => {
    const lines = logged();
    using given = files();
    await using served = await listening(given.flags);
    const first = await ping(served.port, anybody);
    const bad: [() => void, RegExp][] = [
      [() => writeFileSync(given.cert, "no certificate"), /contains no certificate in PEM format/],
      [
        () => copyFileSync(certificates.foreignServer.cert, given.cert),
        /is not the key of the certificate in .*give the two that belong together/,
      ],
      [() => writeFileSync(given.key, ""), /contains no unencrypted private key in PEM format/],
    ];
    for (const [spoil, says] of bad) {
      given.put(certificates.server);
      spoil();
      served.renew();
      expect(await ping(served.port, anybody)).toEqual(first);
      const [line = ""] = lines(says);
      expect(line).toContain("error SIGHUP: the certificate stays as it was: --port-tls-");
      expect(line).toContain("; mend the file and send SIGHUP again");
    }
    given.put(certificates.foreignServer);
    served.renew();
    expect((await ping(served.port, anybody)).serial).not.toBe(first.serial);
  });

  test("a key that everybody can read is warned of, an expired certificate too, and no key is logged", async () => {
    const lines = logged();
    using given = files();
    given.put(certificates.expired);
    chmodSync(given.key, 0o644);
    await using served = await listening(given.flags);
    expect((await ping(served.port, anybody)).said).toBe("+PONG");
    expect(lines(/every user of this machine can read/)).toHaveLength(1);
    expect(lines(/has expired/)).toHaveLength(1);
    expect(lines(/PRIVATE|BEGIN/)).toEqual([]);
  });
});

test("settings that don't fit together are refused", () => {
  const complaint = (flags: Record<string, string>) =>
    usageErrorOf(() => settingsOf(flags).portTls?.options).message;
  const { cert, key } = certificates.server;
  expect(complaint({ "port-tls-cert": cert })).toBe(
    "the flag --port-tls-cert needs --port-tls-key FILE as well",
  );
  expect(complaint({ "http-tls-key": key })).toBe(
    "the flag --http-tls-key needs --http-tls-cert FILE as well",
  );
  expect(complaint({ "port-tls-ca": certificates.ca })).toContain("needs --port-tls-cert FILE");
  expect(complaint({ "port-tls-cert": cert, "port-tls-key": "/none" })).toBe(
    "--port-tls-key: can't read /none: there is no such file",
  );
  expect(complaint({ "port-tls-cert": cert, "port-tls-key": "/dev/null" })).toContain(
    "/dev/null is not a regular file",
  );
  expect(complaint({ "port-tls-cert": cert, "port-tls-key": certificates.client.key })).toContain(
    "is not the key of the certificate",
  );
});

test("a downstream that is slow over TLS holds up nobody, and gets every byte", async () => {
  const LARGE_BYTES = 12 * 1024 * 1024;
  await using relay = await relaying(withClients);
  await using slow = await relay.connect(trusted);
  await using fast = await relay.connect(trusted);
  for (const one of [slow, fast]) one.say("PSYNC", "?", -1);
  const { downstreams } = relay.replica.relay;
  const online = () => [...downstreams].filter(({ state }) => state === "online").length === 2;
  await until(online, { what: "both to be online" });
  slow.pause();
  const text = Array.from({ length: LARGE_BYTES / 16 }, (_, n) => String(n).padStart(16, ".")).join(
    "",
  );
  await relay.stream(text);
  const hasAll = (one: typeof slow) =>
    one.cameLength > LARGE_BYTES &&
    one.cameBytes.subarray(-LARGE_BYTES).toString("latin1") === text;
  await until(() => hasAll(fast), { what: "all of it to come" });
  expect(slow.cameLength).toBeLessThan(LARGE_BYTES);
  slow.say("REPLCONF", "ACK", 103);
  await until(() => [...downstreams].some(({ ackedOffset }) => ackedOffset === 103), {
    what: "its ACK",
  });
  slow.resume();
  await until(() => hasAll(slow), { what: "the rest" });
}, 150_000);
