import { joinSegments } from "../../../src/archive/format/chain.ts";
import {
  type BaseDocument,
  decodeDocument,
  type DocumentKind,
  type GenerationDocument,
  MAX_DOCUMENT_BYTES,
  type SealedDocument,
} from "../../../src/archive/format/documents.ts";
import type { Decryption } from "../../../src/archive/format/encryption.ts";
import {
  BASE_FILE,
  baseFolder,
  GENERATION_FILE,
  generationKey,
  GENERATIONS,
  logFolder,
  parseGenerationName,
  parseSegmentName,
  SEALED_FILE,
} from "../../../src/archive/format/names.ts";
import { MAX_OBJECT_BYTES, type SegmentHeader } from "../../../src/archive/format/objects.ts";
import { isLeftover } from "../../../src/archive/store/file-store.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { Archiver, type ArchiverOptions } from "../../../src/archive/writer/archiver.ts";
import type { Clock } from "../../../src/base/clock.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Random } from "../../support/fill.ts";
import { until } from "../../support/wait.ts";
import type { LocalHistory } from "./local-history.ts";
import { decodePiece, decodeSegment } from "../../support/whole-objects.ts";

const signal = new AbortController().signal;
/** Longer sleeps only wait for something else. */
const LONGEST_MS = 3_600_000;

/** A clock on which a pause takes no time, or lasts until the test says so. */
export class PauseClock implements Clock {
  /** The pauses so far, in milliseconds. */
  readonly pauses: number[] = [];
  isHeld = false;
  readonly #random: Random;
  #skippedMs = 0;
  readonly #held = new Set<{ readonly untilMs: number; readonly end: () => void }>();

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  now = () => Date.UTC(2026, 10, 30, 12) + this.#skippedMs;
  monotonicMs = () => 1_000_000 + this.#skippedMs;
  random = () => this.#random.below(1_000_000) / 1_000_000;

  /** How many wait for time to pass. */
  get waiting(): number {
    return this.#held.size;
  }

  sleep(ms: number, aborted: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (aborted.aborted) return resolve();
      const isShort = ms <= LONGEST_MS;
      if (isShort) this.pauses.push(ms);
      if (isShort && !this.isHeld) {
        this.#skippedMs += ms;
        return void setImmediate(resolve);
      }
      const end = () => {
        this.#held.delete(held);
        resolve();
      };
      const held = { untilMs: this.monotonicMs() + ms, end };
      this.#held.add(held);
      aborted.addEventListener("abort", end, { once: true });
    });
  }

  /** Lets so much time pass. */
  skip(ms: number): void {
    this.#skippedMs += ms;
    for (const { untilMs, end } of this.#held) if (untilMs <= this.monotonicMs()) end();
  }
}

/** An archiver that runs over a made-up data directory. */
export class Rig {
  readonly history: LocalHistory;
  readonly clock: PauseClock;
  readonly archiver: Archiver;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(
    history: LocalHistory,
    store: ObjectStore,
    more: Partial<Omit<ArchiverOptions, "clock">> & { readonly clock: PauseClock },
  ) {
    this.history = history;
    this.clock = more.clock;
    this.archiver = new Archiver({
      store,
      archive: store.url,
      source: history,
      disk: realDisk,
      writer: { codec: "zstd", encryption: undefined },
      everyMs: 10_000,
      program: "replica 0.1.0",
      ...more,
    });
    this.#running = this.archiver.run(this.#stop.signal);
  }

  grow(id: number, bytes: number): void {
    this.history.grow(id, bytes);
    this.archiver.moved(this.history.of(id).settledOffset);
  }

  /** Resolves once the archive lacks nothing that is durable, or `isOver`. */
  async whole(isOver: () => boolean = () => false): Promise<void> {
    const isWhole = () => {
      const { lagBytes, lagBaseBytes, stopped } = this.archiver.status();
      const sealed = this.history.generations().filter((one) => one.sealed !== undefined);
      const areThere = sealed.every(({ id }) => this.archiver.has(id) || stopped.has(id));
      return lagBytes === 0 && lagBaseBytes === 0 && areThere && this.isIdle;
    };
    await until(() => isOver() || isWhole(), { what: "the archive to be whole", everyMs: 1 });
  }

