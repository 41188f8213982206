import { expect } from "bun:test";
import type { Decryption } from "../../../src/archive/format/encryption.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { openStore } from "../../../src/archive/store/open-store.ts";
import type { ArchiverOptions } from "../../../src/archive/writer/archiver.ts";
import { type Clock, realClock } from "../../../src/base/clock.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../../support/fault-s3.ts";
import type { S3Server } from "../../support/s3-server.ts";
import { seedOf } from "../../support/sweep.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { LocalHistory } from "./local-history.ts";
import { PauseClock, readArchive, Rig } from "./rig.ts";

/** Longer sleeps guard against silence. */
const LONGEST_PAUSE_MS = 5_000;

/** A clock on which the pauses between the tries of a request take no time. */
const storeClock: Clock = {
  ...realClock,
  sleep: (ms, signal) =>
    ms > LONGEST_PAUSE_MS
      ? realClock.sleep(ms, signal)
      : new Promise((resolve) => void setImmediate(resolve)),
};

export const SEED = seedOf("ARCHIVER_SEED", 1);

/** Archives in folders and in buckets, and the data directories that go there. */
export class Bench {
  #server: FaultS3 | undefined;
  #real: S3Server | undefined;
  #dir: TempDir | undefined;
  readonly #rigs: Rig[] = [];
  #count = 0;

  get server(): FaultS3 {
    return this.#server!;
  }

  /** @param real a server that is used in place of the suite's own; it has a bucket named "bucket". */
  async setUp(real?: S3Server): Promise<void> {
    this.#real = real;
    if (real === undefined) this.#server = await FaultS3.start();
    this.#dir = tempDir("archiver");
  }

  async stopAll(): Promise<void> {
    for (const rig of this.#rigs.splice(0)) await rig.stop();
    this.#server?.heal();
  }

  async tearDown(): Promise<void> {
    this.#dir!.remove();
    await this.#server?.stop();
  }

  /** Opens an archive. The pauses between the tries of a request take no time. */
  readonly open = (url: string): ObjectStore => {
    const own = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
    const environment = this.#real?.environment ?? own;
    const { endpoint } = this.#real ?? this.#server!;
    return openStore(url, url.startsWith("s3:") ? { endpoint } : {}, {
      clock: storeClock,
      disk: realFolderDisk,
      environment,
      credentials: () => Promise.reject(new Error("there are none")),
    });
  };

  /** An archive that nobody has used, and a data directory without a generation. */
  fresh(kind: "file" | "s3" = "file"): { url: string; history: LocalHistory } {
    this.#count++;
    const name = `archive-${this.#count}`;
    const url = kind === "s3" ? `s3://bucket/${name}` : `file://${this.file(name)}`;
    return { url, history: new LocalHistory(this.file(`local-${this.#count}`), SEED) };
  }

  file(name: string): string {
    return this.#dir!.file(name);
  }

  readonly start = (
    history: LocalHistory,
    store: ObjectStore,
    more: Partial<Omit<ArchiverOptions, "clock">> & { readonly clock?: PauseClock } = {},
  ): Rig => {
    const rig = new Rig(history, store, {
      clock: new PauseClock(SEED + this.#rigs.length),
      ...more,
    });
    this.#rigs.push(rig);
    return rig;
  };

  /** The archive holds exactly what the data directory does. */
  async expectSame(
    history: LocalHistory,
    store: ObjectStore,
    ids: readonly number[],
    decryption?: Decryption,
  ): Promise<void> {
    const read = await readArchive(store, decryption);
    expect(read.map(({ document }) => document.baseOffset)).toEqual(
      ids.map((id) => history.of(id).baseOffset),
    );
    for (const [at, id] of ids.entries()) {
      const { base, log } = history.content(id);
      expect(read[at]!.base.equals(base)).toBe(true);
      const { durableOffset, baseOffset } = history.of(id);
      expect(read[at]!.log.equals(durableOffset === baseOffset ? Buffer.alloc(0) : log)).toBe(true);
    }
  }
}
