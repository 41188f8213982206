import { expect, test } from "bun:test";
import { EmbeddedPrimary, type EmbeddedPrimaryOptions } from "../../src/demo/primary.ts";
import {
  availableServers,
  type RealServer,
  type ServerKind,
  startServer,
  tool,
} from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const OPTIONS: EmbeddedPrimaryOptions = {
  seed: 20,
  keys: 3000,
  valueBytes: 200,
  payloadForm: "length",
  backlogBytes: 4 * 1024 * 1024,
  writesPerSecond: 2000,
};

async function attach(server: RealServer, primary: EmbeddedPrimary): Promise<void> {
  await server.send("REPLICAOF", "127.0.0.1", primary.port);
  await untilUp(server);
}

async function untilUp(server: RealServer): Promise<void> {
  await until(async () => (await server.info("replication"))["master_link_status"] === "up", {
    what: "the link to be up",
  });
}

async function untilLevel(server: RealServer, primary: EmbeddedPrimary): Promise<void> {
  await until(
    async () =>
      Number((await server.info("replication"))["slave_repl_offset"]) === primary.masterReplOffset,
    { what: `${server.kind} to have the whole stream` },
  );
}

// Redis 7.0 is required: without it these tests fail with instructions to fetch it.
for (const kind of new Set<ServerKind>(["redis-7.0", ...outermost(availableServers())])) {
  for (const payloadForm of ["length", "eof"] as const) {
    test(`${kind} follows, is dropped, resumes, and has the same data as a later replica (${payloadForm})`, async () => {
      using primary = await EmbeddedPrimary.start({ ...OPTIONS, payloadForm });
      await using early = await startServer(kind);
      await attach(early, primary);
      await until(() => primary.masterReplOffset > 200_000, { what: "some stream" });

      primary.dropReplicas();
      await until(() => primary.syncs.partial === 1, { what: "a partial resync" });
      await untilUp(early);
      expect(primary.syncs).toEqual({ full: 1, partial: 1 });
      await until(() => primary.masterReplOffset > 300_000, { what: "more stream" });

      primary.pauseWrites();
      await untilLevel(early, primary);
      const [first = 0, second = 0] = primary.keysPerDatabase;
      expect(first + second).toBeGreaterThan(OPTIONS.keys);
      expect(await early.keysPerDatabase()).toEqual({ 0: first, 1: second });

      // The next snapshot contains the effects of the stream.
      await using late = await startServer(kind);
      await attach(late, primary);
      await untilLevel(late, primary);
      expect(await late.digest()).toBe(await early.digest());
      expect(primary.syncs).toEqual({ full: 2, partial: 1 });

      primary.resumeWrites();
      await until(() => primary.acks().every(({ ack }) => ack > 300_000), { what: "ACKs" });
      expect(primary.acks().map(({ listeningPort }) => listeningPort)).toEqual([
        early.port,
        late.port,
      ]);
      primary.pauseWrites();
      await untilLevel(early, primary);
      await untilLevel(late, primary);
      expect(await late.digest()).toBe(await early.digest());
    });
  }

  test(`${kind} logs in with the password`, async () => {
    using primary = await EmbeddedPrimary.start({ ...OPTIONS, password: "opensesame" });
    await using server = await startServer(kind, { args: ["--masterauth", "opensesame"] });
    await attach(server, primary);
    expect(primary.acks().length).toBe(1);
  });

  test(`${kind}'s redis-cli takes a backup with --rdb`, async () => {
    using primary = await EmbeddedPrimary.start(OPTIONS);
    using dir = tempDir("demo-rdb");
    for (const payloadForm of ["length", "eof"] as const) {
      primary.payloadForm = payloadForm;
      const path = dir.file(`${payloadForm}.rdb`);
      const cli = Bun.spawn(
        [...tool(kind, "redis-cli"), "-p", String(primary.port), "--rdb", path],
        { stdout: "ignore", stderr: "ignore", env: process.env },
      );
      expect(await cli.exited).toBe(0);
      const checked = Bun.spawnSync([...tool(kind, "redis-check-rdb"), path]);
      expect(checked.exitCode, checked.stdout.toString()).toBe(0);
    }
  });
}
