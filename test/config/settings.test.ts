import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { aboutSetting, settingNames, variableOf } from "../../src/config/schema/about-settings.ts";
import { usageErrorOf } from "../support/error-of.ts";
import { isLoopback, loadSettings, type SettingSources } from "../../src/config/load-settings.ts";
import { commandAt } from "../../src/config/schema/command-names.ts";
import { nearest } from "../../src/base/nearest.ts";
import { formatBytes, parseBytes, parseDurationMs } from "../../src/base/quantity.ts";
import { certificates } from "../support/tls.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "replica-config-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

function write(name: string, content: string | Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}

function load(flags: Record<string, string> = {}, env: Record<string, string> = {}) {
  return loadSettings({ flags: new Map(Object.entries(flags)), env });
}

/** The message of the usage error that loading throws. */
function complaint(sources: SettingSources): string {
  return usageErrorOf(() => loadSettings(sources)).message;
}

const complaintOf = (flags: Record<string, string>): string =>
  complaint({ flags: new Map(Object.entries(flags)) });
const complaintOfEnv = (env: Record<string, string>): string => complaint({ env });
const complaintOfFile = (content: string): string =>
  complaintOf({ config: write("bad.toml", content) });

test("every setting has its documented default", () => {
  expect(load()).toEqual({
    dir: "./replica-data",
    adopt: false,
    port: 6380,
    bind: "127.0.0.1",
    announceIp: undefined,
    announcePort: undefined,
    announce: false,
    username: undefined,
    password: undefined,
    sentinel: { username: undefined, password: undefined },
    requirepass: undefined,
    unprotected: false,
    tls: {
      caFile: undefined,
      certFile: undefined,
      keyFile: undefined,
      serverName: undefined,
      insecure: false,
    },
    cluster: { readFrom: "primary", snapshots: 2, shards: undefined, relayPorts: undefined },
    portTls: undefined,
    http: undefined,
    httpTls: undefined,
    httpHosts: [],
    readyLagMs: 10_000,
    io: "auto",
    rdbFor: undefined,
    rdbSyncBytes: 8 * 1024 * 1024,
    fsync: "everysec",
    ack: "written",
    snapshotEveryMs: 86_400_000,
    snapshotRatio: 4,
    snapshotRatioFromBytes: 1024 ** 3,
    keep: 2,
    keepForMs: 86_400_000,
    minFreeBytes: 1024 ** 3,
    minFreeShare: 1 / 8,
    archive: {
      url: undefined,
      endpoint: undefined,
      region: undefined,
      everyMs: 10_000,
      keepForMs: 7 * 86_400_000,
      recipients: [],
      identityFile: undefined,
      compression: "zstd",
      bytesPerSecond: undefined,
      fillsEmpty: true,
    },
    readyArchiveLagMs: undefined,
    timeoutMs: 60_000,
    syncLinks: 2,
    syncTimeoutMs: 5_000,
    askPrimary: true,
    psyncCommand: undefined,
    syncCommand: undefined,
    retryMaxMs: 5_000,
    logLevel: "info",
    logFormat: "text",
    progress: true,
  });
});

test("every setting has help, and its default is a value it takes", () => {
  for (const name of settingNames) {
    const { help, takes, default: preset } = aboutSetting(name);
    expect(help).not.toBe("");
    expect(takes).not.toBe("");
    if (preset !== undefined) expect(() => load({ [name]: String(preset) })).not.toThrow();
  }
});

