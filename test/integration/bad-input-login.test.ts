import { describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { behave, commandLineOf, filesIn, followArgs, onlyLine, smallRdb } from "./bad-input-rig.ts";

const SECRET = "correct-horse-battery";
const wrong = { REPLICA_PASSWORD: "not-the-one" };

interface Case {
  readonly name: string;
  /** The server's `requirepass`. */
  readonly wanted: string;
  readonly env: Readonly<Record<string, string>>;
  readonly flags: readonly string[];
  readonly says: RegExp;
  /** Makes the server accept the replica's password. */
  readonly mend: readonly string[];
}

const cases: readonly Case[] = [
  {
    name: "wrong",
    wanted: SECRET,
    env: wrong,
    flags: [],
    says: /the primary refuses the login \(-WRONGPASS .*\): check --username and REPLICA_PASSWORD/,
    mend: ["CONFIG", "SET", "requirepass", "not-the-one"],
  },
  {
    name: "wrong, of an unknown user",
    wanted: "",
    env: wrong,
    flags: ["--username", "backup"],
    says: /the primary refuses the login \(-WRONGPASS .*\): check --username and REPLICA_PASSWORD/,
    mend: ["ACL", "SETUSER", "backup", "on", ">not-the-one", "allcommands"],
  },
  {
    name: "missing",
    wanted: SECRET,
    env: {},
    flags: [],
    says: /the primary requires a password \(-NOAUTH .*\): set --password-file or REPLICA_PASSWORD/,
    mend: ["CONFIG", "SET", "requirepass", ""],
  },
  {
    name: "not needed",
    wanted: "",
    env: wrong,
    flags: [],
    says: /the primary expects no password \(-ERR AUTH .*\): leave it out/,
    mend: ["CONFIG", "SET", "requirepass", "not-the-one"],
  },
  {
    name: "of a user who may not sync",
    wanted: "",
    env: wrong,
    flags: ["--username", "weak"],
    says: /the primary permits no sync: -NOPERM .*; send it ACL SETUSER weak \+psync, or log in as another with --username and --password-file/,
    mend: ["ACL", "SETUSER", "weak", "+psync"],
  },
];

describe("a password that is", () => {
  test.concurrent.each(cases)("$name", async ({ wanted, env, flags, says, mend }) => {
    using temp = tempDir();
    await using server = await startServer("redis-7.0");
    // This connection stays authenticated.
    await server.send("ACL", "SETUSER", "weak", "on", ">not-the-one", "+replconf", "+ping");
    if (wanted !== "") await server.send("CONFIG", "SET", "requirepass", wanted);

    writeFileSync(temp.file("dump.rdb"), "an earlier backup");
    const backup = ["backup", server.url(), temp.file("dump.rdb"), "--force"];
    const ended = await runReplica([...backup, ...flags], { env });
    expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
    const shown = ended.stderr.split("\n").filter((line) => !line.includes("(non-critical)"));
    expect(onlyLine({ ...ended, stderr: shown.join("\n") })).toMatch(says);
    expect(readdirSync(temp.path)).toEqual(["dump.rdb"]);

    const dir = temp.file("data");
    await using replica = startReplica(followArgs(server.url(), dir, ...flags), { env });
    await replica.waitForLine(new RegExp(`warn .*${says.source}; next attempt in \\d+ ms`));
    expect(filesIn(dir)).toEqual({ "generations/": "" });
    await server.sendAll([mend]);
    await replica.waitForLine(/connected by full resync/);
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    for (const text of [ended.stderr, replica.stderr]) {
      expect(text).not.toContain(SECRET);
      expect(text).not.toContain("not-the-one");
    }
  });

  test.concurrent("right, and a percent-encoded one in the URL", async () => {
    using temp = tempDir();
    const password = "p@ss/w?rd#100%";
    await using server = await startServer("redis-7.0", { password });
    const ended = await runReplica(["backup", server.url(), temp.file("dump.rdb")]);
    expect(ended.exitCode, ended.stderr).toBe(0);
  });
});

describe("a password is never shown", () => {
  const levels = ["debug", "info", "warn", "error"] as const;

  function expectNoSecret(text: string): void {
    expect(text).not.toContain(SECRET);
    expect(text).not.toContain(encodeURIComponent(SECRET));
  }

  interface Source {
    readonly from: string;
    readonly give: (url: string, file: string) => { url: string; flags: string[] };
    readonly env: Readonly<Record<string, string>>;
  }
  const sources: readonly Source[] = [
    {
      from: "the URL",
      give: (url) => ({ url: url.replace("//", `//user:${SECRET}@`), flags: [] }),
      env: {},
    },
    {
      from: "the variable",
      give: (url) => ({ url, flags: [] }),
      env: { REPLICA_PASSWORD: SECRET },
    },
    {
      from: "the file",
      give: (url, file) => ({ url, flags: ["--password-file", file] }),
      env: {},
    },
  ];
  const runs = sources.flatMap((source) => levels.map((level) => ({ ...source, level })));

  test.concurrent.each(runs)("from $from, at $level", async ({ level, give, env }) => {
    using temp = tempDir();
    writeFileSync(temp.file("password"), `${SECRET}\n`);
    const rdb = smallRdb("value");
    await using primary = fakePrimary(async (peer) => {
      if (peer.index === 1) {
        await behave(peer, rdb);
        await peer.close();
        return;
      }
      await standardHandshake(peer, { replid: "", offset: 0, password: "another" });
    });
    const { url, flags } = give(primary.url, temp.file("password"));
    for (const format of ["text", "json"]) {
      const more = [...flags, "--log-level", level, "--log-format", format];
      const ended = await runReplica(["backup", url, temp.file("dump.rdb"), ...more], { env });
      if (ended.exitCode !== 0) expect(ended.stderr).toMatch(/refuses the login/);
      expectNoSecret(ended.stdout + ended.stderr);
    }
    const more = [...flags, "--log-level", level];
    await using replica = startReplica(followArgs(url, temp.file("data"), ...more), { env });
    const connections = primary.peers.length;
    await until(() => primary.peers.length > connections + 2, { what: "further attempts" });
    expectNoSecret(commandLineOf(replica));
    await replica.stop();
    expectNoSecret(replica.stdout + replica.stderr);
  });

  test.concurrent("in a reply of the primary that repeats it", async () => {
    using temp = tempDir();
    // Redis repeats the arguments of an unknown command, as AUTH is if it was renamed.
    const renamed = `-ERR unknown command 'AUTH', with args beginning with: '${SECRET}' `;
    for (const AUTH of [renamed, `-ERR unknown command: AUTH ${SECRET}`]) {
      await using primary = fakePrimary(async (peer) => {
        await standardHandshake(peer, { replid: "", offset: 0, replies: { AUTH } });
      });
      for (const level of levels) {
        const env = { REPLICA_PASSWORD: SECRET };
        const args = ["backup", primary.url, temp.file("dump.rdb"), "--log-level", level];
        const ended = await runReplica(args, { env });
        expect(ended.exitCode).toBe(1);
        expect(ended.stderr).toMatch(/the primary refuses the login \(-ERR unknown command/);
        expectNoSecret(ended.stdout + ended.stderr);
      }
    }
  });

  test.concurrent("in errors of the command line", async () => {
    using temp = tempDir();
    const good = `redis://user:${SECRET}@127.0.0.1:1`;
    const wrongLines = [
      [`redis://user:${SECRET}@host:port`],
      [`redis://:${SECRET}`],
      [`redis://user:${SECRET}#1@host`],
      [`http://user:${SECRET}@host`],
      [`user:${SECRET}@host:6379`],
      [`redis://user:${SECRET}%@host`],
      ["follow", good, good],
      ["backup", temp.file("dump.rdb"), good],
      ["backup", good, temp.file("none", "dump.rdb")],
      ["follow", good, "--no-such-flag"],
      ["follow", good, "--password", SECRET],
      ["follow", good, `--password=${SECRET}`],
      ["nothing", good],
    ];
    for (const args of wrongLines) {
      const ended = await runReplica([...args, "--log-level=debug"]);
      expect(ended.exitCode, args.join(" ")).toBe(2);
      expectNoSecret(ended.stdout + ended.stderr);
    }
    writeFileSync(temp.file("config.toml"), `password = "${SECRET}"\n`);
    const ended = await runReplica(["follow", "--config", temp.file("config.toml")]);
    expect(ended.exitCode).toBe(2);
    expectNoSecret(ended.stderr);
  });
});
