import { expect, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { status } from "../../src/cli/commands/status.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { Screen } from "../cli/commands/screen.ts";
import { endingWithParent, endWithProcess } from "../support/children.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { programEnvironment, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { compiledProgram } from "../support/compiled.ts";
import { until } from "../support/wait.ts";
import { REPLID, smallRdb } from "./bad-input-rig.ts";

async function ask(port: number): Promise<{ code: number; text: string }> {
  const screen = new Screen();
  const code = await status({
    settings: loadSettings({}),
    args: [`127.0.0.1:${port}`],
    options: new Map(),
    env: {},
    clock: realClock,
    signal: new AbortController().signal,
    stdout: screen.output,
    stderr: new Screen().output,
  });
  // Off a terminal it has 80 columns; what goes on in the next line is put together again.
  for (const line of screen.text.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  return { code, text: screen.text.replaceAll(/\n {14}(?=\S)/g, " ") };
}

test("status shows every state from the first attempt to REPLICAOF NO ONE, with its exit code", async () => {
  using dir = tempDir("status");
  const grant = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const leave = Promise.withResolvers<void>();
  await using primary = fakePrimary(async (peer) => {
    if (peer.index > 0) return await peer.closed;
    await grant.promise;
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    const payload = bulkPayload(smallRdb("a value", 2_000_000));
    await peer.send(payload.subarray(0, 1_000_000));
    await goOn.promise;
    await peer.send(payload.subarray(1_000_000));
    await leave.promise;
    await peer.close();
  });
  await using replica = follow(primary.url, realDisk, dir);
  const shows = async (code: number, ...lines: (string | RegExp)[]) => {
    const seen = await until(
      async () => {
        const answer = await ask(replica.port);
        const isThere = (line: string | RegExp) =>
          line instanceof RegExp ? line.test(answer.text) : answer.text.includes(line);
        return lines.every(isThere) ? answer : undefined;
      },
      { what: lines.join(", ") },
    );
    expect(seen.code).toBe(code);
  };
  await shows(1, "is not ready: ", "receive-pong, never connected since its start", "none yet");
  grant.resolve();
  await shows(1, "state transfer", "transfer      49%  976.", "full (nothing kept: 1)");
  goOn.resolve();
  await shows(
    0,
    "is ready",
    "state         connected, last heard ",
    "1, snapshot of 1.9 MiB, since ",
  );
  leave.resolve();
  const gone = /UTC \(\d+ s ago\): the primary (closed the link|reset the connection)/;
  await shows(1, "is not ready: ", ", down for ", gone);
  await using client = await RespClient.connect({ port: replica.port });
  await client.send("REPLICAOF", "NO", "ONE");
  await shows(1, "is not ready: the link is in state none", "none, since REPLICAOF NO ONE");
});

test("status --watch on a terminal ends with 0 on Ctrl-C, and restores the terminal", async () => {
  await using server = await startServer("redis-7.0");
  using dir = tempDir("watch");
  await using replica = startReplica([
    "follow",
    server.url(),
    "--dir",
    dir.file("data"),
    "--port",
    "0",
  ]);
  const [, address = ""] = await replica.waitForLine(/serving (127\.0\.0\.1:\d+)/);
  await replica.waitForLine(/connected by full resync/);
  let seen = "";
  const program = [compiledProgram(), "status", address, "--watch"];
  const child = Bun.spawn(endingWithParent(program), {
    env: { ...programEnvironment(), TERM: "xterm-256color" },
    terminal: { cols: 100, rows: 30, data: (_terminal, data) => (seen += Buffer.from(data)) },
  });
  endWithProcess(child);
  await until(() => seen.includes("connected, last heard"), { what: "a picture" });
  expect(seen).toContain("\x1b[?25l");
  expect(seen).toContain("\x1b[32mready");
  await replica.stop();
  await until(() => seen.includes("nothing answers at"), { what: "it to say so" });
  expect(seen).not.toContain("\x1b[?25h");
  child.terminal?.write("\x03");
  expect(await child.exited).toBe(0);
  await until(() => seen.includes("\x1b[?25h\x1b[?1049l"), { what: "the cursor" });
  child.terminal?.close();
});

test("status --watch --json to a file ends with 0 on SIGINT, after a complete line", async () => {
  using dir = tempDir("watch");
  await using replica = follow("redis://127.0.0.1:1", realDisk, dir);
  const args = ["status", `127.0.0.1:${replica.port}`, "--watch", "--json"];
  await using watching = startReplica(args);
  await watching.waitForLine(/"state":"connect/);
  watching.signal("SIGINT");
  expect(await watching.ended()).toEqual({ exitCode: 0, signal: null });
  const lines = watching.stdout.trimEnd().split("\n");
  for (const line of lines) expect(JSON.parse(line)).toMatchObject({ ready: 0, master_port: 1 });
  expect(watching.stderr).toBe("");
});