describe("the archive", () => {
  test("its settings", () => {
    const flags = {
      archive: "s3://bucket/prefix",
      "archive-every": "1s",
      "archive-keep-for": "off",
      "archive-endpoint": "http://127.0.0.1:7480",
      "archive-recipient": "age1one,age1two",
      "archive-rate": "10MiB",
      "archive-compression": "none",
      "no-archive-bootstrap": "true",
      "ready-archive-lag": "5m",
      ack: "archived",
    };
    const { archive, ack, readyArchiveLagMs } = load(flags);
    expect(archive).toEqual({
      url: "s3://bucket/prefix",
      endpoint: "http://127.0.0.1:7480",
      region: undefined,
      everyMs: 1000,
      keepForMs: undefined,
      recipients: ["age1one", "age1two"],
      identityFile: undefined,
      compression: "none",
      bytesPerSecond: 10 * 1024 * 1024,
      fillsEmpty: false,
    });
    expect(ack).toBe("archived");
    expect(readyArchiveLagMs).toBe(300_000);
  });

  test("what means nothing without it is an error", () => {
    expect(complaintOf({ ack: "archived" })).toBe(
      "the flag --ack is archived, which needs --archive URL as well",
    );
    expect(complaintOf({ "archive-recipient": "age1one" })).toBe(
      "the flag --archive-recipient needs --archive URL as well",
    );
    expect(complaintOfEnv({ REPLICA_READY_ARCHIVE_LAG: "5m" })).toBe(
      "the variable REPLICA_READY_ARCHIVE_LAG needs --archive URL as well",
    );
    expect(complaintOf({ "archive-every": "1s" })).toBe(
      "the flag --archive-every needs --archive URL as well",
    );
    expect(load({ "ready-archive-lag": "off" }).readyArchiveLagMs).toBeUndefined();
    // As one line may turn off what a settings file says.
    expect(load({ archive: "off", "archive-every": "1s" }).archive.url).toBeUndefined();
    expect(complaintOf({ archive: "off", ack: "archived" })).toContain("needs --archive URL");
  });

  test("an endpoint has no login", () => {
    expect(complaintOf({ "archive-endpoint": "https://me@host" })).toContain("without a login");
    expect(complaintOf({ "archive-endpoint": "host:7480" })).toContain("https://host:port");
  });
});

describe("sources", () => {
  test("the flag wins over the variable, the file and the default, in that order", () => {
    const config = write("order.toml", 'port = 1001\ntimeout = "1m"\nfsync = "no"\n');
    const env = { REPLICA_PORT: "1002", REPLICA_TIMEOUT: "2m", REPLICA_CONFIG: config };
    const settings = load({ port: "1003" }, env);
    expect(settings.port).toBe(1003);
    expect(settings.timeoutMs).toBe(120_000);
    expect(settings.fsync).toBe("no");
    expect(settings.ack).toBe("written");
  });

  test("the flag --config wins over REPLICA_CONFIG", () => {
    const flagged = write("flagged.toml", "port = 1");
    expect(load({ config: flagged }, { REPLICA_CONFIG: "/nowhere" }).port).toBe(1);
  });

  test("a file may give numbers and booleans with or without quotes", () => {
    const bare = write(
      "bare.toml",
      'port = 7000\nrdb-sync-bytes = 65536\ntimeout = 90\nunprotected = true\nno-progress = 1\nack = "durable"\n',
    );
    expect(load({ config: bare })).toMatchObject({
      port: 7000,
      rdbSyncBytes: 65536,
      timeoutMs: 90_000,
      unprotected: true,
      progress: false,
      ack: "durable",
    });
    const quoted = write("quoted.toml", 'port = "7000"\nunprotected = "yes"\n');
    expect(load({ config: quoted })).toMatchObject({ port: 7000, unprotected: true });
  });

  test("a list has commas between its values, and may be an array in the file", () => {
    expect(load({ "http-host": "a,b.example" }).httpHosts).toEqual(["a", "b.example"]);
    expect(load({}, { REPLICA_HTTP_HOST: "a, b" }).httpHosts).toEqual(["a", "b"]);
    for (const text of ['http-host = ["a", "b"]', 'http-host = "a,b"']) {
      expect(load({ config: write("list.toml", text) }).httpHosts).toEqual(["a", "b"]);
    }
    for (const wrong of ["a:1", "http://a", "a,,b"]) {
      expect(() => load({ "http-host": wrong })).toThrow("it takes a host name without a port");
    }
    expect(() => load({ config: write("list.toml", 'dir = ["a"]') })).toThrow("dir in");
    expect(() => load({ config: write("list.toml", "http-host = [1]") })).toThrow("http-host in");
  });

  test("a service's name of PSYNC is one for all nodes, or one for each", () => {
    expect(load({ "psync-command": "xhma21psync" }).psyncCommand).toEqual({
      everywhere: "xhma21psync",
      at: new Map(),
    });
    const { psyncCommand } = load({
      "psync-command": "10.0.0.1:6379=apsync, Node-2.cache:6379=bpsync,[::1]:1=cpsync,dpsync",
    });
    expect(
      ["10.0.0.1:6379", "node-2.CACHE:6379", "[::1]:1", "10.0.0.2:6379", undefined].map((at) =>
        commandAt(psyncCommand, at),
      ),
    ).toEqual(["apsync", "bpsync", "cpsync", "dpsync", "dpsync"]);
    expect(commandAt(load({ "sync-command": "a:1=b" }).syncCommand, "c:1")).toBeUndefined();
    for (const wrong of [
      "",
      "a b",
      "a\r\nFLUSHALL",
      "$9",
      "a,b",
      "a:1=b,A:1=c",
      "a=b",
      "a:1=b=c",
      "a:1=",
      "x".repeat(65),
    ]) {
      expect(() => load({ "psync-command": wrong })).toThrow("psync-command");
    }
  });

  test("an empty variable counts as unset, and other programs' variables are ignored", () => {
    expect(
      load({}, { REPLICA_PORT: "", REPLICA_PASSWORD: "", PORT: "1", REDIS_PORT: "2" }),
    ).toEqual(load());
  });

  test.each(["true", "1", "yes", "YES"])("%s turns a switch on", (value) => {
    expect(load({}, { REPLICA_TLS_INSECURE: value }).tls.insecure).toBe(true);
  });
  test.each(["false", "0", "no"])("%s turns a switch off", (value) => {
    expect(load({ "no-progress": value }, { REPLICA_NO_PROGRESS: "true" }).progress).toBe(true);
  });
});

