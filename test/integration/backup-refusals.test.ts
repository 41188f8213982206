import { describe, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { fakePrimary, bulkPayload } from "../support/fake-primary.ts";
import { endingWithParent } from "../support/children.ts";
import { compiledProgram } from "../support/compiled.ts";
import { programEnvironment, runReplica, startReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { PATIENCE_MS, until } from "../support/wait.ts";
import { behave, grantFullSync, onlyLine, smallRdb } from "./bad-input-rig.ts";

const LIMIT_MS = Math.max(150_000, 2 * PATIENCE_MS);
const rdb = smallRdb("value");

/** Something that counts who connects, and answers nobody. */
function doorbell() {
  const rung = { times: 0 };
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        rung.times += 1;
        socket.end();
      },
      data: () => undefined,
    },
  });
  const url = `redis://127.0.0.1:${listener.port}`;
  return { url, rung, [Symbol.dispose]: () => listener.stop(true) };
}

describe("a file that is there", () => {
  test(
    "is refused before the primary is asked, and stays",
    async () => {
      using temp = tempDir();
      using primary = doorbell();
      writeFileSync(temp.file("dump.rdb"), "an earlier backup");
      symlinkSync("nowhere", temp.file("link.rdb"));
      for (const name of ["dump.rdb", "link.rdb"]) {
        const ended = await runReplica(["backup", primary.url, temp.file(name)]);
        expect(ended).toMatchObject({ exitCode: 2, stdout: "" });
        expect(onlyLine(ended)).toBe(
          `replica: ${temp.file(name)} exists: give --force to replace it, or another name`,
        );
      }
      expect(primary.rung.times).toBe(0);
      expect(readFileSync(temp.file("dump.rdb"), "utf8")).toBe("an earlier backup");
      expect(lstatSync(temp.file("link.rdb")).isSymbolicLink()).toBe(true);
      expect(readdirSync(temp.path).toSorted()).toEqual(["dump.rdb", "link.rdb"]);
    },
    LIMIT_MS,
  );

  test(
    "is replaced with --force",
    async () => {
      using temp = tempDir();
      await using primary = fakePrimary(async (peer) => await behave(peer, rdb));
      const out = temp.file("dump.rdb");
      writeFileSync(out, "an earlier backup");
      const ended = await runReplica(["backup", primary.url, out, "--force"]);
      expect(ended.exitCode, ended.stderr).toBe(0);
      expect(readFileSync(out)).toEqual(rdb);
    },
    LIMIT_MS,
  );

  test(
    "stays though it comes while the snapshot does",
    async () => {
      using temp = tempDir();
      const out = temp.file("dump.rdb");
      const mayEnd = Promise.withResolvers<void>();
      const payload = bulkPayload(rdb);
      await using primary = fakePrimary(async (peer) => {
        await grantFullSync(peer);
        await peer.send(payload.subarray(0, -4));
        await mayEnd.promise;
        await peer.send(payload.subarray(-4));
        await peer.untilClosed();
      });
      await using replica = startReplica(["backup", primary.url, out]);
      await until(() => readdirSync(temp.path).some((name) => name.startsWith("temp-")), {
        what: "the snapshot to arrive",
      });
      writeFileSync(out, "somebody else's");
      mayEnd.resolve();
      expect(await replica.ended()).toMatchObject({ exitCode: 2 });
      expect(replica.stderr).toContain(`${out} exists: give --force to replace it`);
      expect(readFileSync(out, "utf8")).toBe("somebody else's");
      expect(readdirSync(temp.path)).toEqual(["dump.rdb"]);
    },
    LIMIT_MS,
  );
});

test.skipIf(process.platform !== "linux")(
  "a terminal gets no binary, and the primary isn't asked",
  async () => {
    using primary = doorbell();
    let seen = "";
    for (const more of [[], ["--force"]]) {
      seen = "";
      const words = [compiledProgram(), "backup", primary.url, "-", ...more];
      const child = Bun.spawn(endingWithParent(words), {
        env: programEnvironment(),
        terminal: {
          cols: 200,
          data: (_terminal, bytes) => (seen += Buffer.from(bytes).toString()),
        },
      });
      expect(await child.exited).toBe(2);
      await until(() => seen.includes("\n"), { what: "the reason" });
      expect(seen).toContain("standard output is a terminal, and a snapshot is binary");
    }
    expect(primary.rung.times).toBe(0);
  },
  LIMIT_MS,
);

test(
  "what can't be written is refused before the primary is asked",
  async () => {
    using temp = tempDir();
    using primary = doorbell();
    for (const [out, why] of [
      [temp.path, "is a folder: name a file in it"],
      [temp.file("none", "dump.rdb"), "does not exist"],
      ["/dev/null", "isn't a regular file"],
    ] as const) {
      const ended = await runReplica(["backup", primary.url, out, "--force"]);
      expect(ended.exitCode).toBe(2);
      expect(onlyLine(ended)).toContain(why);
    }
    expect(primary.rung.times).toBe(0);
    expect(existsSync("/dev/null")).toBe(true);
  },
  LIMIT_MS,
);
