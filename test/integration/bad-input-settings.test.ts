import { expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { fakePrimary } from "../support/fake-primary.ts";
import { runReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { onlyLine } from "./bad-input-rig.ts";

interface Case {
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Content of the settings file. */
  readonly file?: string;
  readonly says: RegExp;
}

const cases: Readonly<Record<string, Case>> = {
  "an unknown flag": {
    flags: ["--sync-timout", "1s"],
    says: /unknown flag --sync-timout: did you mean --sync-timeout\?/,
  },
  "an unknown flag like nothing": { flags: ["--xyzzy"], says: /unknown flag --xyzzy$/ },
  "an unknown short flag": { flags: ["-z"], says: /unknown flag -z/ },
  "a flag's bad value": {
    flags: ["--sync-timeout", "soon"],
    says: /the flag --sync-timeout is "soon": it takes a duration/,
  },
  "an unknown variable": {
    env: { REPLICA_TLS_CERTS: "x" },
    says: /unknown variable REPLICA_TLS_CERTS: did you mean REPLICA_TLS_CERT\?/,
  },
  "a variable's bad value": {
    env: { REPLICA_LOG_LEVEL: "loud" },
    says: /the variable REPLICA_LOG_LEVEL is "loud": it takes debug, info, warn or error/,
  },
  "an unknown key in the file": {
    file: 'time-out = "5s"\n',
    says: /unknown setting time-out in .*config\.toml: did you mean timeout\?/,
  },
  "a key's bad value in the file": {
    file: "timeout = true\n",
    says: /timeout in .*config\.toml takes a duration/,
  },
  "a file that is not TOML": { file: "timeout 5s\n", says: /config\.toml is not valid TOML/ },
};

test.concurrent.each(Object.entries(cases))("%s ends with 2", async (_name, given) => {
  using temp = tempDir();
  await using primary = fakePrimary({ connections: [] });
  const config: string[] = [];
  if (given.file !== undefined) {
    writeFileSync(temp.file("config.toml"), given.file);
    config.push("--config", temp.file("config.toml"));
  }
  const options = { cwd: temp.path, env: given.env ?? {} };
  for (const command of [
    ["follow", primary.url],
    ["backup", primary.url, temp.file("dump.rdb")],
  ]) {
    const ended = await runReplica([...command, ...config, ...(given.flags ?? [])], options);
    expect(ended).toMatchObject({ exitCode: 2, stdout: "" });
    expect(onlyLine(ended)).toMatch(/^replica: \S/);
    expect(onlyLine(ended)).toMatch(given.says);
  }
  expect(primary.peers).toHaveLength(0);
  expect(readdirSync(temp.path)).toEqual(given.file === undefined ? [] : ["config.toml"]);
});

test.concurrent.each([
  [["folow"], /unknown command folow: did you mean follow\?/],
  [["backup"], /backup needs more arguments: replica backup \[URL\] OUT/],
  [["127.0.0.1:6379"], /not a URL: did you mean redis:\/\/127\.0\.0\.1:6379\?/],
  [["backup", "x.rdb", "--dir", "y"], /backup doesn't take --dir/],
  [
    ["redis://127.0.0.1", "--dir", "redis://:hunter2@h"],
    /the flag --dir is "redis:\/\/:\*\*\*@h": it takes the path of a directory$/,
  ],
  [
    ["restore", "data", "redis://:hunter2@h"],
    /redis:\/\/:\*\*\*@h is not a folder: in "replica restore SOURCE TARGET", TARGET is one$/,
  ],
  [["redis://127.0.0.1", "--config", "none.toml"], /none\.toml: there is no such file/],
] as const)("%p ends with 2", async (args, says) => {
  using temp = tempDir();
  const ended = await runReplica(args, { cwd: temp.path });
  expect(ended).toMatchObject({ exitCode: 2, stdout: "" });
  expect(onlyLine(ended)).toMatch(says);
  expect(readdirSync(temp.path)).toEqual([]);
});