describe("unknown names", () => {
  test("a flag", () => {
    expect(complaintOf({ prot: "1" })).toBe("unknown flag --prot: did you mean --port?");
    expect(complaintOf({ "rdb-sync-byte": "1" })).toContain("did you mean --rdb-sync-bytes?");
    expect(complaintOf({ zebra: "1" })).toBe("unknown flag --zebra");
  });

  test("a variable", () => {
    expect(complaintOfEnv({ REPLICA_LOGLEVEL: "debug" })).toBe(
      "unknown variable REPLICA_LOGLEVEL: did you mean REPLICA_LOG_LEVEL?",
    );
    expect(complaintOfEnv({ REPLICA_PORTS: "1" })).toContain("did you mean REPLICA_PORT?");
  });

  test("a variable that Kubernetes sets", () => {
    for (const [name, value] of [
      ["REPLICA_SERVICE_HOST", "10.0.0.1"],
      ["REPLICA_PORT", "tcp://10.0.0.1:6380"],
      ["REPLICA_PORT_6380_TCP", "tcp://10.0.0.1:6380"],
    ] as const) {
      expect(complaintOfEnv({ [name]: value })).toContain("enableServiceLinks");
    }
  });

  test("a key in the file", () => {
    const message = complaintOfFile("tiemout = 60");
    expect(message).toContain("unknown setting tiemout");
    expect(message).toContain("bad.toml");
    expect(message).toEndWith("did you mean timeout?");
    expect(complaintOfFile("[tls]\nca = 'x'")).toContain("unknown setting tls");
    expect(complaintOfFile("config = 'x'")).toContain("unknown setting config");
  });

  test("a password is not a setting, and is not printed", () => {
    expect(complaintOfFile('password = "hunter2"')).toEndWith("did you mean password-file?");
    expect(complaintOfFile('password = "hunter2"')).not.toContain("hunter2");
    expect(complaintOfEnv({ REPLICA_SENTINEL_PASSWORD: "hunter2" })).toBe(
      "unknown variable REPLICA_SENTINEL_PASSWORD: did you mean REPLICA_SENTINEL_PASSWORD_FILE?",
    );
    expect(complaintOf({ password: "hunter2" })).toBe(
      "unknown flag --password: did you mean --password-file?",
    );
  });
});

