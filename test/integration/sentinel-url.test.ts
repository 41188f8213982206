import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fakePrimary } from "../support/fake-primary.ts";
import { fakeSentinel, named, sentinelUrl, UNKNOWN } from "../support/fake-sentinel.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { certificates } from "../support/tls.ts";
import { until, withinOwnTime } from "../support/wait.ts";
import { behave, commandLineOf, followArgs, onlyLine, smallRdb } from "./bad-input-rig.ts";

const rdb = smallRdb("value");

describe("a backup", () => {
  test("asks once, and takes the snapshot of the primary that Sentinel names", async () => {
    using temp = tempDir();
    await using primary = fakePrimary((peer) => behave(peer, rdb));
    await using sentinel = fakeSentinel(() => named(primary.port));
    const out = temp.file("dump.rdb");
    const ended = await runReplica(["backup", sentinelUrl([sentinel]), out]);
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.stderr).toContain(`Sentinel names redis://127.0.0.1:${primary.port}\n`);
    expect(readFileSync(out)).toEqual(rdb);
    expect(sentinel.asked.length).toBe(1);
  });

  test("over TLS to both", async () => {
    using temp = tempDir();
    const tls = { certificate: certificates.server };
    await using primary = fakePrimary((peer) => behave(peer, rdb), { tls });
    await using sentinel = fakeSentinel(() => named(primary.port), { tls });
    const url = sentinelUrl([sentinel], { scheme: "rediss" });
    const out = temp.file("dump.rdb");
    const ended = await runReplica(["backup", url, out, "--tls-ca", certificates.ca]);
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.stderr).toContain(`Sentinel names rediss://127.0.0.1:${primary.port}\n`);
    expect(readFileSync(out)).toEqual(rdb);
  });

  test("over TLS neither a sentinel nor a primary with a certificate of another authority hears anything", async () => {
    using temp = tempDir();
    writeFileSync(temp.file("password"), "correct-horse");
    const [known, foreign] = [certificates.server, certificates.foreignServer].map(
      (certificate) => ({
        tls: { certificate },
      }),
    );
    for (const [ofSentinel, ofPrimary] of [
      [foreign, known],
      [known, foreign],
    ]) {
      await using primary = fakePrimary((peer) => behave(peer, rdb), ofPrimary);
      await using sentinel = fakeSentinel(() => named(primary.port), {
        ...ofSentinel,
        password: "correct-horse",
      });
      const url = sentinelUrl([sentinel], { scheme: "rediss", login: ":battery-staple@" });
      const login = ["--sentinel-password-file", temp.file("password")];
      const trust = ["--tls-ca", certificates.ca];
      const ended = await runReplica(["backup", url, temp.file("dump.rdb"), ...trust, ...login]);
      expect(ended.exitCode).toBe(1);
      expect(ended.stderr).toMatch(/TLS: .*(unable to|self.signed|unknown).*; check --tls-ca/i);
      expect(sentinel.asked.length).toBe(ofSentinel === foreign ? 0 : 1);
      const strangers = ofSentinel === foreign ? sentinel.peers : primary.peers;
      for (const peer of strangers) expect(peer.receivedBytes).toBe(0);
      expect(existsSync(temp.file("dump.rdb"))).toBe(false);
    }
  });

  test("ends with 1 if no sentinel names a primary", async () => {
    using temp = tempDir();
    await using sentinel = fakeSentinel(() => UNKNOWN);
    const ended = await runReplica(["backup", sentinelUrl([sentinel]), temp.file("dump.rdb")]);
    expect(ended.exitCode).toBe(1);
    expect(onlyLine(ended)).toStartWith(
      "replica: no sentinel names the primary: the master's name",
    );
    expect(sentinel.asked.length).toBe(1);
    expect(existsSync(temp.file("dump.rdb"))).toBe(false);
  });

  test("ends at once if it is stopped while a sentinel is silent", async () => {
    using temp = tempDir();
    await using sentinel = fakeSentinel(() => undefined);
    await using replica = startReplica(["backup", sentinelUrl([sentinel]), temp.file("dump.rdb")]);
    await until(() => sentinel.asked[0], { what: "the question" });
    replica.signal("SIGTERM");
    expect((await withinOwnTime(2_000, "the end", replica.ended())).exitCode).toBe(1);
    expect(replica.stderr).toContain("the snapshot was stopped");
  });
});

test("follow keeps asking, with back-off, until a sentinel knows the name", async () => {
  using temp = tempDir();
  await using primary = fakePrimary((peer) => behave(peer, rdb));
  let answer: Uint8Array | string = UNKNOWN;
  await using sentinel = fakeSentinel(() => answer);
  const url = sentinelUrl([sentinel]);
  await using replica = startReplica(followArgs(url, temp.file("data")));
  await replica.waitForLine(
    /warn .*the master's name "main" is not known there: check the name in the URL .*; next attempt in \d+ ms code=PRIMARY_UNKNOWN/,
  );
  await until(() => sentinel.asked.length > 3, { what: "further questions" });
  answer = named(primary.port);
  await replica.waitForLine(/connected by full resync/);
  expect((await replica.stop()).exitCode).toBe(0);
});

test("shows no password: neither the primary's, which leaves the process list, nor the sentinels'", async () => {
  using temp = tempDir();
  const [theirs, secret] = ["correct-horse", "battery%2Cstaple"];
  const secrets = [theirs, secret, decodeURIComponent(secret)];
  writeFileSync(temp.file("password"), theirs);
  await using primary = fakePrimary((peer) => behave(peer, rdb));
  let answer: Uint8Array | string = UNKNOWN;
  await using sentinel = fakeSentinel(() => answer, { password: theirs });
  const url = sentinelUrl([sentinel], { login: `user:${secret}@` });
  const flags = ["--sentinel-password-file", temp.file("password"), "--log-level", "debug"];
  await using replica = startReplica(followArgs(url, temp.file("data"), ...flags));
  await replica.waitForLine(/is not known there/);
  const commandLine = commandLineOf(replica);
  expect(commandLine).toContain(sentinelUrl([sentinel], { login: "user@" }));
  answer = named(primary.port);
  await replica.waitForLine(/connected by full resync/);
  expect(primary.peers[0]!.received.toString()).toContain("battery,staple\r\n");
  // A refused password isn't shown either.
  writeFileSync(temp.file("other"), "stable");
  const refused = await runReplica([
    "backup",
    url,
    temp.file("dump.rdb"),
    "--sentinel-password-file",
    temp.file("other"),
    "--log-level",
    "debug",
  ]);
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toMatch(/the sentinel refuses the login \(-WRONGPASS/);
  await replica.stop();
  for (const text of [
    commandLine,
    replica.stderr,
    replica.stdout,
    refused.stderr,
    refused.stdout,
  ]) {
    for (const password of [...secrets, "stable"]) expect(text).not.toContain(password);
  }
});
