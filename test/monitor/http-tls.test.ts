import { expect, test } from "bun:test";
import { connect, type ConnectionOptions } from "node:tls";
import { ServedTls } from "../../src/config/served-tls.ts";
import { type HttpView, serveHttp } from "../../src/monitor/http.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { certificates, tlsOptions } from "../support/tls.ts";

/** A view that is asked for nothing but health. */
const view: HttpView = {
  whyNotReady: () => undefined,
  page: () => ({}) as never,
  document: () => undefined,
  record: () => () => undefined,
};

function served(ca: string | undefined) {
  const tls = new ServedTls("http", { ...certificates.server, ca });
  const about = { host: "127.0.0.1", port: 0, names: [], tls };
  const { port, stop } = serveHttp(about, new Metrics(), view);
  /** The first line of the answer; empty where there is none. */
  const ask = async (options: ConnectionOptions): Promise<string> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let heard = "";
    const trusted = { ca: tlsOptions(certificates.server).ca, ...options };
    const socket = connect({ host: "127.0.0.1", port, ...trusted }, () => {
      socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    });
    socket.on("data", (bytes) => (heard += bytes.toString()));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
    await promise;
    return heard.split("\r\n", 1)[0]!;
  };
  return { port, ask, [Symbol.dispose]: stop };
}

test("with --http-tls-ca, a client without a valid certificate gets no answer", async () => {
  using http = served(certificates.ca);
  const { ca } = tlsOptions(certificates.client);
  expect(await http.ask(tlsOptions(certificates.client))).toBe("HTTP/1.1 200 OK");
  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    const only = { minVersion: version, maxVersion: version, ca };
    expect(await http.ask(only)).toBe("");
    expect(await http.ask({ ...tlsOptions(certificates.foreignClient), ...only })).toBe("");
    expect(await http.ask({ ...tlsOptions(certificates.expired), ...only })).toBe("");
  }
});

test("takes TLS 1.2 and 1.3, and nothing older, and no plain HTTP", async () => {
  using http = served(undefined);
  const only = (version: "TLSv1.1" | "TLSv1.2" | "TLSv1.3") =>
    http.ask({ maxVersion: version, minVersion: version === "TLSv1.1" ? "TLSv1" : version });
  expect(await only("TLSv1.3")).toBe("HTTP/1.1 200 OK");
  expect(await only("TLSv1.2")).toBe("HTTP/1.1 200 OK");
  expect(await only("TLSv1.1")).toBe("");
  const plain = await fetch(`http://127.0.0.1:${http.port}/healthz`).then(
    () => "answered",
    () => "refused",
  );
  expect(plain).toBe("refused");
});
