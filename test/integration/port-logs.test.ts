import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { freePort } from "../support/ports.ts";
import { startReplica } from "../support/replica-process.ts";
import { encodeCommand, type Reply } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { followArgs, REPLID, smallRdb } from "./bad-input-rig.ts";

/** Part of every secret in this test. */
const MARK = "xyzzy";
const UPSTREAM = `${MARK}-upstream`;
const OWN = `${MARK}-own`;

/** The content of every file below a folder, the database included, as text. */
function everythingIn(dir: string): string {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");
}

function textOf(reply: Reply): string {
  if (Array.isArray(reply)) return reply.map(textOf).join("\n");
  if (reply instanceof Map) return [...reply].map((pair) => pair.map(textOf).join(" ")).join("\n");
  return reply instanceof Error ? `-${reply.message}` : String(reply);
}

test.concurrent(
  "says in whole words that nothing is kept, and that no primary is followed",
  async () => {
    using temp = tempDir("port-logs");
    const port = freePort();
    const url = `redis://:old@127.0.0.1:${freePort()}`;
    const args = followArgs(url, temp.file("data"), "--bind", "::1", "--unprotected");
    await using replica = startReplica([...args, "--port", String(port)]);
    // An IPv6 address in brackets, so that the port can be told from it.
    await replica.waitForLine(new RegExp(`, serving \\[::1\\]:${port} `));
    await using client = await RespClient.connect({ host: "::1", port });
    await client.send("REPLICAOF", "NO", "ONE");
    await client.send("CONFIG", "SET", "masteruser", "u", "masterauth", "p");
    await client.send("CONFIG", "REWRITE");
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    expect(replica.stderr).toMatch(/ CONFIG REWRITE: after a restart, none is followed client=/);
    // Where the URL carries a password, no file would count.
    const kept = [
      / CONFIG SET masteruser: .* to keep it, put it into --username client=/,
      / CONFIG SET masterauth: .* put it into the URL \(percent-encoded\), which comes before --password-file client=/,
      / REWRITE does not store masteruser: .* into --username client=/,
      / REWRITE does not store masterauth: .* into the URL \(percent-encoded\), which comes before --password-file client=/,
    ];
    for (const line of kept) expect(replica.stderr).toMatch(line);
    expect(replica.stderr).toEndWith(" stopped; nothing is kept yet\n");
  },
);

