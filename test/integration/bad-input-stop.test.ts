import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, eofPayload, fakePrimary } from "../support/fake-primary.ts";
import { programEnvironment, startReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { compiledProgram } from "../support/compiled.ts";
import { PATIENCE_MS, until, within, withinOwnTime } from "../support/wait.ts";
import {
  behave,
  filesIn,
  followArgs,
  grantFullSync,
  lines,
  MARK,
  smallRdb,
} from "./bad-input-rig.ts";
import { IS_FULL } from "../support/sweep.ts";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
const MIB = 1024 * 1024;
/** The longest time for a stop. */
const STOP_MS = 2_000;
const first = smallRdb("first");
const large = smallRdb("large", 24 * MIB);

function hasOpen(pid: number, file: string): boolean {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).some((fd) => readlinkSync(join(folder, fd)) === file);
  } catch {
    return false; // One was closed meanwhile.
  }
}

/** The moments of a stop: after these steps the primary sends nothing more. */
const moments: [string, (peer: FakePeer) => Promise<void>][] = [
  ["before PONG", async (peer) => void (await peer.readCommand())],
  ["before $<length>", async (peer) => void (await grantFullSync(peer))],
  [
    "during a disk-based payload",
    async (peer) => {
      await grantFullSync(peer);
      await peer.send(bulkPayload(large).subarray(0, 20 * MIB));
    },
  ],
  [
    "during a diskless payload",
    async (peer) => {
      await grantFullSync(peer);
      await peer.send(eofPayload(large, MARK).subarray(0, 20 * MIB));
    },
  ],
  [
    "while payload arrives",
    async (peer) => {
      await grantFullSync(peer);
      const payload = bulkPayload(large);
      await peer.send(payload.subarray(0, 4 * MIB));
      void peer.sendInChunks(payload.subarray(4 * MIB), 64 * 1024).catch(() => undefined);
    },
  ],
];

describe("a stop", () => {
  const all = moments.flatMap(([when, play]) => SIGNALS.map((signal) => ({ when, signal, play })));
  // `npm test` sends at each moment one of the signals.
  const each = all.filter(
    (_, at) => IS_FULL || at % SIGNALS.length === Math.floor(at / SIGNALS.length) % SIGNALS.length,
  );

  test.concurrent.each(each)("$when, by $signal: follow ends with 0", async ({ signal, play }) => {
    using temp = tempDir();
    const dir = temp.file("data");
    const reached = Promise.withResolvers<void>();
    await using primary = fakePrimary(async (peer) => {
      if (peer.index === 0) {
        await behave(peer, first);
        await peer.close();
        return;
      }
      await play(peer).then(reached.resolve, reached.reject);
    });
    await using replica = startReplica(followArgs(primary.url, dir));
    await replica.waitForLine(/connected by full resync/);
    await until(() => primary.peers[0]?.isClosed, { what: "the first link to end" });
    const kept = filesIn(dir);
    await within(PATIENCE_MS, "the moment of the stop", reached.promise);
    replica.signal(signal);
    const ending = await withinOwnTime(STOP_MS, "the end", replica.ended());
    expect(ending).toEqual({ exitCode: 0, signal: null });
    expect(filesIn(dir)).toMatchObject({ current: kept["current"] ?? "" });
    expect(Object.keys(filesIn(dir)).filter((name) => !(name in kept))).toEqual([]);
    expect(filesIn(dir)).toEqual(kept);
  });

  // Not 0: a script must not go on to use the file.
  test.concurrent.each(each)("$when, by $signal: backup ends with 1", async ({ signal, play }) => {
    using temp = tempDir();
    writeFileSync(temp.file("dump.rdb"), "an earlier backup");
    const reached = Promise.withResolvers<void>();
    await using primary = fakePrimary(
      async (peer) => await play(peer).then(reached.resolve, reached.reject),
    );
    const backup = ["backup", primary.url, temp.file("dump.rdb"), "--force"];
    await using replica = startReplica(backup);
    await within(PATIENCE_MS, "the moment of the stop", reached.promise);
    replica.signal(signal);
    const ending = await withinOwnTime(STOP_MS, "the end", replica.ended());
    expect(ending).toEqual({ exitCode: 1, signal: null });
    expect(lines(replica.stderr).at(-1)).toMatch(/the snapshot was stopped; nothing was kept/);
    expect(readdirSync(temp.path)).toEqual(["dump.rdb"]);
    expect(readFileSync(temp.file("dump.rdb"), "utf8")).toBe("an earlier backup");
  });

  // The same: what was not looked at to its end is not known to be whole.
  test.concurrent("while it reads: verify ends with 1", async () => {
    using temp = tempDir();
    const file = temp.file("endless.rdb");
    writeFileSync(file, smallRdb("value").subarray(0, 9));
    truncateSync(file, 2 ** 40);
    await using replica = startReplica(["verify", file]);
    await until(() => hasOpen(replica.pid, file), { what: "the file to be read" });
    replica.signal("SIGTERM");
    const ending = await withinOwnTime(STOP_MS, "the end", replica.ended());
    expect(ending).toEqual({ exitCode: 1, signal: null });
    expect(replica.stdout).toBe("");
    expect(replica.stderr).toBe("replica: stopped by SIGTERM\n");
  });

  test.concurrent("between two attempts: follow ends with 0", async () => {
    using temp = tempDir();
    const args = ["redis://127.0.0.1:1", "--dir", temp.file("data"), "--port", "0"];
    await using replica = startReplica([...args, "--retry-max", "1h", "--log-level", "debug"]);
    await replica.waitForLine(/next attempt in \d{4,} ms/);
    replica.signal("SIGTERM");
    const ending = await withinOwnTime(STOP_MS, "the end", replica.ended());
    expect(ending).toEqual({ exitCode: 0, signal: null });
  });
});

