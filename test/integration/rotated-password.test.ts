import { expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { thrownBy } from "../support/error-of.ts";
import { InfoConnection } from "../../src/cli/status/info-connection.ts";
import { passwordInFile } from "../../src/config/password.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { fakeSentinel, named, sentinelUrl } from "../support/fake-sentinel.ts";
import { follow } from "../support/following.ts";
import { startReplica } from "../support/replica-process.ts";
import { ReplyError } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { SkippingClock } from "../support/skipping-clock.ts";
import { startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { followArgs, REPLID, smallRdb } from "./bad-input-rig.ts";

const never = new AbortController().signal;

/** How often the last attempts were refused for the login. */
const refused = ({ replica }: ReturnType<typeof follow>): number =>
  replica.links.failedAttempts.get("AUTH_FAILED") ?? 0;

test.concurrent(
  "a rotated password costs one attempt: the next one reads the file anew",
  async () => {
    using dir = tempDir("rotated");
    const file = dir.file("password");
    writeFileSync(file, "old\n");
    const given: string[] = [];
    await using primary = fakePrimary(async (peer) => {
      if (peer.index === 1) {
        // The primary's password has changed; the file follows before the refusal is out.
        await peer.expectCommand("PING");
        await peer.send("+PONG\r\n");
        given.push((await peer.readCommand()).at(-1)!);
        writeFileSync(file, "new\n");
        return await peer.send("-WRONGPASS invalid username-password pair\r\n");
      }
      const psyncReply = peer.index === 0 ? `+FULLRESYNC ${REPLID} 100` : "+CONTINUE";
      const commands = await standardHandshake(peer, { replid: REPLID, offset: 100, psyncReply });
      given.push(commands.find(([name]) => name === "AUTH")!.at(-1)!);
      if (peer.index === 0) await peer.send(bulkPayload(smallRdb("a value")));
    });
    await using following = follow(primary.url, realDisk, dir, { "password-file": file });
    await following.connected();
    await primary.peers[0]!.close();
    await until(() => following.replica.resyncs.partial === 1, { what: "a partial resync" });
    expect(given).toEqual(["old", "old", "new"]);
    expect(refused(following)).toBe(1);
  },
);

test.concurrent(
  "the questions begin again after a login that was refused amid a rotation",
  async () => {
    using dir = tempDir("rotated");
    const file = dir.file("password");
    writeFileSync(file, "right");
    await using primary = await startServer("redis-7.0", { password: "right" });
    const clock = new SkippingClock();
    const flags = { "password-file": file };
    await using following = follow(
      `redis://127.0.0.1:${primary.port}`,
      realDisk,
      dir,
      flags,
      undefined,
      clock,
    );
    const { supply, links } = following.replica;
    await until(() => supply.facts !== undefined, { what: "the first answer" });
    writeFileSync(file, "not yet right");
    await primary.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await until(
      async () => {
        clock.skip(1_000);
        return String(await primary.send("ACL", "LOG")).includes("auth");
      },
      { what: "a refused login" },
    );
    writeFileSync(file, "right");
    // The primary may have told of the refusal before it was read here: only then the minute begins.
    const isAnswered = () => {
      if (supply.factsAgeMs < 5_000) return true;
      clock.skip(60_000);
      return false;
    };
    await until(isAnswered, { what: "another answer", everyMs: 500 });
    expect(links.last).toBeUndefined();
  },
);

test.concurrent.each(["redis-7.0", "valkey-9"] as const)(
  "a password and a user that are rotated at a real primary: %s",
  async (kind) => {
    using dir = tempDir("rotated");
    const file = dir.file("password");
    await using primary = await startServer(kind);
    await primary.send(
      "ACL",
      "SETUSER",
      "copy",
      "on",
      ">old",
      "+psync",
      "+sync",
      "+replconf",
      "+ping",
    );
    writeFileSync(file, "old\n");
    const flags = { username: "copy", "password-file": file, unprotected: "true" };
    await using following = follow(primary.url(), realDisk, dir, flags);
    const { replica } = following;
    await following.connected();

    // While the link is up, nothing is asked; the second link of a new snapshot logs in anew.
    await primary.send("ACL", "SETUSER", "copy", ">new", "<old");
    writeFileSync(file, "new\n");
    await using client = await RespClient.connect({ port: following.port });
    await client.send("BGSAVE");
    await until(() => replica.renewal.last, { what: "the new snapshot" });
    expect(replica.renewal.last?.error).toBeUndefined();
    expect(refused(following)).toBe(0);

    // The primary first, the file after it.
    await primary.send("ACL", "SETUSER", "copy", ">newest", "<new");
    await primary.send("CLIENT", "KILL", "TYPE", "replica");
    await until(() => refused(following) > 1, { what: "refusals" });
    expect(replica.links.lastCause).toMatch(
      /^the primary refuses the login \(-WRONGPASS .*\): check --username and --password-file$/,
    );
    writeFileSync(file, "newest\n");
    await following.connected();

    // The file first, the primary after it: no attempt fails.
    const before = refused(following);
    writeFileSync(file, "last\n");
    await primary.send("ACL", "SETUSER", "copy", ">last", "<newest");
    await primary.send("CLIENT", "KILL", "TYPE", "replica");
    await until(() => replica.resyncs.partial === 2, { what: "the next partial resync" });
    expect(refused(following)).toBe(before);
  },
);

test.concurrent(
  "without its file a link is not tried with the password of before; it comes back with the file",
  async () => {
    using dir = tempDir("rotated");
    const file = dir.file("password");
    writeFileSync(file, "hunter2");
    await using primary = await startServer("redis-7.0", { password: "hunter2" });
    await using following = follow(`redis://127.0.0.1:${primary.port}`, realDisk, dir, {
      "password-file": file,
    });
    const { replica } = following;
    await following.connected();
    rmSync(file);
    const connections = async () =>
      Number((await primary.info("stats"))["total_connections_received"]);
    const before = await connections();
    await primary.send("CLIENT", "KILL", "TYPE", "replica");
    await until(() => refused(following) > 2, { what: "attempts" });
    expect(replica.links.lastCause).toBe(
      `the password is not known now: the flag --password-file: can't read ${file}: there is no such file`,
    );
    expect(await connections()).toBe(before);
    writeFileSync(file, "hunter2");
    await following.connected();
    expect(replica.resyncs).toMatchObject({ full: 1, partial: 1 });
  },
);

test.concurrent("the sentinels' password is read anew at each question", async () => {
  using dir = tempDir("rotated");
  const file = dir.file("password");
  writeFileSync(file, "old\n");
  await using primary = fakePrimary(async (peer) => {
    const psyncReply = peer.index === 0 ? `+FULLRESYNC ${REPLID} 100` : "+CONTINUE";
    await standardHandshake(peer, { replid: REPLID, offset: 100, psyncReply });
    if (peer.index === 0) await peer.send(bulkPayload(smallRdb("a value")));
  });
  const options = { password: "old" };
  await using before = fakeSentinel(() => named(primary.port), options);
  const { port } = before;
  const flags = { "sentinel-password-file": file };
  await using following = follow(sentinelUrl([before]), realDisk, dir, flags);
  const { replica } = following;
  await following.connected();
  await before.stop();
  await using after = fakeSentinel(() => named(primary.port), { password: "new", port });
  await primary.peers[0]!.close();
  await until(() => /WRONGPASS/.test(replica.links.lastCause), { what: "a refusal" });
  expect(replica.links.lastCause).toContain(
    "check --sentinel-username and --sentinel-password-file",
  );
  rmSync(file);
  await until(() => /there is no such file/.test(replica.links.lastCause), { what: "the file" });
  expect(replica.links.lastCause).toStartWith("no sentinel names the primary: the password is not");
  writeFileSync(file, "new\n");
  await until(() => replica.resyncs.partial === 1, { what: "a partial resync" });
  expect(after.asked.length).toBeGreaterThan(0);
});

test.concurrent(
  "the port's own password is read anew at each login; who is logged in stays so",
  async () => {
    using dir = tempDir("rotated");
    const file = dir.file("password");
    writeFileSync(file, "old\n");
    await using primary = await startServer("redis-7.0");
    const own = ["--port", "0", "--requirepass-file", file];
    await using replica = startReplica(followArgs(primary.url(), dir.file("data"), ...own));
    const [, port] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    const address = { port: Number(port) };
    await using early = await RespClient.connect({ ...address, password: "old" });
    await using client = await RespClient.connect(address);
    const auth = async (password: string) => {
      const [reply] = await client.exchange([["AUTH", password]]);
      return reply instanceof ReplyError ? reply.message : String(reply);
    };
    writeFileSync(file, "new\n");
    expect(await auth("old")).toStartWith("WRONGPASS");
    expect(await auth("new")).toBe("OK");
    rmSync(file);
    for (const password of ["new", "old", "new"]) {
      expect(await auth(password)).toBe("ERR logins are refused: see this replica's log");
    }
    writeFileSync(file, "newest\n");
    expect(await auth("new")).toStartWith("WRONGPASS");
    expect(await auth("newest")).toBe("OK");
    expect(await early.send("PING")).toBe("PONG");
    const log = replica.stderr;
    const lines = log.split("\n").filter((line) => /password/.test(line));
    expect(lines).toEqual([
      expect.stringMatching(/warn .*nobody can log in at the port: .*there is no such file/),
      expect.stringMatching(/info .*the port's password can be read again/),
    ]);

    // `status --watch` reads it for each connection.
    const asking = new InfoConnection(
      { host: "127.0.0.1", port: Number(port) },
      passwordInFile(file, "--requirepass-file", "the flag"),
    );
    expect((await asking.ask(never)).has("state")).toBe(true);
    asking.close();
    writeFileSync(file, "last\n");
    expect((await asking.ask(never)).has("state")).toBe(true);
    asking.close();
  },
);

test.concurrent(
  "CONFIG SET masteruser and masterauth hold from the next attempt on, until a restart",
  async () => {
    using dir = tempDir("rotated");
    const file = dir.file("password");
    writeFileSync(file, "old\n");
    await using primary = await startServer("redis-7.0");
    const rights = ["+psync", "+sync", "+replconf", "+ping"];
    await primary.send("ACL", "SETUSER", "copy", "on", ">old", ...rights);
    await primary.send("ACL", "SETUSER", "süd", "on", ">sésame", ...rights);
    const flags = { username: "copy", "password-file": file, unprotected: "true" };
    {
      await using following = follow(primary.url(), realDisk, dir, flags);
      const { replica } = following;
      await following.connected();
      await using client = await RespClient.connect({ port: following.port });
      const get = async (...names: string[]) => await client.send("CONFIG", "GET", ...names);
      expect(await get("masteruser")).toEqual(["masteruser", "copy"]);
      expect(await client.send("CONFIG", "SET", "masteruser", "süd", "masterauth", "sésame")).toBe(
        "OK",
      );
      // The link that is up stays.
      expect(replica.state.at).toBe("connected");
      expect(replica.links.last).toBeUndefined();
      await primary.send("ACL", "DELUSER", "copy");
      await until(() => replica.resyncs.partial === 1, { what: "a partial resync" });
      expect(refused(following)).toBe(0);
      const clients = String(await primary.send("CLIENT", "LIST", "TYPE", "replica"));
      expect(clients).toContain("user=süd ");

      // A CONFIG SET that fails changes nothing.
      for (const [words, why] of [
        [["masterauth", "x", "port", "1"], "can't set immutable config"],
        [["masterauth", "x", "nonsense", "1"], "Unknown option"],
        [["masteruser", "a\nb"], "control character"],
        [["masteruser", "u".repeat(1025)], "longer than 1024 characters"],
        [["masterauth", "x", "MASTERAUTH", "y"], "duplicate parameter"],
        [["requirepass", "x"], "--requirepass-file"],
      ] as const) {
        expect(await thrownBy(client.send("CONFIG", "SET", ...words))).toThrow(why);
      }
      const [reply] = await client.exchange([["CONFIG", "SET", "masterauth", Buffer.from([0xff])]]);
      expect(String(reply)).toContain("it is not UTF-8 text");
      expect(await get("masteruser", "masterauth", "requirepass")).toEqual(["masteruser", "süd"]);
      await primary.send("CLIENT", "KILL", "TYPE", "replica");
      await until(() => replica.resyncs.partial === 2, { what: "a partial resync" });
      expect(await client.send("CONFIG", "REWRITE")).toBe("OK");

      // Nothing: what was given at the start holds again.
      await client.send("CONFIG", "SET", "masteruser", "", "masterauth", "");
      await primary.send("CLIENT", "KILL", "TYPE", "replica");
      await until(() => refused(following) > 0, { what: "a refusal" });
      await client.send("CONFIG", "SET", "masteruser", "süd", "masterauth", "wrong");
      await until(() => replica.links.lastCause.endsWith("CONFIG SET masterauth"), {
        what: "a refusal that says where the login is from",
      });
      await client.send("CONFIG", "SET", "masterauth", "sésame");
      await following.connected();
      expect(await following.stop()).toBeUndefined();
    }
    await using again = follow(primary.url(), realDisk, dir, flags);
    await until(() => refused(again) > 0, { what: "a refusal" });
    expect(again.replica.links.lastCause).toEndWith("check --username and --password-file");
  },
);
