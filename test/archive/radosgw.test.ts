import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Decryption, Encryption } from "../../src/archive/format/encryption.ts";
import { PIECE_BYTES } from "../../src/archive/format/objects.ts";
import { APPEND_DIR, RESTORED } from "../../src/store/restore/restore.ts";
import { Random } from "../support/fill.ts";
import { hasRadosgw, startRadosgw } from "../support/radosgw.ts";
import { runReplica } from "../support/replica-process.ts";
import type { S3Server } from "../support/s3-server.ts";
import { stride } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { randomCuts, streamOf, writeArchive, writeGeneration } from "../support/written-archive.ts";
import { rdbOf } from "../store/rdb.ts";
import { openReal, testStore } from "./store/real-server.ts";
import { Bench, SEED } from "./writer/bench.ts";
import { type Death, DyingStore } from "./writer/dying-store.ts";

describe.skipIf(!hasRadosgw)("radosgw", () => {
  const bench = new Bench();
  const dir = tempDir("radosgw-test");
  let server: S3Server;
  let identity: string;
  let encryption: Encryption;

  beforeAll(async () => {
    identity = await generateX25519Identity();
    encryption = new Encryption([await identityToRecipient(identity)]);
    server = await startRadosgw();
    await server.createBucket("bucket");
    await server.createBucket("root");
    await bench.setUp(server);
  });
  afterEach(() => bench.stopAll());
  afterAll(async () => {
    await bench.tearDown();
    dir.remove();
    await server[Symbol.asyncDispose]();
  });

  testStore(() => server, { pageNames: 1_000, isAtomic: true, tellsUnknownKeys: true });

  describe("an archive there", () => {
    test.each(["plain", "encrypted"])(
      "is gone on with after a kill at each object, without a gap, and nothing is sent twice: %s",
      async (how) => {
        const isPlain = how === "plain";
        const writer = { codec: "zstd", encryption: isPlain ? undefined : encryption } as const;
        const decryption = isPlain ? undefined : await Decryption.fromFile("keys.txt", identity);
        const random = new Random(SEED);
        for (let put = 1, hasDied = true; hasDied; put += stride(8, random)) {
          const { url, history } = bench.fresh("s3");
          const stored: string[] = [];
          const live = async (death: Death | undefined): Promise<boolean> => {
            const store = new DyingStore(bench.open(url), stored, death);
            const rig = bench.start(history, store, { writer });
            await Promise.race([rig.whole(() => store.isDead), store.died]);
            await rig.stop();
            return store.isDead;
          };
          history.begin(put === 1 ? PIECE_BYTES + 500 : 3_000, 1_000);
          history.grow(1, 5_000);
          const second = history.begin(3_000, 6_000);
          history.grow(second, 100);
          hasDied = await live({ put, isStored: random.below(2) === 0 });
          history.grow(second, 900);
          await live(undefined);
          await bench.expectSame(history, bench.open(url), [1, 2], decryption);
          expect(stored.length).toBe(new Set(stored).size);
        }
      },
    );

    test.each(["plain", "encrypted"])(
      "is listed, verified and restored by the program: %s",
      async (how) => {
        const isPlain = how === "plain";
        const url = `s3://bucket/program/${how}`;
        const store = openReal(server, url);
        const { stream } = streamOf(21, 500);
        await writeArchive(store);
        const cuts = randomCuts(22, stream.length, 9);
        const plan = { rdb: rdbOf(150_000), stream, cuts };
        const written = await writeGeneration(store, isPlain ? plan : { ...plan, encryption });
        fs.writeFileSync(dir.file("identity.txt"), `${identity}\n`);
        const key = isPlain ? [] : ["--archive-identity", dir.file("identity.txt")];
        const run = (...args: string[]) =>
          runReplica([...args, ...key], { env: server.environment });

        const listed = await run("snapshots", url, "--json");
        expect(JSON.parse(listed.stdout)).toMatchObject({
          archive: url,
          warnings: [],
          generations: [{ id: written.name, to_offset: 5_000 + stream.length }],
        });
        for (const more of [[], ["--quick"]]) {
          const verified = await run("verify", url, ...more);
          expect([verified.exitCode, verified.stdout]).toEqual([
            0,
            expect.stringContaining(`${url}: no damage found`),
          ]);
        }
        const target = dir.file(how);
        const restored = await run("restore", url, target);
        expect([restored.exitCode, restored.stderr]).toEqual([0, ""]);
        const read = (name: string) => fs.readFileSync(`${target}/${APPEND_DIR}/${name}`);
        expect(read(RESTORED.base).equals(written.rdb)).toBe(true);
        expect(read(RESTORED.log).equals(written.log)).toBe(true);

        await store.delete(written.segments[3]!, new AbortController().signal);
        const damaged = await run("verify", url);
        expect(damaged.exitCode).toBe(3);
      },
    );
  });
});
