import { expect, test } from "bun:test";
import { ModelPrimary } from "../support/model-primary.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { mayTrace, SyncTrace } from "../support/traced-syncs.ts";

/** Long enough that ticks, marks and events meet in the middle of a sync. */
const LATE_MS = 20;

/** The main thread's id is the process's, which the log names: strace stands before it. */
async function portAndThread(replica: ReplicaProcess) {
  const [, port, pid] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+) pid=(\d+)/);
  return { port: Number(port), thread: Number(pid) };
}

test.skipIf(!mayTrace())(
  "no sync is made on the event loop, whatever it does: two starts, full and partial resyncs, new generations, removals, CONFIG REWRITE, a stop",
  async () => {
    using dir = tempDir("event-loop");
    await using primary = new ModelPrimary();
    const args = ["follow", primary.url, "--dir", dir.file("data"), "--port", "0"];
    args.push("--keep", "1", "--keep-for", "off", "--fsync", "always", "--retry-max", "10ms");
    const live = async (
      name: string,
      act: (replica: ReplicaProcess, client: RespClient) => Promise<void>,
    ) => {
      const trace = new SyncTrace(dir, name, LATE_MS);
      await using replica = startReplica(args, { under: trace.under });
      const { port, thread } = await portAndThread(replica);
      await using client = await RespClient.connect({ port });
      await act(replica, client);
      await client.send("SHUTDOWN").catch(() => undefined);
      expect(await replica.ended()).toMatchObject({ exitCode: 0 });
      const { syncs } = trace;
      expect(syncs.filter((sync) => sync.thread === thread)).toEqual([]);
      return syncs.map(({ call }) => call).join("\n");
    };
    const first = await live("first", async (replica, client) => {
      await replica.waitForLine(/connected by full resync/);
      primary.write("SET", "a", "1");
      expect(await client.send("CONFIG", "REWRITE")).toBe("OK");
      for (const id of [2, 3]) {
        await client.send("BGSAVE");
        await replica.waitForLine(new RegExp(`generation ${id} replaces generation ${id - 1}`));
        primary.write("SET", "a", String(id));
      }
      await replica.waitForLine(/removed generation 1/);
      primary.changeId();
      await primary.breakLinks();
      await replica.waitForLine(/connected by partial resync/);
      primary.forget();
      await primary.breakLinks();
      await replica.waitForLine(/connected by full resync.* generation=4/);
    });
    // Each kind of file was synced, SQLite's database and its log too.
    for (const file of [
      "replica.db>",
      "replica.db-wal>",
      "incr.aof>",
      "base.rdb>|temp-",
      "generations>",
    ]) {
      expect(first).toMatch(new RegExp(file));
    }
    await live("second", async (replica) => {
      await replica.waitForLine(/connected by partial resync/);
    });
  },
);