describe("bad values", () => {
  test("are reported with the setting, its source, the value and what is expected", () => {
    const expected = "it takes a whole number from 0 to 65535";
    expect(complaintOf({ port: "abc" })).toStartWith(`the flag --port is "abc": ${expected}`);
    expect(complaintOfEnv({ REPLICA_PORT: "65536" })).toStartWith(
      `the variable REPLICA_PORT is "65536": ${expected}`,
    );
    expect(complaintOfFile("port = -1")).toMatch(/^port in .*bad\.toml is "-1": it takes a whole/);
  });

  test.each([
    ["dir", ""],
    ["dir", "a\nb"],
    ["port", "-1"],
    ["port", "1.5"],
    ["port", "0x10"],
    ["port", " 1"],
    ["announce-port", "0"],
    ["bind", "1.2.3"],
    ["bind", "*"],
    ["bind", "[::1]"],
    ["announce-ip", "a b"],
    ["announce", "maybe"],
    ["rdb-sync-bytes", "4095"],
    ["rdb-sync-bytes", "8M"],
    ["rdb-sync-bytes", "2TiB"],
    ["rdb-sync-bytes", "-8MiB"],
    ["io", "mmap"],
    ["http", "6395"],
    ["http", "127.0.0.1:99999"],
    ["http", "::1:6395"],
    ["ready-lag", "0"],
    ["fsync", "sometimes"],
    ["rdb-for", "7.0"],
    ["rdb-for", "redis-7"],
    ["rdb-for", "dragonfly-1.0"],
    ["rdb-for", "valkey-256.0"],
    ["ack", "received"],
    ["timeout", "999ms"],
    ["timeout", "2d"],
    ["timeout", "0"],
    ["timeout", "1 fortnight"],
    ["sync-timeout", "99ms"],
    ["retry-max", "9ms"],
    ["log-level", "trace"],
    ["log-format", "xml"],
    ["unprotected", "maybe"],
  ])("--%s=%s", (name, value) => {
    const message = complaintOf({ [name]: value });
    expect(message).toStartWith(`the flag --${name} is ${JSON.stringify(value)}: it takes `);
  });

  test("are cut in the message if they are long", () => {
    expect(complaintOf({ fsync: "x".repeat(10_000) }).length).toBeLessThan(200);
  });

  test("include a number for a text setting in the file", () => {
    expect(complaintOfFile("dir = 5")).toEndWith("takes the path of a directory, as a string");
    expect(complaintOfFile("port = [1]")).toContain("takes a whole number");
    expect(complaintOfFile("timeout = 2026-01-01")).toContain("takes a duration");
  });
});

describe("the settings file", () => {
  test("that is not TOML: reports its name and the parser's message, without what that quotes", () => {
    const message = complaintOfFile("password = hunter2");
    expect(message).toMatch(/^the settings file .*bad\.toml is not valid TOML: .*quoted/);
    expect(message).not.toContain("hunter2");
    expect(complaintOfFile("[x")).toContain("bad.toml is not valid TOML");
  });

  test("that is missing, a directory, too large or not text is refused", () => {
    expect(complaintOf({ config: join(dir, "none.toml") })).toContain(
      "none.toml: there is no such file",
    );
    expect(complaintOf({ config: dir })).toContain("it is a directory");
    expect(complaintOfFile("# ".padEnd(1024 * 1024 + 1, "x"))).toContain("larger than 1048576");
    const binary = write("binary.toml", new Uint8Array([0xff, 0xfe]));
    expect(complaintOf({ config: binary })).toContain("is not UTF-8 text");
  });
});