test.concurrent("the start after a kill during a payload removes the temporary file", async () => {
  using temp = tempDir();
  const dir = temp.file("data");
  await using primary = fakePrimary(async (peer) => {
    await grantFullSync(peer);
    await peer.send(bulkPayload(large).subarray(0, 20 * MIB));
  });
  await using replica = startReplica(followArgs(primary.url, dir));
  const isOpen = () => Object.keys(filesIn(dir)).some((name) => /temp-/.test(name));
  await until(isOpen, { what: "the temporary file" });
  await replica.kill9();
  expect(Object.keys(filesIn(dir)).filter((name) => /temp-/.test(name))).toHaveLength(1);
  await using again = startReplica(followArgs("redis://127.0.0.1:1", dir));
  await again.waitForLine(/serving/);
  expect(filesIn(dir)).toEqual({ "generations/": "" });
});

describe("a backup into a pipe", () => {
  /** Runs `replica backup … - | reader` in a shell; returns both exit codes and the output. */
  async function pipeInto(url: string, reader: string) {
    const script = `"$0" backup ${url} - --sync-timeout 60s | ${reader}; echo "\n\${PIPESTATUS[*]}"`;
    const child = Bun.spawn(["bash", "-c", script, compiledProgram()], {
      stderr: "pipe",
      env: programEnvironment(),
    });
    const [stdout, stderr] = await within(
      PATIENCE_MS,
      "the pipe to end",
      Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]),
    );
    return { statuses: lines(stdout).at(-1), stdout, stderr };
  }

  const serve = (rdb: Uint8Array) => async (peer: FakePeer) => {
    await grantFullSync(peer);
    await peer.send(bulkPayload(rdb)).catch(() => undefined);
    await peer.untilClosed();
  };

  test.concurrent("ends with 1 if the reader leaves early", async () => {
    await using primary = fakePrimary(serve(large));
    for (const [reader, taken] of [
      ["head -c 5", "REDIS"],
      ["true", ""],
    ] as const) {
      const ended = await pipeInto(primary.url, reader);
      expect(ended).toMatchObject({
        statuses: "1 0",
        stdout: expect.stringMatching(new RegExp(`^${taken}`)),
      });
      expect(lines(ended.stderr).length).toBeLessThan(2);
      expect(ended.stderr).toMatch(/writing to standard output: .*(nobody reads|EPIPE)/);
    }
  });

  test.concurrent("ends with 0 if the reader is slow", async () => {
    await using primary = fakePrimary(serve(large));
    const ended = await pipeInto(primary.url, "{ sleep 0.5; cksum; }");
    const direct = Bun.spawn(["cksum"], { stdin: large });
    expect(ended.statuses).toBe("0 0");
    expect(ended.stdout).toStartWith(await new Response(direct.stdout).text());
  });

  test.concurrent("can be stopped if nobody reads", async () => {
    await using primary = fakePrimary(serve(large));
    const script = `exec "$0" backup ${primary.url} - > >(exec sleep 20)`;
    const child = Bun.spawn(["bash", "-c", script, compiledProgram()], {
      stdout: "ignore",
      stderr: "ignore",
      env: programEnvironment(),
    });
    await until(() => (primary.peers[0]?.sentBytes ?? 0) > 0, { what: "the payload" });
    await Bun.sleep(200);
    child.kill("SIGTERM");
    expect(await withinOwnTime(STOP_MS, "the end", child.exited)).toBe(1);
  });
});
