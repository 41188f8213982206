import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compiledProgram } from "../support/compiled.ts";
import { programEnvironment } from "../support/replica-process.ts";
import { certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";

const project = join(import.meta.dir, "../..");
const fromSource = [process.execPath, join(project, "src/main.ts")];

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "replica-main-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

const children: Bun.Subprocess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

function environment(more: Record<string, string> = {}): Record<string, string | undefined> {
  return { ...programEnvironment(), ...more };
}

async function run(
  argv: readonly string[],
  env: Record<string, string> = {},
  program = fromSource,
) {
  const child = Bun.spawn([...program, ...argv], {
    env: environment(env),
    cwd: dir,
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  const [stdout, stderr, code] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  return { stdout, stderr, code };
}

/** Starts a replica and waits until it logs whom it follows. */
async function following(
  argv: readonly string[],
  program = fromSource,
  env: Record<string, string> = {},
  cwd = mkdtempSync(join(dir, "run-")),
) {
  const child = Bun.spawn([...program, ...argv, "--port", "0"], {
    env: environment(env),
    cwd,
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  const seen = { text: "" };
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) seen.text += decoder.decode(chunk, { stream: true });
  })();
  await until(() => seen.text.includes("following "), { what: "it to follow" });
  return { child, seen, reading };
}

test.skipIf(process.platform !== "linux").each(["--version", "--help", "status --help"])(
  "%s says that its output finds no room, and exits with 1",
  async (question) => {
    const shell = ["sh", "-c", `"$@" ${question} > /dev/full`, "sh"];
    const { stderr, code } = await run(fromSource, {}, shell);
    expect(stderr).toStartWith("replica: ENOSPC: ");
    expect(code).toBe(1);
  },
);

test("the version goes to where the output stands, also in a file", async () => {
  const file = join(dir, "versions");
  const version = await run(["--version"]);
  const shell = ["sh", "-c", `{ echo first; "$@"; echo between; "$@"; } > ${file}`, "sh"];
  expect(await run([...fromSource, "--version"], {}, shell)).toMatchObject({ code: 0 });
  const text = readFileSync(file, "utf8");
  expect(text).toBe(`first\n${version.stdout}between\n${version.stdout}`);
});

test.each(["-h", "help"])("%s asks for help as --help does", async (word) => {
  const asked = await run(["--help"]);
  expect(asked).toMatchObject({ stderr: "", code: 0 });
  expect(await run([word])).toEqual(asked);
});

test("npm run passes a signal on, and the exit code back", async () => {
  const npm = ["npm", "run", "--silent", "replica", "--"];
  const { child, seen, reading } = await following(["--dir", join(dir, "npm")], npm, {}, project);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
  await reading;
  expect(seen.text).toContain("stopped;");
});

describe("exit codes", () => {
  test("0: help and version, on standard output", async () => {
    const help = await run(["--help"]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toContain("--rdb-sync-bytes");
    const version = JSON.parse(readFileSync(join(project, "package.json"), "utf8")).version;
    expect(await run(["--version"])).toEqual({
      code: 0,
      stdout: `replica ${version}\n`,
      stderr: "",
    });
  });

  test("2: a wrong flag, variable, file, value, URL or command, in one line", async () => {
    const config = join(dir, "bad.toml");
    writeFileSync(config, "prot = 1");
    const wrong: [string[], Record<string, string>, string][] = [
      [["--prot", "1"], {}, "did you mean --port?"],
      [[], { REPLICA_PROT: "1" }, "did you mean REPLICA_PORT?"],
      [[], { REPLICA_port: "1" }, "did you mean REPLICA_PORT?"],
      [["--PORT", "1"], {}, "did you mean --port?"],
      [["--config", config], {}, "did you mean port?"],
      [["--port", "x"], {}, "the flag --port is"],
      [["follow", "localhost"], {}, "redis://localhost:6379?"],
      [["folow"], {}, "did you mean follow?"],
      [["follow", "/x"], {}, "the form is redis://[login@]host[:port], rediss://…"],
      [["--bind", "0.0.0.0"], {}, "--requirepass-file"],
    ];
    const outcomes = await Promise.all(wrong.map(([argv, env]) => run(argv, env)));
    for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
      expect(code).toBe(2);
      expect(stdout).toBe("");
      expect(stderr).toMatch(/^replica: [^\n]+\n$/);
      expect(stderr).toContain(wrong[index]?.[2] ?? "");
    }
  });

  test("1: a failure while running", async () => {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const port = listener.port;
    listener.stop(true);
    expect(await run(["status", `127.0.0.1:${port}`])).toEqual({
      code: 1,
      stdout: "",
      stderr: `replica: nothing answers at 127.0.0.1:${port}: is replica running there?\n`,
    });
  });

  test("1: a failed backup names its primary", async () => {
    for (const url of ["redis://u@127.0.0.1:1", `unix://${join(dir, "none.sock")}`]) {
      const { code, stdout, stderr } = await run(["backup", url, join(dir, "none.rdb")]);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toStartWith(`replica: ${url}: `);
      expect(stderr).toMatch(/^[^\n]+\n$/);
    }
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("0: stopped by %s", async (signal) => {
    const { child, seen, reading } = await following(["redis://127.0.0.1:1"]);
    child.kill(signal);
    expect(await child.exited).toBe(0);
    await reading;
    expect(seen.text).toContain("stopped;");
  });

  test.skipIf(process.platform !== "linux")(
    "0: with certificates to renew, SIGHUP stops it only where its terminal was closed",
    async () => {
      const { cert, key } = certificates.server;
      const tls = ["--port-tls-cert", cert, "--port-tls-key", key];
      const argv = ["follow", "redis://127.0.0.1:1", "--dir", join(dir, "hangup"), "--port", "0"];
      let seen = "";
      const child = Bun.spawn([...fromSource, ...argv, ...tls], {
        env: environment(),
        terminal: { data: (_terminal, bytes) => void (seen += Buffer.from(bytes).toString()) },
      });
      children.push(child);
      await until(() => seen.includes("next attempt"), { what: "it to run" });
      child.kill("SIGHUP");
      await until(() => seen.includes("SIGHUP: new connections"), { what: "the renewal" });
      expect(child.exitCode).toBeNull();
      child.terminal!.close();
      expect(await child.exited).toBe(0);
    },
    150_000,
  );

  test.skipIf(process.platform !== "linux")(
    "under nohup, certificates are renewed by SIGHUP, and the end of the terminal stops nothing",
    async () => {
      const { cert, key } = certificates.server;
      const argv = ["follow", "redis://127.0.0.1:1", "--dir", join(dir, "nohup"), "--port", "0"];
      const log = join(dir, "nohup.log");
      const line = 'exec nohup "$0" "$@" >"$LOG" 2>&1';
      const program = [...fromSource, ...argv, "--port-tls-cert", cert, "--port-tls-key", key];
      const child = Bun.spawn(["sh", "-c", line, ...program], {
        env: { ...environment(), LOG: log },
        terminal: { data: () => undefined },
      });
      children.push(child);
      const renewals = () =>
        existsSync(log)
          ? readFileSync(log, "utf8").split("SIGHUP: new connections").length - 1
          : undefined;
      await until(() => existsSync(log) && readFileSync(log, "utf8").includes("next attempt"), {
        what: "it to run",
      });
      child.terminal!.close();
      await until(() => renewals() !== 0, { what: "the hangup" });
      const before = renewals()!;
      child.kill("SIGHUP");
      await until(() => renewals()! > before, { what: "a renewal" });
      expect(child.exitCode).toBeNull();
      child.kill("SIGTERM");
      expect(await child.exited).toBe(0);
    },
    150_000,
  );

  test.skipIf(process.platform !== "linux")("SIGHUP is ignored under nohup", async () => {
    // With a password in the URL the process writes over its own memory first, which must not change that.
    for (const url of ["redis://127.0.0.1:1", "redis://:secret@127.0.0.1:1"]) {
      const { child } = await following([url], ["nohup", ...fromSource]);
      child.kill("SIGHUP");
      await Bun.sleep(300);
      expect([child.exitCode, child.signalCode]).toEqual([null, null]);
      child.kill("SIGTERM");
      expect(await child.exited).toBe(0);
    }
  });

  test("0: stopped by its terminal closing", async () => {
    let seen = "";
    const child = Bun.spawn([...fromSource, "redis://127.0.0.1:1", "--port", "0"], {
      env: environment(),
      cwd: mkdtempSync(join(dir, "run-")),
      terminal: { data: (_terminal, bytes) => (seen += Buffer.from(bytes).toString()) },
    });
    children.push(child);
    await until(() => seen.includes("following "), { what: "it to follow" });
    child.terminal!.close();
    expect(await child.exited).toBe(0);
  });
});

describe("a command that misbehaves", () => {
  const stubborn = [
    process.execPath,
    "--preload",
    join(import.meta.dir, "stubborn-follow.ts"),
    join(project, "src/main.ts"),
  ];

  test("exits on a second signal", async () => {
    const { child, seen } = await following([], stubborn, { TEST_FOLLOW: "ignoresStop" });
    child.kill("SIGTERM");
    await until(() => seen.text.includes("asked"), { what: "the signal to arrive" });
    expect(child.exitCode).toBeNull();
    child.kill("SIGINT");
    expect(await child.exited).toBe(1);
  });

  test("ignores a repeat of the signal that bun run or npm passes on", async () => {
    const { child, seen } = await following([], stubborn, { TEST_FOLLOW: "ignoresStop" });
    child.kill("SIGINT");
    await until(() => seen.text.includes("asked"), { what: "the signal to arrive" });
    child.kill("SIGINT");
    await Bun.sleep(100);
    expect(child.exitCode).toBeNull();
    await Bun.sleep(500);
    child.kill("SIGINT");
    expect(await child.exited).toBe(1);
  });

  test("does not count SIGHUP as a second signal", async () => {
    for (const first of ["SIGHUP", "SIGTERM"] as const) {
      const { child, seen } = await following([], stubborn, { TEST_FOLLOW: "ignoresStop" });
      child.kill(first);
      await until(() => seen.text.includes("asked"), { what: "the signal to arrive" });
      child.kill(first === "SIGHUP" ? "SIGTERM" : "SIGHUP");
      await Bun.sleep(600);
      child.kill("SIGHUP");
      await Bun.sleep(100);
      expect(child.exitCode).toBeNull();
      child.kill("SIGTERM");
      expect(await child.exited).toBe(1);
    }
  });

  test.each([
    ["throws", "first line second line"],
    ["rejectsUnseen", "nobody awaits this"],
    ["throwsLater", "from a timer"],
  ])("%s: one line, and 1", async (body, message) => {
    const { code, stderr } = await run([], { TEST_FOLLOW: body }, stubborn);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^replica: [^\n]+\n$/);
    expect(stderr).toStartWith(`replica: ${message} (unexpected: --log-level debug shows`);
  });
});

test("prints a stack only at --log-level debug, wherever the level is set", async () => {
  const config = join(dir, "debug.toml");
  writeFileSync(config, 'log-level = "debug"');
  const outcomes = await Promise.all([
    run(["status", "127.0.0.1:1"]),
    run(["status", "127.0.0.1:1", "--log-level", "debug"]),
    run(["status", "127.0.0.1:1", "--log-level=debug"]),
    run(["status", "127.0.0.1:1"], { REPLICA_LOG_LEVEL: "debug" }),
    run(["status", "127.0.0.1:1", "--config", config]),
    run(["--prot", "1", "--log-level", "debug"]),
  ]);
  const hasStack = outcomes.map(({ stderr }) => /\n +at /.test(stderr));
  expect(hasStack).toEqual([false, true, true, true, true, true]);
});

test("exits with 0 when the reader of its output is gone", async () => {
  const child = Bun.spawn(
    ["sh", "-c", `{ sleep 0.2; "$0" "$@"; echo "code $?" >&2; } | true`, ...fromSource, "--help"],
    { env: environment(), stdout: "ignore", stderr: "pipe" },
  );
  children.push(child);
  expect(await child.stderr.text()).toBe("code 0\n");
});

test("an error about a URL is a whole sentence, with the password hidden", async () => {
  const lines = await Promise.all(
    ["redis://:p#w@127.0.0.1:6379", "redis://:p/w@h", "redis://:secret", "redis://"].map(
      async (url) => (await run([url])).stderr,
    ),
  );
  const how =
    "in a user or password (percent-encoding), or put the password into a file, for --password-file";
  const form =
    "the host is missing: the form is redis://[login@]host[:port], rediss://…, unix:///path.sock, redis+sentinel://host[:port],…/name or redis+cluster://host[:port],…";
  expect(lines).toEqual([
    `replica: redis://***: write # as %23 and % as %25 ${how}\n`,
    `replica: redis://***@h: write / as %2F and % as %25 ${how}\n`,
    `replica: redis://:***: ${form}\n`,
    `replica: redis://: ${form}\n`,
  ]);
});

test("never prints the password of a malformed URL", async () => {
  for (const url of ["redis://u:hunter2@h:99999", "redis://u:hun/hunter2@h", "u:hunter2@h:1"]) {
    const { code, stderr } = await run([url, "--log-level", "debug"]);
    expect(code).toBe(2);
    expect(stderr).not.toContain("hunter2");
  }
});

test("never prints the password of a URL given in place of another argument", async () => {
  const url = "redis://u:hunter2@h:6380";
  for (const argv of [
    ["status", 'redis://u:with a " hunter2@h:6380'],
    ["status", "redis://u:1234:hunter2@h:6380"],
    ["status", "redis://u:12/hunter2@h:6380"],
    ["status", "redis://u:12: hunter2@h:6380"],
    ["status", url],
    ["verify", url],
    ["snapshots", url],
    ["restore", url, "target"],
    [`--http=${url}`],
    [`--config=${url}`],
    [`--${url}`],
  ]) {
    const { code, stderr } = await run([...argv, "--log-level", "debug"]);
    expect(code).toBe(2);
    expect(stderr).not.toContain("hunter2");
    expect(stderr).toMatch(/redis:\/\/?u:\*\*\*@h:6380/);
  }
});

/** A primary that requires a password and records what it receives. */
function guardedPrimary(): { url: (login: string) => string; heard: () => string; stop(): void } {
  let heard = "";
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        heard += chunk.toString();
        socket.write("-NOAUTH Authentication required.\r\n");
      },
    },
  });
  return {
    url: (login) => `redis://${login}127.0.0.1:${listener.port}`,
    heard: () => heard,
    stop: () => listener.stop(true),
  };
}