describe("passwords", () => {
  test("are a file's content without one line end", () => {
    expect(load({ "password-file": write("p1", "s3cret\n") }).password?.read()).toBe("s3cret");
    expect(load({ "password-file": write("p2", "s3cret\n\n") }).password?.read()).toBe("s3cret\n");
    expect(load({ "password-file": write("p3", " s3 cret \r\n") }).password?.read()).toBe(
      " s3 cret ",
    );
    expect(load({ "requirepass-file": write("p4", "own") }).requirepass?.read()).toBe("own");
    const env = { REPLICA_SENTINEL_PASSWORD_FILE: write("p6", "theirs\n") };
    const { sentinel } = load({ "sentinel-username": "u" }, env);
    expect([sentinel.username, sentinel.password?.read()]).toEqual(["u", "theirs"]);
  });

  test("in the file win over REPLICA_PASSWORD", () => {
    const env = { REPLICA_PASSWORD: "from the variable" };
    expect(load({}, env).password?.read()).toBe("from the variable");
    const { password } = load({ "password-file": write("p5", "from the file") }, env);
    expect(password?.read()).toBe("from the file");
  });

  test("in an empty, missing or too large file: the error names the file, never its content", () => {
    expect(complaintOf({ "password-file": write("empty", "\n") })).toMatch(
      /^the flag --password-file: .*empty is empty/,
    );
    expect(complaintOfEnv({ REPLICA_REQUIREPASS_FILE: join(dir, "gone") })).toMatch(
      /^the variable REPLICA_REQUIREPASS_FILE: can't read .*gone: there is no such file/,
    );
    const large = complaintOf({ "password-file": write("large", "hunter2".repeat(10_000)) });
    expect(large).toContain("larger than 65536 bytes");
    expect(large).not.toContain("hunter2");
    const binary = write("binary", Buffer.from("hunter2\xff", "latin1"));
    expect(complaintOf({ "password-file": binary })).not.toContain("hunter2");
  });

  test("in a file that the command doesn't take are not read", () => {
    const flags = new Map([["password-file", join(dir, "gone")]]);
    expect(loadSettings({ flags, takes: ["port"] }).password).toBeUndefined();
  });
});

describe("what must fit together", () => {
  test("--http and --port differ where both would listen at the same address", () => {
    const source = "the flag --http names port 7000, which is the replica's own (--port)";
    const of = (http: string, bind: string, port = "7000") => ({ http, bind, port });
    for (const flags of [
      of("127.0.0.1:7000", "127.0.0.1"),
      of("127.0.0.1:7000", "localhost"),
      of("localhost:7000", "LOCALHOST"),
      of("0.0.0.0:7000", "127.0.0.1"),
      of("[::]:7000", "127.0.0.1"),
      of("[::1]:7000", "::1"),
    ]) {
      expect(complaintOf(flags)).toBe(`${source}: give another one`);
    }
    for (const flags of [
      of("127.0.0.1:7000", "127.0.0.1", "7001"),
      of("127.0.0.1:0", "127.0.0.1", "0"),
      of("127.0.0.2:7000", "127.0.0.1"),
      of("[::1]:7000", "127.0.0.1"),
      of("off", "127.0.0.1"),
    ]) {
      expect(() => load(flags)).not.toThrow();
    }
    expect(complaintOfEnv({ REPLICA_HTTP: "127.0.0.1:6380" })).toContain(
      "the variable REPLICA_HTTP names",
    );
    // `replica status` listens to nothing.
    const flags = new Map(Object.entries(of("127.0.0.1:7000", "127.0.0.1")));
    expect(() => loadSettings({ flags, takes: ["port", "bind"] })).not.toThrow();
  });

  test.each(["0.0.0.0", "::", "192.168.1.1", "example.org", "::ffff:10.0.0.1"])(
    "binding %s needs a password or --unprotected",
    (bind) => {
      const message = complaintOf({ bind });
      expect(message).toContain(`binding ${bind}`);
      expect(message).toContain("--requirepass-file FILE");
      expect(message).toContain("--unprotected");
      expect(load({ bind, unprotected: "true" }).bind).toBe(bind);
      expect(load({ bind, "requirepass-file": write("own", "x") }).requirepass?.read()).toBe("x");
      // A command that serves nothing has nothing to protect.
      expect(loadSettings({ flags: new Map([["bind", bind]]), takes: ["bind"] }).bind).toBe(bind);
    },
  );

  test("loopback is 127.0.0.0/8, ::1 and localhost", () => {
    for (const own of ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"]) {
      expect(isLoopback(own)).toBe(true);
    }
    for (const other of ["128.0.0.1", "0.0.0.0", "127.0.0.1.example.org", "localhost.example"]) {
      expect(isLoopback(other)).toBe(false);
    }
  });

  test("a certificate needs its key, and both must be readable PEM", () => {
    const pem = write("c.pem", "x");
    expect(complaintOf({ "tls-cert": pem })).toBe(
      "the flag --tls-cert needs --tls-key FILE as well",
    );
    expect(complaintOf({ "tls-key": pem })).toContain("needs --tls-cert FILE");
    expect(complaintOf({ "tls-ca": join(dir, "no.pem") })).toContain("there is no such file");
    for (const name of ["tls-cert", "tls-key", "tls-ca"]) {
      const { cert, key } = certificates.client;
      const flags = { "tls-cert": cert, "tls-key": key, [name]: pem };
      expect(complaintOf(flags)).toMatch(
        new RegExp(`^the flag --${name}: .*c\\.pem contains no .* in PEM format`),
      );
    }
    expect(complaintOf({ "tls-ca": "/dev/null" })).toContain("/dev/null is not a regular file");
    const { ca, client } = certificates;
    const { tls } = load({ "tls-cert": client.cert, "tls-key": client.key, "tls-ca": ca });
    expect([tls.certFile, tls.keyFile, tls.caFile]).toEqual([client.cert, client.key, ca]);
  });
});