test.concurrent.each(["text", "json"])(
  "logs each change with the client that made it, and no password: %s",
  async (format) => {
    using temp = tempDir("port-logs");
    const psyncReply = `+CONTINUE ${REPLID}`;
    const handshake = { replid: REPLID, offset: 100, password: UPSTREAM };
    await using first = fakePrimary(async (peer) => {
      if (peer.index > 0) return void (await standardHandshake(peer, { ...handshake, psyncReply }));
      await standardHandshake(peer, handshake);
      await peer.send(bulkPayload(smallRdb("a value")));
    });
    await using second = fakePrimary(async (peer) => {
      await standardHandshake(peer, { ...handshake, psyncReply });
    });
    await Bun.write(temp.file("password"), OWN);
    const [port, http] = [freePort(), freePort()];
    const url = first.url.replace("//", `//:${UPSTREAM}@`);
    const flags = ["--requirepass-file", temp.file("password"), "--http", `127.0.0.1:${http}`];
    const logging = ["--log-level", "debug", "--log-format", format];
    const args = followArgs(url, temp.file("data"), ...flags, ...logging);
    await using replica = startReplica([...args, "--port", String(port)]);
    await replica.waitForLine(/connected by full resync/);
    const heard: string[] = [];
    const ask = async (client: RespClient, ...commands: string[][]) => {
      const replies = (await client.exchange(commands)).map(textOf);
      heard.push(...replies);
      return replies;
    };

    await using stranger = await RespClient.connect({ port });
    await ask(
      stranger,
      ["AUTH", `${MARK}-wrong`],
      ["AUTH", `${MARK}-user`, `${MARK}-wrong`],
      ["HELLO", "3", "AUTH", "default", `${MARK}-wrong`],
      ["HELLO", `${MARK}-version`],
      ["AUHT", `${MARK}-typed-wrong`],
      ["AUTH", "default", `${MARK}-wrong`, "more"],
    );
    await using clumsy = await RespClient.connect({ port });
    heard.push(...(await clumsy.exchangeBytes(Buffer.from(`AUTH "${MARK}\r\n`), 1)).map(textOf));
    await using client = await RespClient.connect({ port, password: OWN });
    await ask(
      client,
      ["AUTH", `${MARK}-wrong`],
      ["CONFIG", "GET", "*"],
      ["CONFIG", "SET", "requirepass", `${MARK}-new`],
      ["CONFIG", "SET", "masterauth", UPSTREAM],
      ["CONFIG", "SET", "masterauth", `${MARK}-lost`, "port", "1"],
      ["CONFIG", "SET", "masterauth"],
      ["CONFIG", "GET", "masterauth", "requirepass"],
      ["MULTI"],
      ["CONFIG", "SET", "masterauth", UPSTREAM],
      ["EXEC"],
      ["REPLICAOF", `user:${MARK}-garbage@127.0.0.1`, "6379"],
      ["REPLICAOF", `${MARK}@127.0.0.1`, "6379"],
      ["REPLICAOF", `127.0.0.1`, `${MARK}`],
      ["CLIENT", "LIST"],
      ["CLIENT", "INFO"],
      ["INFO", "ALL"],
      ["ROLE"],
      ["COMMAND", "DOCS"],
    );
    expect(
      await ask(stranger, ...Array.from({ length: 7 }, () => ["AUTH", `${MARK}-wrong`])),
    ).toContain("-ERR too many wrong passwords from your address: check the password");
    const other = new URL(second.url.replace("redis:", "http:")).port;
    await ask(
      client,
      ["REPLICAOF", "127.0.0.1", other],
      ["CONFIG", "SET", "masterauth", UPSTREAM],
      ["CONFIG", "REWRITE"],
    );
    await replica.waitForLine(/connected by partial resync/);
    await second.peers[0]!.send(encodeCommand(["SET", "a", "b"]));
    await second.peers[0]!.close();
    await until(() => second.peers.length > 1, { what: "the next attempt" });
    await ask(client, ["REPLICAOF", "no", "one"], ["INFO", "ALL"], ["CONFIG", "GET", "*"]);
    for (const path of ["/metrics", "/", "/readyz", "/healthz"]) {
      heard.push(await (await fetch(`http://127.0.0.1:${http}${path}`)).text());
    }
    client.send("SHUTDOWN").catch(() => undefined);
    expect((await replica.ended()).exitCode).toBe(0);

    const log = replica.stderr;
    const by =
      format === "text"
        ? String.raw` client=127\.0\.0\.1:\d+$`
        : String.raw`"client":"127\.0\.0\.1:\d+"`;
    for (const [times, line] of [
      [1, /full resync at offset 100: nothing was kept/],
      [1, /connected by full resync: .* in .* s, /],
      [1, new RegExp(`REPLICAOF: following redis://127\\.0\\.0\\.1:${other}.*${by}`, "m")],
      [
        1,
        new RegExp(
          `CONFIG REWRITE: after a restart, redis://127\\.0\\.0\\.1:${other} is followed too.*${by}`,
          "m",
        ),
      ],
      [
        3,
        new RegExp(`CONFIG SET masterauth: holds from the next attempt to connect on.*${by}`, "m"),
      ],
      [1, new RegExp(`CONFIG REWRITE does not store masterauth.*${by}`, "m")],
      [1, new RegExp(`REPLICAOF NO ONE: leaving redis://127\\.0\\.0\\.1:${other}.*${by}`, "m")],
      // Which of the two depends on whether an ACK was still unread.
      [1, /the primary (closed the link|reset the connection).*; next attempt in \d+ ms/],
      [1, /too many wrong passwords from 127\.0\.0\.1/],
      [1, new RegExp(`SHUTDOWN: stopping.*${by}`, "m")],
      [1, /stopped; durable up to offset \d+/],
    ] as const) {
      const found = log.split("\n").filter((text) => line.test(text));
      expect([String(line), found.length]).toEqual([String(line), times]);
    }
    // Nothing is logged repeatedly: a start, two syncs, a break, and the commands of clients.
    expect(log.split("\n").length).toBeLessThan(25);
    for (const text of [log, replica.stdout, ...heard]) expect(text).not.toContain(MARK);
    expect(heard.join("\n")).toContain("replica_link_up");
    expect(everythingIn(temp.file("data"))).not.toContain(MARK);
    expect(everythingIn(temp.file("data"))).toContain("SQLite format 3");
  },
);