describe("a password in the URL", () => {
  const isNotLinux = process.platform !== "linux";

  const commandLine = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, "utf8");

  test.skipIf(isNotLinux)("leaves the process list and the logs, and is used", async () => {
    const primary = guardedPrimary();
    const { child, seen, reading } = await following([primary.url("u:hunter2%40@")]);
    expect(commandLine(child.pid)).toContain("redis://u@127.0.0.1:");
    expect(commandLine(child.pid)).not.toContain("hunter2");
    // Nor anywhere else that another process of the same user could read.
    expect(readFileSync(`/proc/${child.pid}/environ`, "latin1")).not.toContain("hunter2");
    expect(seen.text).toContain("put it into a file, for --password-file");
    await until(() => primary.heard().includes("AUTH"), { what: "AUTH" });
    expect(primary.heard()).toContain("AUTH\r\n$1\r\nu\r\n$8\r\nhunter2@\r\n");
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    await reading;
    expect(seen.text).not.toContain("hunter2");
    primary.stop();
  });

  test.skipIf(isNotLinux)("leaves the environment, and nothing else of it does", async () => {
    const primary = guardedPrimary();
    const env = { FIRST: "1", REPLICA_PASSWORD: "hunter2", "LAST OF ALL": "a=b" };
    const { child, seen } = await following([primary.url("u@")], fromSource, env);
    const environ = readFileSync(`/proc/${child.pid}/environ`, "latin1");
    expect(environ).not.toContain("hunter2");
    expect(environ.split("\0")).toEqual(
      expect.arrayContaining(["FIRST=1", "REPLICA_PASSWORD=", "LAST OF ALL=a=b"]),
    );
    await until(() => primary.heard().includes("AUTH"), { what: "AUTH" });
    expect(primary.heard()).toContain("AUTH\r\n$1\r\nu\r\n$7\r\nhunter2\r\n");
    expect(seen.text).not.toContain("--password-file");
    primary.stop();
  });

  test("takes precedence over a password file", async () => {
    const file = join(dir, "password");
    writeFileSync(file, "from-file\n");
    const primary = guardedPrimary();
    await following([primary.url(":from-url@"), "--password-file", file]);
    await until(() => primary.heard().includes("AUTH"), { what: "AUTH" });
    expect(primary.heard()).toContain("from-url");
    primary.stop();
    const other = guardedPrimary();
    await following([other.url(""), "--password-file", file]);
    await until(() => other.heard().includes("AUTH"), { what: "AUTH" });
    expect(other.heard()).toContain("from-file");
    other.stop();
  });

  test.skipIf(isNotLinux)("leaves the process list of the compiled program too", async () => {
    const compiled = compiledProgram();
    const { child, seen } = await following(["redis://:hunter2@127.0.0.1:1"], [compiled]);
    expect(commandLine(child.pid)).toStartWith(`${compiled}\0redis://@127.0.0.1:1\0`);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(seen.text).not.toContain("hunter2");
  });
});
