import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../src/base/errors.ts";
import { selectCommand } from "../../src/resp/encode.ts";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { BASE, CURRENT, LOG, MANIFEST } from "../../src/store/generation/layout.ts";
import { type Damage, verifyCatalogue, verifyGeneration } from "../../src/store/restore/verify.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import type { Acknowledged, ModelPrimary } from "../support/model-primary.ts";
import type { TempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** Pauses between attempts are no part of this, but for the time that they take by the clock; limits are. */
export function hastyClock(): Clock {
  let passedMs = 0;
  return {
    ...realClock,
    now: () => realClock.now() + passedMs,
    sleep: (ms, signal) => {
      if (ms > 1_000) return realClock.sleep(ms, signal);
      passedMs += ms;
      return realClock.sleep(Math.min(ms, 2), signal);
    },
  };
}

const WAIT_MS = 50_000;
/** More failures in a row than any fault of these makes. */
const MAX_TRIES = 40;
const HEADER = selectCommand(0);
const WAL = "-wal";

const verifyOptions = {
  disk: realDisk,
  signal: new AbortController().signal,
  onProgress: () => undefined,
};

/** A disk that remembers how far each file was ever written, and which marks were synced. */
export class RememberingDisk extends FaultyDisk {
  readonly #paths = new Map<number, string>();
  readonly #ends = new Map<string, number>();
  /** The current generation when its marks were last looked at, and up to where they are durable. */
  #marked = { generation: 0, offset: 0 };

  /** Up to where the marks of the current generation are durable, as far as its database was synced. */
  markedOffset(database: string): number {
    this.#look(database);
    return this.#marked.offset;
  }

  #look(database: string): ReturnType<typeof currentIn> {
    const found = currentIn(database);
    // It became current with syncs of SQLite's own.
    if (found !== undefined && found.id !== this.#marked.generation) {
      this.#marked = { generation: found.id, offset: found.durableOffset };
    }
    return found;
  }

  /** The end of what was ever written to a file. */
  endOf(path: string): number {
    return this.#ends.get(path) ?? 0;
  }

  override create(path: string): number {
    return this.#opened(super.create(path), path);
  }

  override createDirect(path: string): number {
    return this.#opened(super.createDirect(path), path);
  }

  override openExisting(path: string): number {
    return this.#opened(super.openExisting(path), path);
  }

  #opened(fd: number, path: string): number {
    this.#paths.set(fd, path);
    return fd;
  }

  override async syncData(fd: number): Promise<void> {
    const path = this.#paths.get(fd) ?? "";
    const covered = path.endsWith(WAL) ? this.#look(path.slice(0, -WAL.length)) : undefined;
    await super.syncData(fd);
    if (covered !== undefined && covered.id === this.#marked.generation) {
      this.#marked.offset = Math.max(this.#marked.offset, covered.durableOffset);
    }
  }

  override async write(fd: number, buffers: Uint8Array[], position: number): Promise<void> {
    const path = this.#paths.get(fd);
    const end = buffers.reduce((sum, { length }) => sum + length, position);
    await super.write(fd, buffers, position);
    if (path !== undefined) this.#ends.set(path, Math.max(end, this.endOf(path)));
  }
}

/** The current generation as a database has it, with its last mark; undefined before there is one. */
function currentIn(path: string) {
  using db = new Database(path, { readonly: true });
  const row = db
    .query<{ id: number; baseOffset: number; durableOffset: number }, []>(
      `SELECT g.id, g.base_offset AS baseOffset, max(m.durable_offset) AS durableOffset
       FROM generations g JOIN marks m ON m.generation = g.id WHERE g.state = 'current' GROUP BY g.id`,
    )
    .get();
  return row ?? undefined;
}

type Following = ReturnType<typeof follow>;

/** What a life goes through, in this order. */
const STEPS = [
  "first sync",
  "stream",
  "new id",
  "full resync",
  "new generation",
  "removal",
  "stop",
] as const;
export type Step = (typeof STEPS)[number];

/**
 * The life of a folder behind a primary whose every byte is known: the processes on it, one after another,
 * and what has to hold at each moment, whatever its disk does.
 */
export class Lifetime {
  /** What people were told by the errors of a start, a stop and a new generation. */
  readonly told: string[] = [];
  /** Called before each step of the first process, and with nothing when it has ended. */
  onStep: (step: Step | undefined) => void = () => undefined;
  readonly #dir: TempDir;
  readonly #primary: ModelPrimary;
  readonly #disk: RememberingDisk;
  readonly #settings: Record<string, string>;
  readonly #clock = hastyClock();
  #broken: unknown;
  #commands = 0;

