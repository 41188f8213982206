import { describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { fakePrimary } from "../support/fake-primary.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { certificates, type CertificateFiles } from "../support/tls.ts";
import { until } from "../support/wait.ts";
import { behave, currentBase, filesIn, followArgs, onlyLine, smallRdb } from "./bad-input-rig.ts";

const rdb = smallRdb("value");
const env = { REPLICA_PASSWORD: "correct-horse-battery" };
const trust = ["--tls-ca", certificates.ca];

interface Case {
  readonly name: string;
  readonly server: CertificateFiles;
  readonly flags: readonly string[];
  /** The error; undefined if the connection succeeds. */
  readonly says: RegExp | undefined;
}

const cases: readonly Case[] = [
  {
    name: "an authority unknown to the system",
    server: certificates.server,
    flags: [],
    says: /TLS: .*(unable to|self.signed|unknown).*; check --tls-ca/i,
  },
  {
    name: "another authority",
    server: certificates.foreignServer,
    flags: trust,
    says: /TLS: .*(unable to|self.signed|unknown).*; check --tls-ca/i,
  },
  {
    name: "another host",
    server: certificates.wrongHost,
    flags: trust,
    says: /TLS: .*(host|altname|IP).*; check --tls-ca, --tls-server-name/i,
  },
  {
    name: "the right host, asked for by another name",
    server: certificates.server,
    flags: [...trust, "--tls-server-name", "elsewhere.example"],
    says: /TLS: .*(host|altname).*; check --tls-ca, --tls-server-name/i,
  },
  {
    name: "the past (expired)",
    server: certificates.expired,
    flags: trust,
    says: /TLS: .*expired.*; check --tls-ca/,
  },
  { name: "the right authority", server: certificates.server, flags: trust, says: undefined },
  {
    name: "another host, asked for by its name",
    server: certificates.wrongHost,
    flags: [...trust, "--tls-server-name", "elsewhere.example"],
    says: undefined,
  },
  {
    name: "another authority, with --tls-insecure",
    server: certificates.foreignServer,
    flags: ["--tls-insecure"],
    says: undefined,
  },
  {
    name: "another host, with --tls-insecure",
    server: certificates.wrongHost,
    flags: [...trust, "--tls-insecure"],
    says: undefined,
  },
];

describe("a certificate of", () => {
  test.concurrent.each(cases)("$name", async ({ server, flags, says }) => {
    using temp = tempDir();
    const out = temp.file("dump.rdb");
    writeFileSync(out, "an earlier backup");
    await using primary = fakePrimary(async (peer) => await behave(peer, rdb), {
      tls: { certificate: server },
    });
    for (const host of ["127.0.0.1", "localhost"]) {
      const url = primary.url.replace("127.0.0.1", host);
      const ended = await runReplica(["backup", url, out, "--force", ...flags], { env });
      if (says === undefined) {
        expect(ended.exitCode, ended.stderr).toBe(0);
        continue;
      }
      expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
      expect(onlyLine(ended)).toMatch(says);
      expect(await Bun.file(out).text()).toBe("an earlier backup");
    }
    const dir = temp.file("data");
    await using replica = startReplica(followArgs(primary.url, dir, ...flags), { env });
    if (says === undefined) {
      await replica.waitForLine(/connected by full resync/);
      expect(currentBase(dir)).toEqual(rdb);
      expect(primary.peers.at(-1)?.received.toString()).toContain(env.REPLICA_PASSWORD);
    } else {
      await replica.waitForLine(new RegExp(`warn .*${says.source}.*; next attempt in`, "i"));
      expect(filesIn(dir)).toEqual({ "generations/": "" });
      // Nothing is sent to the wrong server, least of all the password.
      for (const peer of primary.peers) expect(peer.receivedBytes).toBe(0);
    }
    expect(readdirSync(temp.path).toSorted()).toEqual(["data", "dump.rdb"]);
  });
});

describe("a real server that wants TLS", () => {
  const client = ["--tls-cert", certificates.client.cert, "--tls-key", certificates.client.key];
  const foreign = [
    "--tls-cert",
    certificates.foreignClient.cert,
    "--tls-key",
    certificates.foreignClient.key,
  ];

  test.concurrent("and a client certificate refuses a backup without one", async () => {
    using temp = tempDir();
    await using server = await startServer("redis-7.0", { tls: { clients: "yes" } });
    const url = server.url("tls");
    for (const flags of [trust, [...trust, ...foreign]]) {
      const ended = await runReplica(["backup", url, temp.file("dump.rdb"), ...flags]);
      expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
      expect(onlyLine(ended)).toMatch(/TLS: tlsv1 alert .*; check .*--tls-cert/);
      expect(readdirSync(temp.path)).toEqual([]);
    }
    const args = ["backup", url, temp.file("dump.rdb"), ...trust, ...client];
    const ended = await runReplica(args);
    expect(ended.exitCode, ended.stderr).toBe(0);
  });

  test.concurrent("and a plain URL, and the other way round, end with a hint", async () => {
    using temp = tempDir();
    await using server = await startServer("redis-7.0", { tls: { clients: "no" } });
    const out = temp.file("dump.rdb");
    const plain = await runReplica(["backup", `redis://127.0.0.1:${server.tlsPort}`, out]);
    expect(plain).toMatchObject({ exitCode: 1, stdout: "" });
    expect(onlyLine(plain)).toMatch(/rediss:\/\//);
    const flags = [...trust, "--sync-timeout", "2s"];
    const secure = await runReplica(["backup", `rediss://127.0.0.1:${server.port}`, out, ...flags]);
    expect(secure).toMatchObject({ exitCode: 1, stdout: "" });
    // A plain server takes the TLS hello for an unfinished line, and waits.
    expect(onlyLine(secure)).toMatch(/no connection within 2000 ms/);
    expect(readdirSync(temp.path)).toEqual([]);
  });
});

test.concurrent("a TLS handshake that never ends is given up after --sync-timeout", async () => {
  using temp = tempDir();
  await using primary = fakePrimary(async (peer) => await peer.untilClosed());
  const url = primary.url.replace("redis:", "rediss:");
  const ended = await runReplica(["backup", url, temp.file("x.rdb"), "--sync-timeout", "1s"]);
  expect(ended.exitCode).toBe(1);
  expect(onlyLine(ended)).toMatch(/no connection within 1000 ms \(--sync-timeout\)/);
  await until(() => primary.peers[0]?.isClosed, { what: "the end" });
});

test.concurrent("an unreadable or invalid certificate file ends with 2", async () => {
  using temp = tempDir();
  writeFileSync(temp.file("ca.pem"), "no certificate");
  await using primary = fakePrimary(async (peer) => await behave(peer, rdb), {
    tls: { certificate: certificates.server },
  });
  const backup = ["backup", primary.url, temp.file("dump.rdb")];
  const none = await runReplica([...backup, "--tls-ca", temp.file("none.pem")]);
  expect(none.exitCode).toBe(2);
  expect(onlyLine(none)).toMatch(
    /the flag --tls-ca: can't read .*none\.pem: there is no such file/,
  );
  const bad = await runReplica([...backup, "--tls-ca", temp.file("ca.pem")]);
  expect(bad.exitCode).toBe(2);
  expect(onlyLine(bad)).toMatch(
    /the flag --tls-ca: .*ca\.pem contains no certificate in PEM format/,
  );
  const swapped = ["--tls-cert", certificates.client.key, "--tls-key", certificates.client.cert];
  const noCertificate = await runReplica([...backup, ...swapped]);
  expect(noCertificate.exitCode).toBe(2);
  expect(onlyLine(noCertificate)).toMatch(
    /--tls-cert: .*client\.key contains no certificate in PEM format/,
  );
  const twice = ["--tls-cert", certificates.client.cert, "--tls-key", certificates.client.cert];
  const noKey = await runReplica([...backup, ...twice]);
  expect(noKey.exitCode).toBe(2);
  expect(onlyLine(noKey)).toMatch(
    /--tls-key: .*client\.crt contains no unencrypted private key in PEM format/,
  );
  const half = await runReplica([...backup, "--tls-cert", certificates.client.cert]);
  expect(half.exitCode).toBe(2);
  expect(onlyLine(half)).toMatch(/needs --tls-key FILE as well/);
});