  /** Whether it waits for something to happen. */
  get isIdle(): boolean {
    return this.clock.waiting > 0;
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error("the test stops it"));
    await this.#running;
  }
}

/** A generation as an archive holds it. */
export interface ReadGeneration {
  readonly name: string;
  readonly document: GenerationDocument;
  readonly baseDocument: BaseDocument | undefined;
  readonly base: Buffer;
  readonly log: Buffer;
  readonly segments: readonly SegmentHeader[];
  readonly sealed: SealedDocument | undefined;
}

/** Reads all generations of an archive, in the order of their names, and checks every checksum. */
export async function readArchive(
  store: ObjectStore,
  decryption?: Decryption,
): Promise<ReadGeneration[]> {
  const found = (await names(store, GENERATIONS)).filter(
    (name) => parseGenerationName(name) !== undefined,
  );
  const read = await Promise.all(found.map((name) => readGeneration(store, name, decryption)));
  return read.filter((generation) => generation !== undefined);
}

async function readGeneration(
  store: ObjectStore,
  name: string,
  decryption: Decryption | undefined,
): Promise<ReadGeneration | undefined> {
  const document = await readDocument(store, name, "generation", GENERATION_FILE);
  if (document === undefined) {
    // Its writer ended before it had described it.
    const isEmpty = (await names(store, generationKey(name))).every(isLeftover);
    if (isEmpty) return undefined;
    throw new Error(`${name} has objects but no ${GENERATION_FILE}`);
  }
  const baseDocument = await readDocument(store, name, "base", BASE_FILE);
  const pieces: Uint8Array[] = [];
  for (const piece of baseDocument?.pieces ?? []) {
    const key = `${baseFolder(name)}/${piece.name}`;
    const options = { maxBytes: piece.bytes, sha256: piece.sha256 };
    const stored = (await store.get(key, options, signal))!;
    pieces.push(await decodePiece(key, piece.name, stored, decryption));
  }
  const parts: { header: SegmentHeader; data: Uint8Array; file: string }[] = [];
  for (const file of await names(store, logFolder(name))) {
    // What a write that failed has left.
    if (parseSegmentName(file) === undefined) continue;
    const key = `${logFolder(name)}/${file}`;
    const stored = (await store.get(key, { maxBytes: MAX_OBJECT_BYTES }, signal))!;
    parts.push({ file, ...(await decodeSegment(key, file, stored, decryption)) });
  }
  const linked = parts.map((part) => ({
    ...parseSegmentName(part.file)!,
    crcFrom: part.header.crcFrom,
    part,
  }));
  const chain = joinSegments({ offset: document.baseOffset, crc: 0n }, linked);
  if (chain.forks.length + chain.spare.length > 0 || chain.gap !== undefined)
    throw new Error(`the segments of ${name} are no chain`);
  return {
    name,
    document,
    baseDocument,
    base: Buffer.concat(pieces),
    log: Buffer.concat(chain.segments.map(({ part }) => part.data)),
    segments: chain.segments.map(({ part }) => part.header),
    sealed: await readDocument(store, name, "sealed", SEALED_FILE),
  };
}

async function readDocument<K extends DocumentKind>(
  store: ObjectStore,
  name: string,
  kind: K,
  file: string,
): Promise<ReturnType<typeof decodeDocument<K>> | undefined> {
  const key = generationKey(name, file);
  const stored = await store.get(key, { maxBytes: MAX_DOCUMENT_BYTES }, signal);
  return stored && decodeDocument(kind, key, stored);
}

export async function names(store: ObjectStore, folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { objects, folders } of store.list(folder, signal))
    found.push(...objects.map(({ name }) => name), ...folders);
  return found;
}