  constructor(
    dir: TempDir,
    primary: ModelPrimary,
    disk: RememberingDisk,
    settings: Record<string, string>,
  ) {
    this.#dir = dir;
    this.#primary = primary;
    this.#disk = disk;
    this.#settings = settings;
  }

  get path(): string {
    return this.#dir.file("data");
  }

  get #database(): string {
    return join(this.path, "replica.db");
  }

  /** A first sync, a stream, a new id, a second full resync, a new generation, a removal, a stop. */
  async first(): Promise<void> {
    await using one = this.#start();
    const steps: Record<Step, () => Promise<void>> = {
      "first sync": () => this.#settled(one),
      stream: () => this.#stream(one, 3),
      "new id": async () => {
        this.#primary.changeId();
        await this.#primary.breakLinks();
        await this.#settled(one);
        await this.#stream(one, 2);
      },
      "full resync": async () => {
        this.#primary.forget();
        await this.#primary.breakLinks();
        await this.#settled(one);
        await this.#stream(one, 2);
      },
      "new generation": () => this.#renew(one),
      removal: async () => {
        await this.#retain(one);
        await this.#stream(one, 1);
      },
      stop: () => this.#stop(one),
    };
    for (const step of STEPS) {
      this.onStep(step);
      await steps[step]();
    }
    this.onStep(undefined);
  }

  /** A start on what is there, a stream, a stop. */
  async second(): Promise<void> {
    await using two = this.#start();
    await this.#settled(two);
    await this.#stream(two, 2);
    await this.#stop(two);
  }

  /** The same on a disk that is sound again: nothing is amiss, nothing is left over. */
  async last(): Promise<void> {
    {
      await using three = this.#start();
      await this.#settled(three);
      await this.#retain(three);
      await this.#stream(three, 1);
      expect(await three.stop()).toBeUndefined();
    }
    expect(await this.#damages()).toEqual([]);
    this.#expectNothingLeftOver();
    const { baseOffset, dir } = this.#current();
    const log = fs.readFileSync(join(dir, LOG));
    expect(log.equals(Buffer.concat([HEADER, this.#primary.streamFrom(baseOffset)]))).toBe(true);
    const base = fs.readFileSync(join(dir, BASE));
    expect(base.equals(this.#primary.snapshotAt(baseOffset))).toBe(true);
  }

  /** A start that fails says why, leaves the folder free, and can be tried again. */
  #start(): Following {
    for (let left = MAX_TRIES; ; left--) {
      try {
        const following = follow(
          this.#primary.url,
          this.#disk,
          this.#dir,
          this.#settings,
          undefined,
          this.#clock,
        );
        this.#primary.onAcknowledged = (said) => this.#check(() => this.#onAcknowledged(said));
        return following;
      } catch (error) {
        this.#expectTold(error);
        if (left === 0) throw error;
      }
    }
  }

  #expectTold(error: unknown): void {
    expect(error).toBeInstanceOf(ReplicaError);
    const { code, retry, message } = error as ReplicaError;
    expect(["DISK_FAILED", "DISK_FULL"]).toContain(code);
    expect(retry).toBe("backoff");
    this.told.push(message);
  }

  /** The first thing that did not hold is what the wait then ends with. */
  #check(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#broken ??= error;
    }
  }

  /** No ACK is above what the files held, no FACK above what they hold and a durable mark says. */
  #onAcknowledged({ ack, fack }: Acknowledged): void {
    const { baseOffset, dir } = this.#current();
    const log = join(dir, LOG);
    const offsetAt = (bytes: number) => baseOffset + Math.max(0, bytes - HEADER.length);
    const held = Math.max(this.#disk.endOf(log), fs.statSync(log).size);
    expect(ack).toBeLessThanOrEqual(offsetAt(held));
    const markedOffset = this.#disk.markedOffset(this.#database);
    expect(fack).toBeLessThanOrEqual(markedOffset);
    if (this.#settings["ack"] === "durable") expect(ack).toBeLessThanOrEqual(markedOffset);
    expect(fack).toBeLessThanOrEqual(offsetAt(fs.statSync(log).size));
  }

  #current(): { baseOffset: number; dir: string } {
    const found = currentIn(this.#database);
    if (found === undefined) throw new Error("no generation is current");
    return {
      baseOffset: found.baseOffset,
      dir: join(this.path, "generations", String(found.id).padStart(10, "0")),
    };
  }

  #holds({ replica }: Following): void {
    if (this.#broken !== undefined) throw this.#broken;
    const { log } = replica;
    if (log === undefined) return;
    expect(log.durableOffset).toBeLessThanOrEqual(log.writtenOffset);
    expect(log.writtenOffset).toBeLessThanOrEqual(log.receivedOffset);
    expect(log.receivedOffset).toBeLessThanOrEqual(this.#primary.offset);
  }

  /** Waits until all that the primary has said is durable, in its history. */
  async #settled(following: Following): Promise<void> {
    const { replica } = following;
    let broken: unknown;
    const isSo = () => {
      try {
        this.#holds(following);
      } catch (error) {
        broken = error;
        return true;
      }
      return (
        replica.state.at === "connected" &&
        replica.directory.replid === this.#primary.replid &&
        replica.log?.durableOffset === this.#primary.offset
      );
    };
    await until(isSo, { what: "all to be durable", timeoutMs: WAIT_MS, everyMs: 1 }).catch(
      (error: unknown) => {
        const { log, state, lastCause } = replica;
        const at = `${state.at}, received ${log?.receivedOffset}, durable ${log?.durableOffset} of ${this.#primary.offset}; ${lastCause}`;
        throw new Error(`${String(error)}: ${at}`, { cause: error });
      },
    );
    if (broken !== undefined) throw broken;
  }

  #say(): void {
    this.#primary.write("SET", `key:${this.#commands++}`, "a value ".repeat(10));
  }

  async #stream(following: Following, commands: number): Promise<void> {
    for (let left = commands; left > 0; left--) {
      this.#say();
      this.#primary.write("REPLCONF", "GETACK", "*");
      await this.#settled(following);
    }
  }

  /** BGSAVE until one succeeds, while the stream goes on. */
  async #renew(following: Following): Promise<void> {
    const { renewal } = following.replica;
    for (let left = MAX_TRIES; ; left--) {
      await this.#settled(following);
      try {
        renewal.begin("BGSAVE");
        this.#say();
        await until(() => renewal.runningSeconds === undefined, {
          what: "the new generation",
          timeoutMs: WAIT_MS,
          everyMs: 1,
        });
        if (renewal.last?.error === undefined) break;
        throw renewal.last.error;
      } catch (error) {
        // What broke the link that is followed has ended it, too.
        if (!(error instanceof ReplicaError && error.code === "PRIMARY_REFUSED")) {
          this.#expectTold(error);
        }
        if (left === 0) throw error;
      }
    }
    await this.#settled(following);
  }

  async #retain({ replica }: Following): Promise<void> {
    replica.retention.tick();
    await replica.retention.stop();
  }

  /** Fails only with what failed while it stopped. */
  async #stop(following: Following): Promise<void> {
    const { length: before } = this.#disk.struck;
    const error = await following.stop();
    if (this.#broken !== undefined) throw this.#broken;
    if (error !== undefined) {
      this.#expectTold(error);
      expect(this.#disk.struck.length).toBeGreaterThan(before);
    }
    // A link that could not be pointed back the next start points where it should.
    const damages = (await this.#damages()).filter(({ file }) => !file.endsWith(CURRENT));
    expect(damages).toEqual([]);
  }

  async #damages(): Promise<Damage[]> {
    using catalogue = new Catalogue(this.path);
    const damages = verifyCatalogue(catalogue);
    for (const generation of catalogue.generations) {
      const found = await verifyGeneration(catalogue, generation, verifyOptions);
      damages.push(...found.damages);
    }
    return damages;
  }

  #expectNothingLeftOver(): void {
    using catalogue = new Catalogue(this.path);
    const kept = catalogue.generations.map(({ dir }) => dir);
    expect(kept.length).toBeLessThanOrEqual(1 + Number(this.#settings["keep"]));
    const wanted = kept.flatMap((dir) => [dir, ...[BASE, LOG, MANIFEST].map((f) => join(dir, f))]);
    wanted.push(...[CURRENT, "generations", "replica.db"].map((name) => join(this.path, name)));
    const found = fs
      .readdirSync(this.path, { recursive: true, encoding: "utf8" })
      .map((name) => join(this.path, name))
      .filter((path) => !/replica\.(lock|db-wal|db-shm)$|\/current\//.test(path))
      .filter((path) => !this.#couldNotGo(path));
    expect(found.toSorted()).toEqual(wanted.toSorted());
    using db = new Database(this.#database, { readonly: true });
    const whole = "SELECT id FROM generations WHERE state <> 'receiving' ORDER BY id";
    expect(db.query<object, []>(whole).all()).toEqual(
      catalogue.generations.map(({ id }) => ({ id })),
    );
  }

  /** A temporary file that was tried out in vain, and whose removal failed too, stays with its generation. */
  #couldNotGo(path: string): boolean {
    const isTried = this.#disk.struck.some(
      ({ operation, subject }) => operation === "remove" && subject === path,
    );
    return isTried && path.includes("/temp-");
  }
}
