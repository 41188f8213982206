import { expect, test } from "bun:test";
import { parsePrimaryUrl } from "../../../src/config/primary-url.ts";
import { askInfo } from "../../../src/upstream/link/side-link.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { freePort } from "../../support/ports.ts";
import { availableServers, startServer } from "../../support/servers.ts";

const tls = {
  caFile: undefined,
  certFile: undefined,
  keyFile: undefined,
  serverName: undefined,
  insecure: false,
};

function ask(url: string, { password }: { password?: string } = {}, syncTimeoutMs = 20_000) {
  const credentials = password && { username: undefined, password, from: "the test" };
  const login = { read: () => credentials || undefined };
  return askInfo(parsePrimaryUrl(url), { login, tls, syncTimeoutMs });
}

/** A peer that answers each first chunk with these bytes. */
function peer(answer: string) {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket) => void socket.write(answer) },
  });
  return { url: `redis://127.0.0.1:${listener.port}`, [Symbol.dispose]: () => listener.stop(true) };
}

test.each(availableServers())("%s says what it is, to a login too", async (kind) => {
  await using server = await startServer(kind, { password: "secret" });
  const info = await ask(`redis://127.0.0.1:${server.port}`, { password: "secret" });
  expect(info.get("master_replid")).toBe((await server.info("replication"))["master_replid"]!);
  expect(info.get("uptime_in_seconds")).toMatch(/^\d+$/);
  const refused = await rejectionOf(() =>
    ask(`redis://127.0.0.1:${server.port}`, { password: "wrong" }),
  );
  expect(refused).toMatchObject({ code: "AUTH_FAILED" });
  expect(String(refused)).toMatch(
    /the primary refuses the login \(-WRONGPASS .*\): check the test/,
  );
  expect(await rejectionOf(() => ask(`redis://127.0.0.1:${server.port}`))).toMatchObject({
    code: "PRIMARY_REFUSED",
  });
});

test.each([
  ["an array", "*1\r\n$1\r\na\r\n", "PROTOCOL"],
  ["no end of it", `$${2 ** 21}\r\n${"x".repeat(2 ** 20 + 100)}`, "PROTOCOL"],
])("refuses %s", async (_what, answer, code) => {
  using server = peer(answer);
  expect(await rejectionOf(() => ask(server.url))).toMatchObject({ code });
});

test("gives up on a primary that is silent, and on one that is not there", async () => {
  using server = peer("");
  expect(await rejectionOf(() => ask(server.url, {}, 50))).toMatchObject({ code: "TIMED_OUT" });
  const gone = await rejectionOf(() => ask(`redis://127.0.0.1:${freePort()}`));
  expect(gone).toMatchObject({ code: "CONNECT_FAILED" });
});