test("parses sizes in binary and decimal units", () => {
  expect(parseBytes("8MiB")).toBe(8 * 1024 ** 2);
  expect(parseBytes("64kib")).toBe(65536);
  expect(parseBytes("1GB")).toBe(1e9);
  expect(parseBytes("1.5 KiB")).toBe(1536);
  expect(parseBytes("4096")).toBe(4096);
  expect(parseBytes("4096B")).toBe(4096);
  for (const bad of ["", "8M", "MiB", "1e3", "1.5", "-1", "8 MiB x", "99999999999999999999"]) {
    expect(parseBytes(bad)).toBeUndefined();
  }
});

test("parses durations with units; a bare number is in seconds", () => {
  expect(parseDurationMs("500ms")).toBe(500);
  expect(parseDurationMs("60s")).toBe(60_000);
  expect(parseDurationMs("5m")).toBe(300_000);
  expect(parseDurationMs("1.5h")).toBe(5_400_000);
  expect(parseDurationMs("1d")).toBe(86_400_000);
  expect(parseDurationMs("60")).toBe(60_000);
  for (const bad of ["", "s", "-1s", "1y", "1 week", "1s 2s", "1e3"]) {
    expect(parseDurationMs(bad)).toBeUndefined();
  }
});

test("formats sizes in binary units", () => {
  expect(formatBytes(0)).toBe("0 B");
  expect(formatBytes(1023)).toBe("1023 B");
  expect(formatBytes(8 * 1024 ** 2)).toBe("8.0 MiB");
  expect(formatBytes(1024 ** 2 - 1)).toBe("1.0 MiB");
  expect(formatBytes(1.5 * 1024 ** 4)).toBe("1.5 TiB");
});

test("off turns off what the default or the file turns on", () => {
  const config = write("on.toml", 'http = "127.0.0.1:0"\nkeep-for = "7d"\nsnapshot-every = "24h"');
  expect(load({ config })).toMatchObject({ keepForMs: 604_800_000, snapshotEveryMs: 86_400_000 });
  const off = { http: "off", "keep-for": "off", "snapshot-every": "off" };
  expect(load({ config, ...off })).toEqual({
    ...load(),
    keepForMs: undefined,
    snapshotEveryMs: undefined,
  });
});

test("suggests the nearest name only if it is near", () => {
  const known = ["port", "password-file", "timeout"];
  expect(nearest("prot", known)).toBe("port");
  expect(nearest("password", known)).toBe("password-file");
  expect(nearest("timeuot", known)).toBe("timeout");
  expect(nearest("zzzz", known)).toBeUndefined();
  expect(nearest("p", known)).toBeUndefined();
  expect(nearest("port", [])).toBeUndefined();
});

test("a setting's variable", () => {
  expect(variableOf("rdb-sync-bytes")).toBe("REPLICA_RDB_SYNC_BYTES");
});

test("accepts certificate comments in any encoding", () => {
  const comment = Buffer.from("# F\xf5tan\xfas\xedtv\xe1ny\n", "latin1");
  const path = write("latin1.pem", Buffer.concat([comment, readFileSync(certificates.ca)]));
  expect(load({ "tls-ca": path }).tls.caFile).toBe(path);
});
